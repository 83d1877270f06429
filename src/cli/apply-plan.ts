// What declarative files would change, found out by asking the server about each thing, as a dry run: so that what it refuses is known, all
// of it, before anything is done.
import { dirname, resolve } from 'node:path'
import type { RegistrationAnswer } from '../schema/admin-answers.ts'
import type { AdminBodyInput } from '../schema/admin-api.ts'
import type { Declared, DeclaredFault, DeclaredRegistration } from '../schema/apply.ts'
import type { OwnerAnswer } from '../schema/owner-api.ts'
import { type AdminClient, everyPage } from './admin-client.ts'
import { planOwner, planOwnersPruning } from './apply-owners.ts'
import { faultOf, type Plan, type Planned, type PlannedChange, type Planner, type Step } from './apply-step.ts'
import { keyHashOfFile } from './certificate-files.ts'
import { readPolicies } from './policy-files.ts'

type Registrations = ReadonlyMap<string, RegistrationAnswer>
const keyOf = (kind: 'agent' | 'service', name: string): string => `${kind} ${name}`
const kinds = { Agent: 'agent', Service: 'service' } as const
const routes = {
  agent: { list: 'agents', create: 'agentsCreate', update: 'agentsUpdate', retire: 'agentsRetire' },
  service: { list: 'services', create: 'servicesCreate', update: 'servicesUpdate', retire: 'servicesRetire' },
} as const

const registered = async (client: AdminClient): Promise<Registrations> => {
  const found = new Map<string, RegistrationAnswer>()
  for (const kind of ['agent', 'service'] as const)
    for await (const page of everyPage(client, 'registrationsList', { params: { kind: routes[kind].list } }))
      for (const row of page) found.set(keyOf(kind, row.name), row)
  return found
}

/** RFC 3339, as the server answers it. */
const timeOf = (until: string): string | null =>
  until === 'never' ? null : new Date(until.length === 10 ? `${until}T00:00:00Z` : until).toISOString()

/** All that the document says, in the members of an answer. */
const wantedOf = ({ io, options }: Planner, file: string, document: DeclaredRegistration) => {
  const { bindKey, bindKeyFile, until } = document
  const fromFile = bindKeyFile === undefined ? null : keyHashOfFile(io, resolve(io.cwd, dirname(file), bindKeyFile))
  return {
    owner: document.owner ?? null,
    purpose: document.purpose,
    profile: document.profile ?? kinds[document.kind],
    roles: document.roles,
    attributes: document.attributes,
    instances: document.instances ?? null,
    boundKeyHash: bindKey === undefined ? fromFile : bindKey.slice('sha256:'.length),
    managedBy: options.set,
    ...(until === undefined ? {} : { until: timeOf(until) }),
    ...(document.kind === 'Service' ? { dns: document.dns } : {}),
  }
}
type Wanted = ReturnType<typeof wantedOf>

const sorted = (value: unknown): unknown => {
  if (Array.isArray(value)) return [...value].sort()
  if (typeof value !== 'object' || value === null) return value
  return Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
}
const isSame = (a: unknown, b: unknown): boolean => JSON.stringify(sorted(a)) === JSON.stringify(sorted(b))

const changesOf = (wanted: Wanted, present: RegistrationAnswer | null): readonly PlannedChange[] =>
  Object.entries(wanted)
    // Without a set nothing is said about whose it is.
    .filter(([member, to]) => member !== 'managedBy' || to !== null)
    .map(([member, to]) => ({ member, from: present?.[member as keyof RegistrationAnswer] ?? null, to }))
    .filter(({ member, from, to }) => !isSame(from, to) && !(present !== null && member === 'owner' && to === null))

const bodyOf = (changes: readonly PlannedChange[]): Omit<AdminBodyInput<'agentsUpdate'>, 'dryRun'> =>
  Object.fromEntries(changes.map(({ member, to }) => [member === 'boundKeyHash' ? 'bindKeyHash' : member, to]))

const planRegistration = async (
  planner: Planner,
  declared: Declared & { readonly document: DeclaredRegistration },
  present: RegistrationAnswer | null,
): Promise<Planned> => {
  const { client, options } = planner
  const { file, line, document } = declared
  const { name } = document
  const kind = kinds[document.kind]
  const refuse = (problem: string): Planned => ({ step: null, fault: { file, line, path: '', problem } })
  if (present?.state === 'retired') return refuse(`${kind} ${name} is retired, and names are never reused`)
  const other = present?.managedBy ?? null
  if (other !== null && other !== options.set && !options.takeOver)
    return refuse(`${kind} ${name} belongs to set ${other}: apply it there, or take it over with --set and --take-over`)
  const changes = changesOf(wantedOf(planner, file, document), present)
  const planned = { kind, name, file, line, changes, radius: null } as const
  if (present !== null && changes.length === 0)
    return { step: { planned: { ...planned, action: 'keep' }, run: null }, fault: null }
  const create = (dryRun: boolean) => {
    // What a new one does not say is the default already.
    const body = { name, ...bodyOf(changes.filter(({ to }) => to !== null)), dryRun }
    return client.call(routes[kind].create, { body: body as AdminBodyInput<'agentsCreate'> })
  }
  const update = (dryRun: boolean) =>
    client.call(routes[kind].update, { params: { name }, body: { ...bodyOf(changes), dryRun } })
  const act = present === null ? create : update
  const fault = await faultOf(declared, () => act(true))
  const action = present === null ? 'create' : 'update'
  return { step: { planned: { ...planned, action }, run: () => act(false) }, fault }
}

const planPolicy = async (
  { io, client, options }: Planner,
  declared: Declared,
  directory: string,
  settled: boolean,
): Promise<Planned> => {
  const { file, line } = declared
  const place = resolve(io.cwd, dirname(file), directory)
  const { files } = readPolicies(io, place, undefined)
  const plan = await client.call('policiesPlan', { body: { files: { ...files } } })
  const refuse = (problem: string): Planned => ({ step: null, fault: { file, line, path: 'directory', problem } })
  const wrong = plan.faults.filter(({ severity }) => severity === 'error')
  if (wrong.length > 0)
    return refuse(
      wrong.map(each => `${each.file}${each.line === null ? '' : `:${each.line}`}: ${each.problem}`).join('; '),
    )
  const failing = plan.tests.filter(({ problem }) => problem !== null)
  // Cases may be about what this very file registers: then they are judged when it is there.
  if (failing.length > 0 && settled) return refuse(`${failing.length} cases do not hold: agentca policy test ${place}`)
  const active = plan.active === null ? null : await client.call('policiesShow', { params: { version: 'active' } })
  const planned = { kind: 'policy', name: directory, file, line, radius: null } as const
  if (active?.hash === plan.hash)
    return { step: { planned: { ...planned, action: 'keep', changes: [] }, run: null }, fault: null }
  const changes = plan.differences.map(({ kind, name, gains, loses }) => ({
    ...{ member: `${kind} ${name}`, from: loses, to: gains },
  }))
  const body = { files: { ...files } as Record<string, string>, why: options.why, dryRun: false }
  return {
    step: { planned: { ...planned, action: 'apply', changes }, run: () => client.call('policiesApply', { body }) },
    fault: null,
  }
}

const planPruning = async (
  planner: Planner,
  declared: readonly Declared[],
  all: Registrations,
): Promise<readonly Step[]> => {
  const { client, options } = planner
  const named = new Set(
    declared.flatMap(({ document }) =>
      document.kind === 'Agent' || document.kind === 'Service' ? [keyOf(kinds[document.kind], document.name)] : [],
    ),
  )
  const steps: Step[] = []
  for (const [key, row] of all) {
    if (row.managedBy !== options.set || row.state === 'retired' || named.has(key) || row.kind === 'operator') continue
    const { name, kind } = row
    const retire = (body: AdminBodyInput<'agentsRetire'>) =>
      client.call(routes[kind].retire, { params: { name }, body })
    const { radius } = await retire({ why: options.why, dryRun: true })
    steps.push({
      planned: { action: 'retire', kind, name, file: null, line: null, changes: [], radius },
      run: () => retire({ why: options.why, expected: radius.certificates + radius.intents }),
    })
  }
  return steps
}

const isRegistration = (each: Declared): each is Declared & { readonly document: DeclaredRegistration } =>
  each.document.kind === 'Agent' || each.document.kind === 'Service'

/** Owners before what is theirs, services before agents before policies, which speak of both; what goes goes last. */
export const planOf = async (planner: Planner, declared: readonly Declared[]): Promise<Plan> => {
  const { client, options } = planner
  const all = await registered(client)
  const owners = new Map<string, OwnerAnswer>((await client.call('ownersList')).items.map(each => [each.name, each]))
  const faults: DeclaredFault[] = []
  const steps: Step[] = []
  const take = ({ step, fault }: Planned): void => {
    if (fault !== null) faults.push(fault)
    if (step !== null) steps.push(step)
  }
  for (const each of declared)
    if (each.document.kind === 'Owner') take(await planOwner(planner, each, each.document.name, owners))
  const registrations = declared.filter(isRegistration)
  for (const wanted of ['Service', 'Agent'] as const)
    for (const each of registrations.filter(({ document }) => document.kind === wanted))
      take(await planRegistration(planner, each, all.get(keyOf(kinds[wanted], each.document.name)) ?? null))
  const settled = steps.every(({ run }) => run === null)
  for (const each of declared)
    if (each.document.kind === 'Policy') take(await planPolicy(planner, each, each.document.directory, settled))
  if (options.prune && options.set !== null) {
    const retiring = await planPruning(planner, declared, all)
    const ending = new Set(retiring.map(({ planned: { kind, name } }) => `${kind} ${name}`))
    const present = [...all.values()].filter(({ state }) => state !== 'retired')
    const isRetiring = ({ kind, name }: RegistrationAnswer): boolean => ending.has(`${kind} ${name}`)
    steps.push(...retiring, ...planOwnersPruning(planner, declared, owners, present, isRetiring))
  }
  return { steps, faults }
}
