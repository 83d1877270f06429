// What the test server answers about policies.
import { CaError } from '../../src/ca/errors.ts'
import type * as answers from '../../src/schema/policy-answers.ts'
import type { Handlers } from './server.ts'

const at = '2026-11-24T12:00:00.000Z'

export const policyText =
  '@id("readers")\npermit(principal in Role::"reader", action == Action::"orders:read", resource);\n'
export const policyActions = 'orders:\n  actions: [read]\n'

const version = (id: number, state: 'active' | 'earlier'): answers.PolicyVersionAnswer => ({
  version: id,
  state,
  hash: 'ab'.repeat(32),
  author: 'operator:ann',
  why: null,
  createdAt: at,
  activatedAt: at,
})

const difference: answers.PolicyDifferenceAnswer = {
  kind: 'agent',
  name: 'billing',
  gains: ['orders:read'],
  loses: [],
  gainsConditionally: [],
  losesConditionally: [],
}

export const plan: answers.PolicyPlanAnswer = {
  hash: 'ab'.repeat(32),
  active: 2,
  faults: [],
  tests: [],
  differences: [difference],
}

const known = (name: string): string => {
  if (name !== 'ghost') return name
  throw new CaError('not_found', 'no agent is called ghost', { hint: 'agentca agent list' })
}

type Names = keyof answers.PolicyRouteAnswers

export const policyFixtures: Pick<Handlers, Names> = {
  policiesList: () => ({ items: [version(2, 'active'), version(1, 'earlier')], next: null }),
  policiesShow: ({ params }) => {
    if (params.version === '9')
      throw new CaError('not_found', 'there are no policies of version 9', { hint: 'agentca policy list' })
    return { ...version(2, 'active'), files: { 'actions.yaml': policyActions, 'orders.cedar': policyText } }
  },
  policiesPlan: () => plan,
  policiesApply: ({ body }) => ({ ...plan, version: body.dryRun ? null : 3, dryRun: body.dryRun, changed: 1 }),
  policiesRollback: ({ body }) => {
    if (body.version === 9)
      throw new CaError('not_found', 'there are no policies of version 9', { hint: 'agentca policy list' })
    return { ...plan, version: body.dryRun ? null : body.version, dryRun: body.dryRun, changed: 1 }
  },
  policiesExplain: ({ body }) => ({
    kind: body.kind,
    name: known(body.name),
    action: body.action,
    decision: 'deny',
    grant: 'none',
    version: 2,
    by: [],
    failed: [],
    ways: [
      { changes: ['add role reader'], command: 'agentca agent update billing --role reader', statement: null },
      { changes: ['add a statement'], command: null, statement: 'permit(principal, action, resource);' },
    ],
  }),
  policiesSuggest: ({ query }) => ({
    kind: query.kind,
    name: known(query.name),
    since: at,
    text: policyText,
    used: [{ action: 'orders:read', allowed: 41, denied: 1, last: at }],
    unused: ['orders:refund'],
    undeclared: [],
  }),
  why: ({ query }) => ({
    agent: known(query.agent),
    service: query.service,
    action: query.action ?? null,
    verdict: 'refused',
    checks: [
      { check: 'state', result: 'ok', detail: 'agent billing is active, version 3', hint: null },
      {
        check: 'policy',
        result: 'failed',
        detail: 'policies 2 do not grant orders:read',
        hint: 'agentca policy explain billing orders:read',
      },
    ],
  }),
}
