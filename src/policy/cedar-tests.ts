// The cases that must hold before policies are taken: each is one call, decided as a verifier would decide it.
import { messageOf } from '../base/errors.ts'
import type { PolicyCall, PolicyPrincipal } from './cedar-call.ts'
import type { PolicyTest } from './cedar-compile.ts'
import { actionsOf, ownActions } from './cedar-schema.ts'
import type { PolicyEvaluator } from './cedar-scopes.ts'

export interface PolicyTestResult {
  readonly file: string
  /** From 1, within its file. */
  readonly number: number
  readonly name: string
  readonly expected: 'allow' | 'deny'
  /** null: it could not be decided. */
  readonly got: 'allow' | 'deny' | null
  /** Statements that decided. */
  readonly by: readonly string[]
  readonly problem: string | null
}

/** The registration of that name; null: there is none. */
export type FindPrincipal = (kind: 'agent' | 'service', name: string) => PolicyPrincipal | null

/** Whether the case describes its caller itself: then it needs no registration. */
export const describesCaller = ({ owner, profile, roles, attributes }: PolicyTest): boolean =>
  [owner, profile, roles, attributes].some(each => each !== undefined)

const callerOf = (test: PolicyTest, find: FindPrincipal): PolicyPrincipal | null => {
  const kind = test.service === undefined ? 'agent' : 'service'
  const name = test.service ?? test.agent ?? 'somebody'
  if (!describesCaller(test) && (test.agent ?? test.service) !== undefined) return find(kind, name)
  return {
    kind,
    name,
    owner: test.owner ?? null,
    profile: test.profile ?? kind,
    roles: test.roles ?? [],
    attributes: test.attributes ?? {},
  }
}

const callOf = (test: PolicyTest, principal: PolicyPrincipal, now: number): PolicyCall => ({
  principal,
  action: test.action,
  resource: test.resource ?? null,
  at: test.time === undefined ? now : Date.parse(test.time),
  source: test.source ?? null,
  rate: test.rate ?? null,
  context: test.context,
})

const nameOf = ({ name, agent, service, action, expect }: PolicyTest): string =>
  name ?? `${agent ?? service ?? 'somebody'} ${action} ${expect}`

export const runPolicyTests = (
  evaluator: PolicyEvaluator,
  find: FindPrincipal,
  now: number,
): readonly PolicyTestResult[] => {
  const { services, tests } = evaluator.policies
  const actions = new Set([...actionsOf(services), ...Object.values(ownActions)])
  return tests.map(test => {
    const { file, number, expect: expected } = test
    const told = { file, number, name: nameOf(test), expected }
    const failed = (problem: string): PolicyTestResult => ({ ...told, got: null, by: [], problem })
    if (!actions.has(test.action)) return failed(`no service declares the action ${test.action}`)
    const principal = callerOf(test, find)
    if (principal === null)
      return failed(
        `no ${test.service === undefined ? 'agent' : 'service'} is registered as ${test.agent ?? test.service}`,
      )
    try {
      const { decision, by } = evaluator.decide(callOf(test, principal, now))
      return {
        ...told,
        got: decision,
        by,
        problem: decision === expected ? null : `expected ${expected}, got ${decision}`,
      }
    } catch (error) {
      return failed(messageOf(error))
    }
  })
}
