// From claims to a name, and files of attestors: what matches, what never may, and that the examples are what they say.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'
import { matchRules } from '../../src/enrol/rules.ts'
import { faultsOfAttestors, parseAttestor } from '../../src/schema/attestor.ts'
import type { SchemaError } from '../../src/schema/errors.ts'
import { loadAttestors } from '../../src/server/attestors.ts'

const attestor = (rules: string, more = '') =>
  parseAttestor('test', `kind: jwt\nissuer: https://id.test\naudience: ca\n${more}\nrules: ${rules}\n`)
const match = (rules: string, claims: object) => matchRules(attestor(rules).rules, claims as never)
const faultsOf = (rules: string, more = ''): readonly string[] => {
  try {
    attestor(rules, more)
    return []
  } catch (error) {
    return (error as SchemaError).faults.map(({ path, problem }) => `${path}: ${problem}`)
  }
}

describe('a rule', () => {
  it('matches exact values, one of a list, a member of a claim that is a list, and a star', () => {
    const rules =
      '[{agent: a, require: {n: 3, b: true, one: [x, y], groups: admins, ref: "refs/heads/*", /k.io/ns: prod}}]'
    const claims = {
      n: 3,
      b: true,
      one: 'y',
      groups: ['users', 'admins'],
      ref: 'refs/heads/main',
      'k.io': { ns: 'prod' },
    }
    expect(match(rules, claims)).toEqual({ matched: { kind: 'agent', name: 'a', rule: '1' } })
    for (const wrong of [
      { n: '3' },
      { b: 'true' },
      { one: 'z' },
      { groups: ['users'] },
      { ref: 'refs/heads/a/b' },
      { 'k.io': {} },
    ])
      expect(match(rules, { ...claims, ...wrong }).matched).toBeNull()
  })

  it('takes no claim from a prototype, and no text for a pattern', () => {
    expect(match('[{agent: a, require: {/constructor/name: Object}}]', {}).matched).toBeNull()
    expect(match('[{agent: a, require: {ref: a.c}}]', { ref: 'abc' }).matched).toBeNull()
    expect(match('[{agent: a, require: {ref: "a.*"}}]', { ref: 'abc' }).matched).toBeNull()
  })

  it('fills one claim into a name, as it is: nothing is changed to make it one', () => {
    const rules = '[{agent: "ci-{owner}", require: {ref: main}}]'
    expect(match(rules, { owner: 'acme', ref: 'main' }).matched).toMatchObject({ name: 'ci-acme' })
    expect(match(rules, { owner: ['acme'], ref: 'main' }).matched).toMatchObject({ name: 'ci-acme' })
    for (const owner of ['Acme', 'ac me', 'a/b', 'é', '', '{ref}', 'x'.repeat(60), ['a', 'b'], 7, null, undefined, {}])
      expect(match(rules, { owner, ref: 'main' }).matched, JSON.stringify(owner)).toBeNull()
  })

  it('never makes two holders of different claims the same agent', () => {
    const rules = '[{agent: "ci-{owner}-{env}", require: {env: prod}}]'
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z0-9-]{1,20}$/), fc.stringMatching(/^[a-z0-9-]{1,20}$/), (a, b) => {
        const [x, y] = [
          match(rules, { owner: a, env: 'prod' }).matched,
          match(rules, { owner: b, env: 'prod' }).matched,
        ]
        expect(a !== b && x !== null && x.name === y?.name).toBe(false)
      }),
    )
  })
})

describe('a file', () => {
  it.each([
    ['two claims that vary in one name', '[{agent: "ci-{a}-{b}", require: {c: x}}]', 'at most one claim'],
    ['a claim that varies by a list', '[{agent: "ci-{a}-{b}", require: {a: [x, y]}}]', 'at most one claim'],
    ['a rule for everybody', '[{agent: everybody}]', 'requires something'],
    ['agent and service', '[{agent: a, service: b, require: {c: x}}]', 'one of them'],
    ['neither', '[{require: {c: x}}]', 'one of them'],
    ['a name that is none', '[{agent: "CI_{a}"}]', 'lower-case letters'],
    ['no rules', '[]', 'rules'],
  ])('with %s is refused', (_what, rules, problem) => {
    expect(faultsOf(rules).join('\n')).toContain(problem)
  })

  it.each([
    ['a symmetric algorithm', 'algorithms: [HS256]', 'algorithms.0'],
    ['none', 'algorithms: [none]', 'algorithms.0'],
    ['an issuer without TLS', 'issuer: http://id.test', 'issuer'],
    ['too much skew', 'clockSkew: 10m', 'clockSkew: expected 1s to 5m'],
    ['an unknown member', 'audiences: ca', 'audiences: unknown key'],
    ['an unknown source of keys', 'keys: {from: header}', 'keys'],
  ])('with %s is refused', (_what, more, problem) => {
    const text = `kind: jwt\nissuer: https://id.test\naudience: ca\nrules: [{agent: a, require: {sub: x}}]\n`
    const changed = more.startsWith('issuer') ? text.replace('issuer: https://id.test', more) : `${text}${more}\n`
    expect(() => parseAttestor('test', changed)).toThrow(problem)
  })

  it('whose tokens another one takes too is refused', () => {
    const one = attestor('[{agent: a, require: {sub: x}}]')
    expect(faultsOfAttestors([one, { ...one, name: 'twin' }])).toEqual([
      { path: 'twin', problem: "issuer https://id.test with audience ca is attestor test's already" },
    ])
  })
})

describe('the examples', () => {
  const directory = join(root, 'ca-config/attestors')
  it('are read as they are, switched off', () => {
    const settings = loadAttestors(directory)
    expect(settings.map(({ name }) => name)).toEqual(['generic', 'github', 'gitlab', 'kubernetes', 'machines'])
    expect(settings.every(({ enabled }) => !enabled)).toBe(true)
  })

  it('take the tokens that their platforms make', () => {
    const rules = (name: string) => parseAttestor(name, readFileSync(join(directory, `${name}.yaml`), 'utf8')).rules
    const github = {
      ...{ repository_owner_id: '4711', repository_id: '815', ref: 'refs/heads/main', event_name: 'push' },
      ...{ environment: 'production', sub: 'repo:acme/shop:environment:production' },
    }
    expect(matchRules(rules('github'), github).matched).toMatchObject({ name: 'ci-production', rule: 'deployments' })
    expect(matchRules(rules('github'), { ...github, event_name: 'pull_request' }).matched).toBeNull()
    const pod = (namespace: string, name: string) => ({ 'kubernetes.io': { namespace, serviceaccount: { name } } })
    expect(matchRules(rules('kubernetes'), pod('finance', 'invoices')).matched).toMatchObject({ name: 'invoices' })
    expect(matchRules(rules('kubernetes'), pod('agents', 'crawler')).matched).toMatchObject({ name: 'k8s-crawler' })
    expect(matchRules(rules('kubernetes'), pod('default', 'invoices')).matched).toBeNull()
    const gitlab = { project_id: '42', ref_protected: 'true', ref_type: 'branch' }
    expect(matchRules(rules('gitlab'), gitlab).matched).toMatchObject({ name: 'ci-shop' })
    expect(readdirSync(directory)).toHaveLength(5)
  })
})
