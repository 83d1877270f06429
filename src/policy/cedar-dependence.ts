// On what a statement depends, read from its form: on the call (resource, and all of the context but its time), on the time, on names. By it a scope is what holds for every call, and decisions are shared by callers that no statement tells apart.
import type { Expr, PolicyJson } from './cedar.ts'

type Node = { readonly [key: string]: Json }
type Json = null | string | number | boolean | readonly Json[] | { readonly [key: string]: Json }

const isObject = (value: Json): value is { readonly [key: string]: Json } =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function* nodes(value: Json): Generator<{ readonly [key: string]: Json }> {
  if (Array.isArray(value)) for (const each of value) yield* nodes(each)
  else if (isObject(value)) {
    yield value
    for (const each of Object.values(value)) yield* nodes(each)
  }
}

const isVar = (value: Json | undefined, name: string): boolean =>
  value !== undefined && isObject(value) && value.Var === name

/** `context.time` and `context has time` read nothing of the call. */
const readsTime = (node: { readonly [key: string]: Json }): boolean =>
  ['.', 'has'].some(operator => {
    const read = node[operator]
    return read !== undefined && isObject(read) && isVar(read.left, 'context') && read.attr === 'time'
  })

/** Whatever a service is called for is in it, the service itself included: `resource in Service::"orders"` says which service. */
const saysService = ({ in: operands }: { readonly [key: string]: Json }): boolean => {
  if (operands === undefined || !isObject(operands) || !isVar(operands.left, 'resource')) return false
  const entity = isObject(operands.right ?? null) ? (operands.right as { Value?: Json }).Value : undefined
  const named = entity !== undefined && isObject(entity) ? entity.__entity : undefined
  return named !== undefined && isObject(named) && named.type === 'Service'
}

const mentionsCall = (value: Json): boolean => {
  if (Array.isArray(value)) return value.some(mentionsCall)
  if (!isObject(value)) return false
  if (readsTime(value) || saysService(value)) return false
  if (value.Var === 'resource' || value.Var === 'context') return true
  return Object.values(value).some(mentionsCall)
}

export const dependsOnCall = (body: Expr): boolean => mentionsCall(body as unknown as Json)

const conjuncts = (body: Expr): readonly Expr[] => {
  const and = (body as { '&&'?: { left: Expr; right: Expr } })['&&']
  return and === undefined ? [body] : [...conjuncts(and.left), ...conjuncts(and.right)]
}

type ResourceHead = PolicyJson['resource']

const typeOf = (entity: { readonly type: string } | { readonly __entity: { readonly type: string } }): string =>
  '__entity' in entity ? entity.__entity.type : entity.type

/** A head that holds for every resource of a service, or for none of them: for the service itself it is judged as it stands. */
const isWholeService = (head: ResourceHead): boolean => {
  if (head.op === 'All') return true
  if (head.op === 'is') return head.entity_type === 'Service'
  return 'entity' in head && typeOf(head.entity) === 'Service'
}

const widenedHead = (head: ResourceHead): ResourceHead => {
  if (isWholeService(head)) return head
  if (head.op !== 'is' || head.in === undefined) return { op: 'All' }
  const within: ResourceHead = { op: 'in', ...head.in }
  return isWholeService(within) ? within : { op: 'All' }
}

/** A head that holds for the service itself and for whatever is in it, or for neither. */
const isForAll = (head: ResourceHead): boolean => head.op === 'All' || (head.op === 'in' && isWholeService(head))

/** Whether the statement may hold for one call and not for another by the same caller at the same time. */
export const isConditional = ({ resource, conditions }: PolicyJson): boolean =>
  !isForAll(resource) || conditions.some(({ body }) => dependsOnCall(body))

/** The statement as it applies to the widest: without what depends on the call. It applies wherever the statement itself may. */
export const widened = (policy: PolicyJson): PolicyJson => ({
  ...policy,
  resource: widenedHead(policy.resource),
  conditions: policy.conditions.flatMap(({ kind, body }) => {
    if (!dependsOnCall(body)) return [{ kind, body }]
    // Of an `unless` nothing may be left out but the whole: less of it would exclude more.
    return kind === 'unless'
      ? []
      : conjuncts(body)
          .filter(each => !dependsOnCall(each))
          .map(each => ({ kind, body: each }))
  }),
})

/** What statements look at: whatever else callers have does not tell them apart. */
export interface Uses {
  /** Names of agents and services, roles and owners that statements speak of. */
  readonly names: ReadonlySet<string>
  readonly roles: ReadonlySet<string>
  readonly owners: ReadonlySet<string>
  /** Attributes of the caller; null: any, because one is named by a value. */
  readonly tags: ReadonlySet<string> | null
  /** Its name and profile as text. */
  readonly name: boolean
  readonly profile: boolean
  /** Times that statements compare with, milliseconds since the epoch, ascending. */
  readonly times: readonly number[]
  /** The time of the day, or a span: what holds may change every minute. */
  readonly clock: boolean
}

const clockFunctions = ['toTime', 'toDate', 'offset', 'durationSince', 'duration']

const literalTime = (node: Node): number | null => {
  const [argument] = Array.isArray(node.datetime) ? node.datetime : []
  if (argument === undefined || !isObject(argument) || typeof argument.Value !== 'string') return null
  const time = Date.parse(argument.Value)
  return Number.isNaN(time) ? null : time
}

/** @returns undefined where no attribute is read, null where which one is not written there */
const tagRead = (node: Node): string | null | undefined => {
  const read = node.hasTag ?? node.getTag
  if (read === undefined || !isObject(read)) return undefined
  const name = read.right
  return name !== undefined && isObject(name) && typeof name.Value === 'string' ? name.Value : null
}

export const usesOf = (policies: readonly PolicyJson[]): Uses => {
  const entities = { Agent: new Set<string>(), Role: new Set<string>(), Owner: new Set<string>() }
  const tags = new Set<string>()
  const times = new Set<number>()
  const used = { name: false, profile: false, clock: false, anyTag: false }
  for (const node of nodes(policies as unknown as Json)) {
    const { type, id } = node
    if (typeof id === 'string') {
      if (type === 'Agent' || type === 'Service') entities.Agent.add(id)
      else if (type === 'Role' || type === 'Owner') entities[type].add(id)
    }
    const time = literalTime(node)
    if (time !== null) times.add(time)
    const tag = tagRead(node)
    if (tag === null) used.anyTag = true
    else if (tag !== undefined) tags.add(tag)
    if (clockFunctions.some(name => name in node)) used.clock = true
    if (node.attr === 'name') used.name = true
    if (node.attr === 'profile') used.profile = true
  }
  return {
    names: entities.Agent,
    roles: entities.Role,
    owners: entities.Owner,
    tags: used.anyTag ? null : tags,
    name: used.name,
    profile: used.profile,
    times: [...times].sort((a, b) => a - b),
    clock: used.clock,
  }
}

/** Everything that statements compare with: roles and attributes that would tell callers apart. */
export const comparedWith = (policies: readonly PolicyJson[]) => {
  const roles = new Set<string>()
  const attributes = new Map<string, Set<string>>()
  const add = (name: string, value: string): void => {
    attributes.set(name, (attributes.get(name) ?? new Set()).add(value))
  }
  for (const node of nodes(policies as unknown as Json)) {
    if (node.type === 'Role' && typeof node.id === 'string') roles.add(node.id)
    for (const [left, right] of comparisons(node)) {
      const tag = tagOf(left)
      if (tag !== null && isObject(right) && typeof right.Value === 'string') add(tag, right.Value)
    }
  }
  return {
    roles: [...roles].sort(),
    attributes: [...attributes].map(([name, values]) => ({ name, values: [...values] })),
  }
}

const comparisons = (node: { readonly [key: string]: Json }): readonly (readonly [Json, Json])[] => {
  const equal = node['==']
  if (equal === undefined || !isObject(equal)) return []
  const { left = null, right = null } = equal
  return [
    [left, right],
    [right, left],
  ]
}

const tagOf = (value: Json): string | null => {
  const read = isObject(value) ? value.getTag : undefined
  if (read === undefined || !isObject(read) || !isVar(read.left, 'principal')) return null
  const name = read.right
  return name !== undefined && isObject(name) && typeof name.Value === 'string' ? name.Value : null
}
