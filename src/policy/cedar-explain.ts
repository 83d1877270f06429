// Why a call is allowed or denied, and the smallest change that would turn it: of the caller if there is one, else of the policies. Each
// change that is named was tried.
import type { Verdict } from './cedar.ts'
import type { PolicyCall, PolicyPrincipal } from './cedar-call.ts'
import type { Statement } from './cedar-compile.ts'
import { comparedWith } from './cedar-dependence.ts'
import type { PolicyEvaluator } from './cedar-scopes.ts'

export type Change =
  | { readonly kind: 'add_role' | 'remove_role'; readonly role: string }
  | { readonly kind: 'set_attribute'; readonly name: string; readonly value: string }
  | { readonly kind: 'remove_attribute'; readonly name: string }
  | { readonly kind: 'add_statement'; readonly text: string }
  | { readonly kind: 'remove_statement'; readonly statement: string }

export interface Explanation extends Verdict {
  /** The statements of `by`, whole. */
  readonly statements: readonly Statement[]
  /** Ways to the other decision, each as small as any: a list of changes made together. */
  readonly ways: readonly (readonly Change[])[]
}

type CallerChange = Exclude<Change, { readonly kind: 'add_statement' | 'remove_statement' }>

const changed = (principal: PolicyPrincipal, change: CallerChange): PolicyPrincipal => {
  const { roles, attributes } = principal
  switch (change.kind) {
    case 'add_role':
      return { ...principal, roles: [...roles, change.role] }
    case 'remove_role':
      return { ...principal, roles: roles.filter(role => role !== change.role) }
    case 'set_attribute':
      return { ...principal, attributes: { ...attributes, [change.name]: change.value } }
    case 'remove_attribute': {
      const { [change.name]: _, ...rest } = attributes
      return { ...principal, attributes: rest }
    }
  }
}

/** Everything about a caller that some statement would notice. */
const candidates = (
  statements: readonly Statement[],
  { roles, attributes }: PolicyPrincipal,
): readonly CallerChange[] => {
  const seen = comparedWith(statements.map(({ json }) => json))
  return [
    ...seen.roles.filter(role => !roles.includes(role)).map(role => ({ kind: 'add_role', role }) as const),
    ...roles.map(role => ({ kind: 'remove_role', role }) as const),
    ...seen.attributes.flatMap(({ name, values }) =>
      values
        .filter(value => attributes[name] !== value)
        .map(value => ({ kind: 'set_attribute', name, value }) as const),
    ),
    ...Object.keys(attributes).map(name => ({ kind: 'remove_attribute', name }) as const),
  ]
}

/** Cedar's own escapes. */
export const cedarString = (text: string): string =>
  `"${text.replace(/["\\]/g, '\\$&').replace(/\p{Cc}/gu, each => `\\u{${(each.codePointAt(0) as number).toString(16)}}`)}"`

const entity = (type: string, id: string): string => `${type}::${cedarString(id)}`

/** As narrow as a statement can be: this caller, this action, this resource. */
export const narrowestPermit = ({
  principal,
  action,
  resource,
}: Pick<PolicyCall, 'principal' | 'action' | 'resource'>): string => {
  const who = entity(principal.kind === 'agent' ? 'Agent' : 'Service', principal.name)
  const what = resource === null ? 'resource' : `resource == ${entity(resource.type, resource.id)}`
  return `permit(principal == ${who}, action == ${entity('Action', action)}, ${what});`
}

/** Decisions that one explanation may cost: some 100 µs each. */
const maxTries = 2000
const maxWays = 5

const callerWays = (
  evaluator: PolicyEvaluator,
  call: PolicyCall,
  now: Verdict['decision'],
): readonly (readonly CallerChange[])[] => {
  const { statements } = evaluator.policies
  const possible = candidates(statements, call.principal)
  let tries = 0
  const turns = (changes: readonly CallerChange[]): boolean =>
    tries++ < maxTries &&
    evaluator.decide({ ...call, principal: changes.reduce(changed, call.principal) }).decision !== now
  const single = possible.filter(change => turns([change])).map(change => [change])
  if (single.length > 0) return single
  return possible.flatMap((first, at) =>
    possible
      .slice(at + 1)
      .filter(second => turns([first, second]))
      .map(second => [first, second]),
  )
}

/** What the policies themselves would have to say. Behind a refusal there may be no grant: then both are needed. */
const statementWay = (evaluator: PolicyEvaluator, { decision, by }: Verdict, call: PolicyCall): readonly Change[] => {
  const added = { kind: 'add_statement', text: narrowestPermit(call) } as const
  if (by.length === 0) return [added]
  const removed = by.map(statement => ({ kind: 'remove_statement', statement }) as const)
  return evaluator.decideWithout(call, by).decision === decision ? [...removed, added] : removed
}

export const explain = (evaluator: PolicyEvaluator, call: PolicyCall): Explanation => {
  const verdict = evaluator.decide(call)
  const { statements } = evaluator.policies
  const ways = [
    ...callerWays(evaluator, call, verdict.decision).slice(0, maxWays),
    statementWay(evaluator, verdict, call),
  ]
  return { ...verdict, statements: statements.filter(({ id }) => verdict.by.includes(id)), ways }
}
