import { describe, expect, it } from 'vitest'
import { compilePolicies, hashOfFiles } from '../../src/policy/cedar-compile.ts'
import { splitStatements } from '../../src/policy/cedar-split.ts'
import { actions, cedar, faultsOf } from './cedar-world.ts'

describe('compiling policies', () => {
  it('finds every fault of every file at once, each with its line', () => {
    const faults = faultsOf({
      'a.cedar': [
        'permit(principal, action resource);',
        '',
        '// é: lines are counted in text, not in octets',
        'permit(principal, action == Action::"orders:reed", resource);',
        '@until("tomorrow") permit(principal, action, resource);',
        'permit(principal, action, resource) when {',
        '  resource.colour == "red" };',
        'permit(principal == ?principal, action, resource);',
        '@id("b") @why("x") permit(principal, action, resource);',
      ].join('\n'),
      'tests/a.yaml': '- action: orders:read\n  expects: allow\n',
      'notes.txt': '',
    })
    expect(faults).toEqual([
      expect.stringMatching(/^error a\.cedar:1 unexpected token `resource`/),
      expect.stringMatching(/^error a\.cedar:4 unrecognized action `Action::"orders:reed"`; did you mean/),
      expect.stringMatching(/^error a\.cedar:5 @until: expected a time such as/),
      ...[0, 1, 2].map(() => expect.stringMatching(/^error a\.cedar:7 .*colour/)),
      expect.stringMatching(/^error a\.cedar:8 .*template/),
      'error a.cedar:9 unknown annotation @why: expected @id, @until or @description',
      expect.stringMatching(/^error notes\.txt:- expected NAME\.cedar/),
      expect.stringMatching(/^error tests\/a\.yaml:- 0\.expect/),
      'error tests/a.yaml:- 0.expects: unknown key',
    ])
  })

  it.each([
    [
      'a service twice declared otherwise',
      'a: {actions: [x], resource: {k: Long}}\nb: {actions: [x], resource: {k: String}}',
    ],
    ['the CA itself', 'agentca: {actions: [enroll]}'],
    ['a verb twice', 'a: {actions: [x, x]}'],
    ['what every call has', 'a: {actions: [x], context: {time: String}}'],
    ['an unknown type', 'a: {actions: [x], context: {k: Float}}'],
  ])('refuses actions that declare %s', (_, text) => {
    const { policies, faults } = compilePolicies(cedar, { 'actions.yaml': text })
    expect(policies).toBeNull()
    expect(faults.map(({ file, severity }) => [file, severity])).toEqual([['actions.yaml', 'error']])
  })

  it('refuses the same id twice, and says where the first one is', () => {
    const text = '@id("x") permit(principal, action, resource);\n@id("x") forbid(principal, action, resource);'
    expect(faultsOf({ 'a.cedar': text })).toEqual(['error a.cedar:2 @id("x") is there already: a.cedar:1'])
  })

  it('warns of enrolment that is only forbidden, because then nobody may', () => {
    const forbid = 'forbid(principal in Role::"x", action == Action::"agentca:enroll", resource);'
    expect(faultsOf({ 'a.cedar': forbid })).toEqual([
      expect.stringMatching(/^warning a\.cedar:1 agentca:enroll is only/),
    ])
    const permit = 'permit(principal, action == Action::"agentca:enroll", resource);'
    expect(faultsOf({ 'a.cedar': `${forbid}\n${permit}` })).toEqual([])
  })

  it('warns of a statement that can never hold', () => {
    const text = 'permit(principal, action == Action::"orders:read", resource) when { resource is Role };'
    expect(faultsOf({ 'a.cedar': text })).toEqual([expect.stringMatching(/^warning a\.cedar:1 .*impossible/)])
  })

  it('takes nothing for a policy: no file grants anything', () => {
    const { policies, faults } = compilePolicies(cedar, {})
    expect(faults).toEqual([])
    expect(policies?.statements).toEqual([])
  })

  it('gives the same files the same hash in any order, and other files another', () => {
    const [a, b] = [
      { 'a.cedar': 'x', 'b.cedar': 'y' },
      { 'b.cedar': 'y', 'a.cedar': 'x' },
    ]
    expect(hashOfFiles(a)).toBe(hashOfFiles(b))
    expect(hashOfFiles(a)).not.toBe(hashOfFiles({ 'a.cedar': 'xb.cedar', '': 'y' }))
  })
})

describe('splitting a file', () => {
  it('ends statements at semicolons, not at those in text and comments', () => {
    const source =
      '// a; b\npermit(principal, action, resource) when { context.x == "a;\\";b" }; // c;\n\nforbid(x);\n// end;'
    expect(splitStatements(source).map(({ text }) => text)).toEqual([
      'permit(principal, action, resource) when { context.x == "a;\\";b" };',
      'forbid(x);',
    ])
    for (const { text, start } of splitStatements(source)) expect(source.slice(start, start + text.length)).toBe(text)
  })

  it('keeps what has no end, so that its fault is found', () => {
    expect(splitStatements('permit(principal').map(({ text }) => text)).toEqual(['permit(principal'])
  })
})

it('actions of the examples in these tests are taken', () => {
  expect(compilePolicies(cedar, { 'actions.yaml': actions }).faults).toEqual([])
})
