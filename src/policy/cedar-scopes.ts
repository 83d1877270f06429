// What a caller may do, as a finite list: for each declared action whether it is granted for every call, for some calls, or for none.
// Decisions are shared by all callers that no statement tells apart, so that a fleet of one role costs as much as one agent.
import { type Cedar, openPolicySet, type PolicySet, type Verdict } from './cedar.ts'
import type { PolicyCall, PolicyPrincipal } from './cedar-call.ts'
import { namesAction, type Policies, type Statement } from './cedar-compile.ts'
import { type Uses, usesOf, widened } from './cedar-dependence.ts'
import { actionsOf, ownActions } from './cedar-schema.ts'

export interface Grants {
  /** Scopes: what holds for every call. */
  readonly scopes: readonly string[]
  /** Actions that some calls may be allowed: services that look up refuse them, services that ask with the call decide. */
  readonly conditional: readonly string[]
}

export interface PolicyEvaluator extends Disposable {
  readonly policies: Policies
  scopes(principal: PolicyPrincipal, at: number): readonly string[]
  grants(principal: PolicyPrincipal, at: number): Grants
  decide(call: PolicyCall): Verdict
  /** As if these statements were not there. */
  decideWithout(call: PolicyCall, ids: readonly string[]): Verdict
  /** When what holds may change by time alone: the first such moment after `at`; null: never. */
  nextChange(at: number): number | null
  /** Whether statements speak of this action by name; else the CA decides without them. */
  governs(action: (typeof ownActions)[keyof typeof ownActions]): boolean
}

/** Callers that are told apart, times that are: more than any CA has at once. */
const maxRemembered = 100_000
const minute = 60_000

/** Of a caller no more than what some statement looks at. */
const keyOf = (uses: Uses, { kind, name, owner, profile, roles, attributes }: PolicyPrincipal): string => {
  const tags = Object.entries(attributes).filter(([tag]) => uses.tags === null || uses.tags.has(tag))
  return JSON.stringify([
    kind,
    owner !== null && uses.owners.has(owner) ? owner : null,
    uses.profile ? profile : null,
    roles.filter(role => uses.roles.has(role)).sort(),
    tags.sort(([a], [b]) => (a < b ? -1 : 1)),
    uses.name || uses.names.has(name) ? name : null,
  ])
}

/** Which of the spans between the compared times it is: within one, nothing changes by time. */
const spanOf = ({ times, clock }: Uses, at: number): string => {
  // Both sides of a time, and the time itself: `<` and `<=` differ there.
  const passed = times.filter(time => time <= at).length + times.filter(time => time < at).length
  return clock ? `${passed}/${Math.floor(at / minute)}` : String(passed)
}

const nextChangeOf = ({ times, clock }: Uses, at: number): number | null => {
  const due = times.flatMap(time => [time, time + 1]).filter(time => time > at)
  if (clock) due.push((Math.floor(at / minute) + 1) * minute)
  return due.length === 0 ? null : Math.min(...due)
}

/** Decisions for the call that a scope stands for: the service itself, nothing known of the call. */
const plainCall = (principal: PolicyPrincipal, action: string, at: number): PolicyCall => ({
  principal,
  action,
  resource: null,
  at,
  source: null,
  rate: null,
  context: {},
})

const isForbid = ({ effect }: Statement): boolean => effect === 'forbid'

/**
 * Refusals as wide as they may be, and only those grants that hold for every call: what a call without any context would be granted
 * (`unless { context has amount && … }`), another one may be denied.
 */
const strictest = (statements: readonly Statement[]): readonly Statement[] =>
  statements
    .filter(each => isForbid(each) || !each.conditional)
    .map(each => (each.conditional ? { ...each, json: widened(each.json) } : each))

/** Grants as wide as they may be, and only those refusals that hold for every call. */
const loosest = (statements: readonly Statement[]): readonly Statement[] =>
  statements
    .filter(each => !(isForbid(each) && each.conditional))
    .map(each => (each.conditional ? { ...each, json: widened(each.json) } : each))

/** @throws PolicyError */
export const createPolicyEvaluator = (cedar: Cedar, policies: Policies): PolicyEvaluator => {
  const { statements, services } = policies
  const uses = usesOf(statements.map(({ json }) => json))
  const actions = actionsOf(services)
  const sets = { exact: open(statements), strict: open(strictest(statements)), loose: open(loosest(statements)) }
  function open(some: readonly Statement[]): PolicySet {
    return openPolicySet(cedar, some)
  }
  const governed = new Set(
    Object.values(ownActions).filter(action => statements.some(each => namesAction(each, action))),
  )
  // Owned by this closure: per span of time and kind of caller.
  const remembered = new Map<string, { readonly scopes: readonly string[]; conditional: readonly string[] | null }>()
  const allowed = (set: PolicySet, principal: PolicyPrincipal, at: number): readonly string[] =>
    actions.filter(action => set.decide(plainCall(principal, action, at)).decision === 'allow')
  const known = (principal: PolicyPrincipal, at: number) => {
    const key = `${spanOf(uses, at)} ${keyOf(uses, principal)}`
    const before = remembered.get(key)
    if (before !== undefined) return before
    const found = { scopes: allowed(sets.strict, principal, at), conditional: null as readonly string[] | null }
    if (remembered.size >= maxRemembered) remembered.clear()
    remembered.set(key, found)
    return found
  }
  return {
    policies,
    scopes: (principal, at) => known(principal, at).scopes,
    grants: (principal, at) => {
      const found = known(principal, at)
      const { scopes } = found
      found.conditional ??= allowed(sets.loose, principal, at).filter(each => !scopes.includes(each))
      return { scopes, conditional: found.conditional }
    },
    decide: call => sets.exact.decide(call),
    decideWithout: (call, ids) => {
      using set = open(statements.filter(({ id }) => !ids.includes(id)))
      return set.decide(call)
    },
    nextChange: at => nextChangeOf(uses, at),
    governs: action => governed.has(action),
    [Symbol.dispose]: () => {
      for (const set of Object.values(sets)) set[Symbol.dispose]()
    },
  }
}
