// Policies for tests: a small house of two services, and callers in it.
import { loadCedar } from '../../src/policy/cedar.ts'
import type { PolicyCall, PolicyPrincipal } from '../../src/policy/cedar-call.ts'
import { compilePolicies, type PolicyFiles } from '../../src/policy/cedar-compile.ts'
import { createPolicyEvaluator, type PolicyEvaluator } from '../../src/policy/cedar-scopes.ts'

export const noon = Date.parse('2026-11-24T12:00:00Z')

export const actions = `
orders:
  actions: [read, refund, cancel]
  resource: { region: String }
  context: { amount: Long }
files:
  actions: [call]
`

export const cedar = await loadCedar()

export const faultsOf = (files: PolicyFiles): readonly string[] =>
  compilePolicies(cedar, { 'actions.yaml': actions, ...files }).faults.map(
    ({ file, line, severity, problem }) => `${severity} ${file}:${line ?? '-'} ${problem}`,
  )

export const evaluatorOf = (text: string): PolicyEvaluator => {
  const { policies, faults } = compilePolicies(cedar, { 'actions.yaml': actions, 'house.cedar': text })
  if (policies === null) throw new Error(JSON.stringify(faults))
  return createPolicyEvaluator(cedar, policies)
}

export const agent = (changes: Partial<PolicyPrincipal> = {}): PolicyPrincipal => ({
  kind: 'agent',
  name: 'billing',
  owner: 'finance',
  profile: 'agent',
  roles: [],
  attributes: {},
  ...changes,
})

export const call = (changes: Partial<PolicyCall> = {}): PolicyCall => ({
  principal: agent(),
  action: 'orders:read',
  resource: null,
  at: noon,
  source: null,
  rate: null,
  context: {},
  ...changes,
})
