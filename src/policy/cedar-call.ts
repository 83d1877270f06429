// Who asks to do what to which thing, in Cedar's terms: from plain values to entities and a context. Text and numbers only: nothing here
// knows a registration, a request or a clock.
import type { CedarValueJson, EntityJson, TypeAndId } from '@cedar-policy/cedar-wasm/nodejs'

export type PolicyPrincipalKind = 'agent' | 'service'

/** What policies know of a registration. */
export interface PolicyPrincipal {
  readonly kind: PolicyPrincipalKind
  readonly name: string
  readonly owner: string | null
  readonly profile: string
  readonly roles: readonly string[]
  readonly attributes: Readonly<Record<string, string>>
}

export type AttributeValue = string | number | boolean | readonly string[]
export type Attributes = Readonly<Record<string, AttributeValue>>

/** What a call is about. */
export interface PolicyResource {
  readonly type: 'Tool' | 'Resource'
  readonly id: string
  readonly attributes: Attributes
}

export interface PolicyCall {
  readonly principal: PolicyPrincipal
  /** `<service>:<verb>`. */
  readonly action: string
  /** null: the service itself, which is what a scope is about. */
  readonly resource: PolicyResource | null
  /** Milliseconds since the epoch. */
  readonly at: number
  /** Source address without a port; null: not known. */
  readonly source: string | null
  /** Calls of this principal within the last minute, as the service counts them; null: not known. */
  readonly rate: number | null
  /** What else the service says of the call. */
  readonly context: Attributes
}

export const serviceOf = (action: string): string => action.slice(0, action.indexOf(':'))
/** The group of every action of a service: `action in Action::"orders:*"`. */
export const groupOf = (action: string): string => `${serviceOf(action)}:*`

const uid = (type: string, id: string): TypeAndId => ({ type, id })
const entityTypes = { agent: 'Agent', service: 'Service' } as const

export const principalUid = ({ kind, name }: Pick<PolicyPrincipal, 'kind' | 'name'>): TypeAndId =>
  uid(entityTypes[kind], name)

const principalEntity = (principal: PolicyPrincipal): EntityJson => ({
  uid: principalUid(principal),
  attrs: { name: principal.name, profile: principal.profile },
  parents: [
    ...principal.roles.map(role => uid('Role', role)),
    ...(principal.owner === null ? [] : [uid('Owner', principal.owner)]),
  ],
  tags: principal.attributes,
})

const cedarValue = (value: AttributeValue): CedarValueJson =>
  Array.isArray(value) ? [...value] : (value as CedarValueJson)

const record = (attributes: Attributes): Record<string, CedarValueJson> =>
  Object.fromEntries(Object.entries(attributes).map(([name, value]) => [name, cedarValue(value)]))

const resourceOf = ({ action, resource }: PolicyCall): EntityJson => {
  const service = uid('Service', serviceOf(action))
  if (resource === null) return { uid: service, attrs: { name: serviceOf(action), profile: '' }, parents: [] }
  return { uid: uid(resource.type, resource.id), attrs: record(resource.attributes), parents: [service] }
}

/** What a service says never takes the place of what the verifier itself knows. */
const contextOf = ({ at, source, rate, context }: PolicyCall): Record<string, CedarValueJson> => {
  const { time: _, source: __, rate: ___, ...own } = record(context)
  return {
    ...own,
    time: { __extn: { fn: 'datetime', arg: new Date(at).toISOString() } },
    ...(source === null ? {} : { source: { __extn: { fn: 'ip', arg: source } } }),
    ...(rate === null ? {} : { rate }),
  }
}

/** Everything a decision reads. */
export const cedarCall = (call: PolicyCall) => {
  const principal = principalEntity(call.principal)
  const resource = resourceOf(call)
  const action = { uid: uid('Action', call.action), attrs: {}, parents: [uid('Action', groupOf(call.action))] }
  const isSame =
    call.resource === null && call.principal.kind === 'service' && call.principal.name === serviceOf(call.action)
  return {
    principal: principal.uid as TypeAndId,
    action: action.uid,
    resource: resource.uid as TypeAndId,
    context: contextOf(call),
    // A service that calls itself is one entity.
    entities: isSame ? [principal, action] : [principal, action, resource],
  }
}
