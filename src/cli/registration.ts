// What agents, services and operators have in common at the command line: how they are shown, listed, retired.
import { Command, Option } from 'commander'
import type { ChangeAnswer, RegistrationAnswer, SubjectKindName } from '../schema/admin-answers.ts'
import type { AdminBodyInput } from '../schema/admin-api.ts'
import { everyPage } from './admin-client.ts'
import { countArgument, listArgument, momentArgument, momentOrNeverArgument, pairArgument } from './arguments.ts'
import { keyHashOfFile } from './certificate-files.ts'
import {
  type ConfirmationOptions,
  confirmRadius,
  describeRadius,
  hitCount,
  withConfirmation,
  withDryRun,
} from './confirmation.ts'
import type { CommandIo } from './io.ts'
import { instanceView, tokenView } from './live-things.ts'
import { online, type Session } from './online.ts'
import { members, type View, writeOne, writeRows } from './output.ts'

const plural = { agent: 'agents', service: 'services', operator: 'operators' } as const

const attributesText = (row: RegistrationAnswer): readonly string[] =>
  Object.entries(row.attributes).map(([key, value]) => `${key}=${value}`)

const columns: Readonly<Record<SubjectKindName, readonly (keyof RegistrationAnswer)[]>> = {
  agent: ['name', 'state', 'owner', 'profile', 'roles', 'instances', 'until', 'createdAt', 'purpose'],
  service: ['name', 'state', 'owner', 'profile', 'dns', 'until', 'createdAt', 'purpose'],
  operator: ['name', 'state', 'role', 'owner', 'until', 'createdAt'],
}

const listView = (kind: SubjectKindName): View<RegistrationAnswer> => ({
  columns: members<RegistrationAnswer>(...columns[kind]),
  name: row => row.name,
})

/** Everything about one, attributes included. */
export const registrationView = (kind: SubjectKindName): View<RegistrationAnswer> => ({
  columns: [
    ...listView(kind).columns,
    { name: 'attributes', value: attributesText },
    ...members<RegistrationAnswer>('boundKeyHash', 'managedBy', 'version', 'changedAt'),
  ],
  name: row => row.name,
})

interface ListOptions {
  readonly owner?: string
  readonly state?: RegistrationAnswer['state']
}

export const listCommand = (io: CommandIo, kind: SubjectKindName): Command =>
  online<ListOptions>(
    io,
    new Command('list')
      .description(`the registered ${plural[kind]}`)
      .option('--owner <who>', 'only this owner’s')
      .addOption(new Option('--state <state>', 'only these').choices(['active', 'held', 'retired'])),
    async ({ client, options, format }) => {
      const rows: RegistrationAnswer[] = []
      const query = { owner: options.owner, state: options.state }
      for await (const page of everyPage(client, 'registrationsList', { params: { kind: plural[kind] }, query }))
        rows.push(...page)
      writeRows(io, format, rows, listView(kind))
    },
  )

export const showCommand = (io: CommandIo, kind: SubjectKindName): Command =>
  online<object, [string]>(
    io,
    new Command('show').description(`one ${kind} with its instances and tokens`).argument('<name>'),
    async ({ client, format }, name) => {
      const detail = await client.call('registrationsShow', { params: { kind: plural[kind], name } })
      writeOne(io, format, detail, registrationView(kind))
      if (format !== 'table') return
      if (detail.liveInstances.length > 0) {
        io.out('\n')
        writeRows(io, format, detail.liveInstances, instanceView)
      }
      if (detail.tokens.length > 0) {
        io.out('\n')
        writeRows(io, format, detail.tokens, tokenView)
      }
    },
  )

export interface SubjectOptions {
  readonly owner?: string
  readonly purpose?: string
  readonly profile?: string
  readonly role?: readonly string[]
  readonly attribute?: Readonly<Record<string, string>>
  readonly instances?: number
  readonly until?: string
  readonly dns?: readonly string[]
  readonly bindKey?: string
  readonly dryRun?: true
}

export const withSubject = (command: Command): Command =>
  withDryRun(
    command
      .option('--purpose <text>', 'what it is for')
      .option('--profile <name>', 'profile of its certificates (agentca profile list)')
      .option('--role <role>', 'role, may be repeated', listArgument)
      .option('--attribute <key=value>', 'attribute, may be repeated', pairArgument)
      .option('--instances <count>', 'how many may hold a certificate at once', countArgument)
      .option('--bind-key <file>', 'only this key enrols: PEM of a public key, certificate or request'),
  )

export const untilOption = (): Option =>
  new Option('--until <time>', 'end date: a date, RFC 3339, or a duration from now').argParser(momentArgument)

export const createBody = (io: CommandIo, name: string, options: SubjectOptions) => ({
  name,
  bindKeyHash: options.bindKey === undefined ? undefined : keyHashOfFile(io, options.bindKey),
  owner: options.owner,
  purpose: options.purpose,
  profile: options.profile,
  roles: options.role,
  attributes: options.attribute,
  instances: options.instances,
  until: options.until,
  dryRun: options.dryRun,
})

/** `default`: the profile's limit again. */
const instancesOrDefault = (text: string): number | 'default' => (text === 'default' ? text : countArgument(text))

export interface UpdateOptions extends Omit<SubjectOptions, 'instances'> {
  readonly instances?: number | 'default'
  /** RFC 3339, or `never`. */
  readonly until?: string
}

export const withUpdate = (command: Command): Command =>
  withDryRun(
    command
      .option('--owner <who>', 'new owner')
      .option('--purpose <text>', 'what it is for')
      .option('--profile <name>', 'profile of its next certificates')
      .option('--role <role>', 'all its roles, repeated', listArgument)
      .option('--attribute <key=value>', 'all its attributes, repeated', pairArgument)
      .option('--instances <count>', 'how many may hold a certificate at once, or "default"', instancesOrDefault)
      .option('--until <time>', 'end date, or "never"', momentOrNeverArgument)
      .option('--bind-key <file>', 'the key that enrols from now on, or "none"'),
  )

const boundKey = (io: CommandIo, file: string | undefined): string | null | undefined =>
  file === undefined ? undefined : file === 'none' ? null : keyHashOfFile(io, file)

export const updateBody = (io: CommandIo, options: UpdateOptions): AdminBodyInput<'agentsUpdate'> => ({
  bindKeyHash: boundKey(io, options.bindKey),
  owner: options.owner,
  purpose: options.purpose,
  profile: options.profile,
  roles: options.role === undefined ? undefined : [...options.role],
  attributes: options.attribute === undefined ? undefined : { ...options.attribute },
  instances: options.instances === 'default' ? null : options.instances,
  until: options.until === 'never' ? null : options.until,
  dns: options.dns === undefined ? undefined : [...options.dns],
  dryRun: options.dryRun,
})

/** A change that was made or, as a dry run, would be. */
export const writeChange = (session: Session<object>, kind: SubjectKindName, answer: ChangeAnswer): void => {
  const { io, format } = session
  if (answer.dryRun) io.err(`dry run, nothing was changed: ${describeRadius(answer.radius)}\n`)
  if (format !== 'table') {
    writeOne(io, format, answer, { columns: [], name: () => answer.registration.name })
    return
  }
  writeOne(io, format, answer.registration, registrationView(kind))
}

type ReversibleRoute = 'agentsHold' | 'agentsRelease'

/** Hold and release: reversible, so they are carried out at once and tell what they did. */
export const reversibleCommand = (io: CommandIo, verb: 'hold' | 'release', description: string): Command =>
  online<{ readonly why?: string; readonly dryRun?: true }, [string]>(
    io,
    withDryRun(
      new Command(verb).description(description).argument('<name>').option('--why <text>', 'for the audit log'),
    ),
    async (session, name) => {
      const route: ReversibleRoute = verb === 'hold' ? 'agentsHold' : 'agentsRelease'
      const { why, dryRun } = session.options
      const answer = await session.client.call(route, { params: { name }, body: { why, dryRun } })
      writeChange(session, 'agent', answer)
      if (!answer.dryRun)
        io.err(`${verb === 'hold' ? 'held' : 'released'} agent ${name}: ${describeRadius(answer.radius)}\n`)
    },
  )

const retireRoutes = { agent: 'agentsRetire', service: 'servicesRetire', operator: 'operatorsRetire' } as const

/** Everything that ends with a registration, what is none of its included. */
const describeCascade = ({ radius, archived }: ChangeAnswer): string => {
  const subscriptions = radius.subscriptions > 0 ? '' : ', 0 subscriptions'
  const leaves = archived == null ? 'no audit leaves' : `audit leaves ${archived[0]} to ${archived[1]}`
  return `${describeRadius(radius)}${subscriptions}; archived are ${leaves}`
}

interface RetireOptions extends ConfirmationOptions {
  readonly why?: string
}

export const retireCommand = (io: CommandIo, kind: SubjectKindName): Command =>
  online<RetireOptions, [string]>(
    io,
    withConfirmation(
      new Command('retire')
        .description(`end this ${kind} for good, its certificates, instances and tokens with it`)
        .argument('<name>')
        .option('--why <text>', 'for the audit log'),
    ),
    async (session, name) => {
      const { client, options } = session
      const route = retireRoutes[kind]
      const change = (body: AdminBodyInput<'agentsRetire'>) => client.call(route, { params: { name }, body })
      const preview = await change({ why: options.why, dryRun: true })
      if (options.dryRun === true) {
        writeChange(session, kind, preview)
        return
      }
      io.err(`retiring ${kind} ${name} ends ${describeRadius(preview.radius)}\n`)
      const asked = {
        change: `retire ${kind} ${name}`,
        command: `agentca ${kind} retire ${name}`,
        radius: preview.radius,
      }
      // Where nothing live ends there is nothing to lose; the name stays taken either way.
      const expected =
        hitCount(preview.radius) === 0 && options.confirm === undefined ? 0 : await confirmRadius(io, asked, options)
      const answer = await change({ why: options.why, expected })
      writeChange(session, kind, answer)
      io.err(`retired ${kind} ${name}: ${describeCascade(answer)}\n`)
    },
  )
