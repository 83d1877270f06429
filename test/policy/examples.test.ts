// The policies that come with agentca and those of its pages: each set is taken as it is, and its cases hold.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'
import { compilePolicies, type PolicyFiles } from '../../src/policy/cedar-compile.ts'
import { createPolicyEvaluator } from '../../src/policy/cedar-scopes.ts'
import { runPolicyTests } from '../../src/policy/cedar-tests.ts'
import { blocksOf } from '../setup/documents.ts'
import { cedar, noon } from './cedar-world.ts'

const filesOf = (directory: string): PolicyFiles =>
  Object.fromEntries(
    readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' })
      .filter(name => /\.(?:cedar|yaml)$/.test(name))
      .map(name => [name, readFileSync(join(root, directory, name), 'utf8')]),
  )

describe.each(['ca-config/policies', 'examples/mcp/policies'])('the policies of %s', directory => {
  const { faults, policies } = compilePolicies(cedar, filesOf(directory))

  it('have no fault, and nothing to warn of', () => {
    expect(faults).toEqual([])
    expect(policies?.statements.length).toBeGreaterThan(0)
  })

  it('pass their own cases', () => {
    using evaluator = createPolicyEvaluator(cedar, policies!)
    const results = runPolicyTests(evaluator, () => null, noon)
    expect(results.length).toBeGreaterThan(0)
    expect(results.filter(({ problem }) => problem !== null)).toEqual([])
  })
})

it.each(blocksOf('docs/policies.md').filter(({ language }) => language === 'cedar'))(
  'docs/policies.md:$line has statements that fit the actions of ca-config',
  ({ text }) => {
    const { 'actions.yaml': actions = '' } = filesOf('ca-config/policies')
    expect(compilePolicies(cedar, { 'actions.yaml': actions, 'page.cedar': text }).faults).toEqual([])
  },
)
