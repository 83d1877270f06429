// The schema of every policy: the entities that this CA knows, and the actions that services declared. Attributes of resources and of
// calls are optional, because not every call has them: policies ask with `has` before they read.
import type { SchemaJson } from '@cedar-policy/cedar-wasm/nodejs'

export type AttributeType = 'String' | 'Long' | 'Boolean' | 'Set<String>'

/** One service's part of actions.yaml. */
export interface ServiceActions {
  readonly service: string
  /** Verbs: an action is `<service>:<verb>`. */
  readonly actions: readonly string[]
  readonly resource: Readonly<Record<string, AttributeType>>
  readonly context: Readonly<Record<string, AttributeType>>
}

/** What this CA itself asks: who may get a certificate, and who may have it renewed. */
export const ownActions = { enroll: 'agentca:enroll', renew: 'agentca:renew' } as const
export const ownServiceOfActions = 'agentca'

/** What every call has, beside what its service declares. */
export const ownContextNames: readonly string[] = ['time', 'source', 'rate']

const type = (name: AttributeType, required = false) =>
  name === 'Set<String>'
    ? ({ type: 'Set', element: { type: 'String' }, required } as const)
    : ({ type: name, required } as const)

const attributesOf = (types: Readonly<Record<string, AttributeType>>) =>
  Object.fromEntries(Object.entries(types).map(([name, each]) => [name, type(each)]))

const everyCall = {
  time: { type: 'Extension', name: 'datetime', required: true },
  source: { type: 'Extension', name: 'ipaddr', required: false },
} as const

const action = (service: string, resourceTypes: string[], attributes: object) => ({
  memberOf: [{ id: `${service}:*` }],
  appliesTo: {
    principalTypes: ['Agent', 'Service'],
    resourceTypes,
    context: { type: 'Record', attributes: { ...everyCall, ...attributes } },
  },
})

const principal = {
  memberOfTypes: ['Role', 'Owner'],
  shape: {
    type: 'Record',
    attributes: { name: type('String', true), profile: type('String', true) },
  },
  tags: { type: 'String' },
}

/** Actions of every service, in their order. */
export const actionsOf = (services: readonly ServiceActions[]): readonly string[] =>
  services.flatMap(({ service, actions }) => actions.map(verb => `${service}:${verb}`))

export const cedarSchema = (services: readonly ServiceActions[]): SchemaJson<string> => {
  const resource = {
    memberOfTypes: ['Service'],
    shape: {
      type: 'Record',
      attributes: Object.assign({}, ...services.map(({ resource }) => attributesOf(resource))),
    },
  }
  // `attestor`: where one vouched for whoever enrols.
  const own = { profile: type('String', true), instances: type('Long', true), attestor: type('String') }
  const actions: Record<string, object> = { [`${ownServiceOfActions}:*`]: {} }
  for (const name of Object.values(ownActions)) actions[name] = action(ownServiceOfActions, ['Service'], own)
  for (const { service, actions: verbs, context } of services) {
    actions[`${service}:*`] = {}
    for (const verb of verbs)
      actions[`${service}:${verb}`] = action(service, ['Service', 'Tool', 'Resource'], {
        rate: type('Long'),
        ...attributesOf(context),
      })
  }
  // The package's types know JSON only as literals.
  return {
    '': {
      entityTypes: { Agent: principal, Service: principal, Role: {}, Owner: {}, Tool: resource, Resource: resource },
      actions,
    },
  } as unknown as SchemaJson<string>
}
