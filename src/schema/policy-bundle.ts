// The YAML beside the policies: which actions services have (actions.yaml), and the cases that must hold before a set of policies is
// taken (tests/*.yaml).
import * as z from 'zod'
import { parseYaml } from './document.ts'
import { type Fault, SchemaError } from './errors.ts'

const attributeName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/, 'expected a name of letters, digits and _')
const attributeTypes = z.record(attributeName, z.enum(['String', 'Long', 'Boolean', 'Set<String>'])).default({})
const verb = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/, 'expected a verb of letters, digits, _, . and -')
const serviceName = z.string().regex(/^[a-z0-9](?:[a-z0-9-]{0,58}[a-z0-9])?$/, 'expected the name of a service')

const actions = z.record(
  serviceName,
  z.strictObject({
    actions: z.array(verb).min(1).max(500),
    /** Attributes of the service's resources and tools, where a call has them. */
    resource: attributeTypes,
    /** What the service says of a call. */
    context: attributeTypes,
  }),
)

type ServiceEntry = z.output<typeof actions>[string]
export type DeclaredService = Readonly<ServiceEntry> & { readonly service: string }

/** What every call has; a service cannot give it another meaning. */
const reserved: readonly string[] = ['time', 'source', 'rate', 'profile', 'instances']

/** Resources of all services share one type: the same name means the same type. */
const clashes = (services: readonly DeclaredService[]): readonly Fault[] => {
  const known = new Map<string, { readonly type: string; readonly service: string }>()
  return services.flatMap(({ service, resource }) =>
    Object.entries(resource).flatMap(([name, type]) => {
      const before = known.get(name)
      if (before === undefined) known.set(name, { type, service })
      if (before === undefined || before.type === type) return []
      return [{ path: `${service}.resource.${name}`, problem: `is ${before.type} at ${before.service}, got ${type}` }]
    }),
  )
}

const faultsOfService = ({ service, actions: verbs, context }: DeclaredService): readonly Fault[] => [
  ...(service === 'agentca' ? [{ path: service, problem: 'the actions of this CA itself are declared already' }] : []),
  ...verbs
    .filter((each, at) => verbs.indexOf(each) !== at)
    .map(each => ({ path: `${service}.actions`, problem: `${each} is there twice` })),
  ...Object.keys(context)
    .filter(name => reserved.includes(name))
    .map(name => ({ path: `${service}.context.${name}`, problem: 'every call has it already' })),
]

/** @throws SchemaError with every fault */
export const parseActions = (text: string, source: string): readonly DeclaredService[] => {
  const services = Object.entries(parseYaml(actions, text, source))
    .map(([service, entry]) => ({ service, ...entry }))
    .sort((a, b) => (a.service < b.service ? -1 : 1))
  const faults = [...services.flatMap(faultsOfService), ...clashes(services)]
  if (faults.length > 0) throw new SchemaError(source, faults)
  return services
}

const value = z.union([z.string(), z.int(), z.boolean(), z.array(z.string())])
const values = z.record(z.string(), value)
const time = z.iso.datetime({ offset: true })

const testCase = z
  .strictObject({
    name: z.string().min(1).max(200).optional(),
    agent: z.string().min(1).max(64).optional(),
    service: z.string().min(1).max(64).optional(),
    /** With one of these the case speaks of a caller as described here; without, of the registration of that name. */
    owner: z.string().min(1).max(64).optional(),
    profile: z.string().min(1).max(64).optional(),
    roles: z.array(z.string().min(1).max(64)).optional(),
    attributes: z.record(z.string(), z.string()).optional(),
    action: z.string().min(1).max(130),
    resource: z
      .strictObject({
        type: z.enum(['Tool', 'Resource']).default('Resource'),
        id: z.string().min(1).max(256),
        attributes: values.default({}),
      })
      .optional(),
    time: time.optional(),
    source: z.string().max(64).optional(),
    rate: z.int().min(0).optional(),
    context: values.default({}),
    expect: z.enum(['allow', 'deny']),
  })
  .refine(each => each.agent === undefined || each.service === undefined, {
    error: 'expected an agent or a service, got both',
    path: ['service'],
  })

export type PolicyTestCase = Readonly<z.output<typeof testCase>>

const testCases = z.array(testCase).max(10_000)

/** @throws SchemaError with every fault */
export const parsePolicyTests = (text: string, source: string): readonly PolicyTestCase[] =>
  parseYaml(testCases, text, source)
