// The narrowest policy for what a caller really did, and what it was granted and never used.
import type { PolicyPrincipal } from './cedar-call.ts'
import { serviceOf } from './cedar-call.ts'
import { cedarString } from './cedar-explain.ts'
import { actionsOf } from './cedar-schema.ts'
import type { PolicyEvaluator } from './cedar-scopes.ts'

/** One thing that it did, as the record of decisions has it. */
export interface DoneAction {
  /** `<service>:<verb>`. */
  readonly action: string
  readonly allowed: number
  readonly denied: number
  /** Milliseconds since the epoch. */
  readonly last: number
}

export interface Suggestion {
  /** Cedar, a statement for each service; empty when nothing was done that is declared. */
  readonly text: string
  readonly used: readonly DoneAction[]
  /** Granted now, for every call or for some, and not used. */
  readonly unused: readonly string[]
  /** Done, and declared by no service: no statement can grant it. */
  readonly undeclared: readonly string[]
}

const statementFor = ({ kind, name }: PolicyPrincipal, service: string, actions: readonly string[]): string => {
  const who = `${kind === 'agent' ? 'Agent' : 'Service'}::${cedarString(name)}`
  const named = actions.map(action => `Action::${cedarString(action)}`)
  const what = named.length === 1 ? `action == ${named[0]}` : `action in [${named.join(', ')}]`
  return `@id("${name}-${service}")\npermit(principal == ${who}, ${what}, resource in Service::${cedarString(service)});\n`
}

/** A call that needed several scopes is on record under all of them; what one action was used for is added up. */
const merged = (done: readonly DoneAction[]): readonly DoneAction[] => {
  const found = new Map<string, DoneAction>()
  for (const { action: joined, allowed, denied, last } of done)
    for (const action of joined.split(' ')) {
      const before = found.get(action) ?? { action, allowed: 0, denied: 0, last: 0 }
      found.set(action, {
        action,
        allowed: before.allowed + allowed,
        denied: before.denied + denied,
        last: Math.max(before.last, last),
      })
    }
  return [...found.values()]
}

/** @param evaluator what is in force; null: nothing is declared, and nothing granted */
export const suggest = (
  evaluator: PolicyEvaluator | null,
  principal: PolicyPrincipal,
  done: readonly DoneAction[],
  at: number,
): Suggestion => {
  const each = merged(done)
  const declared = new Set(evaluator === null ? [] : actionsOf(evaluator.policies.services))
  const allowed = each.filter(({ allowed }) => allowed > 0)
  const used = allowed.filter(({ action }) => declared.has(action)).sort((a, b) => (a.action < b.action ? -1 : 1))
  const services = [...new Set(used.map(({ action }) => serviceOf(action)))]
  const text = services
    .map(service =>
      statementFor(
        principal,
        service,
        used.map(({ action }) => action).filter(action => serviceOf(action) === service),
      ),
    )
    .join('\n')
  const granted = evaluator?.grants(principal, at)
  const has = granted === undefined ? [] : [...granted.scopes, ...granted.conditional]
  return {
    text,
    used,
    unused: has.filter(scope => !allowed.some(({ action }) => action === scope)),
    undeclared: [...new Set(allowed.map(({ action }) => action).filter(action => !declared.has(action)))],
  }
}
