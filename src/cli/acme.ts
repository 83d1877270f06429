// `agentca acme eab …`: external account bindings, by which an ACME client becomes an instance of an agent or a service.
import { existsSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { Command, Option } from 'commander'
import type { AcmeBindingAnswer, AcmeBindingCreated } from '../schema/acme-api.ts'
import { everyPage } from './admin-client.ts'
import { secondsArgument } from './arguments.ts'
import { withDryRun } from './confirmation.ts'
import { CliError } from './errors.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { members, type View, writeOne, writeRows } from './output.ts'

type BoundChoice = Partial<Record<'agent' | 'service', string>>

interface CreateOptions extends BoundChoice {
  readonly dns?: readonly string[]
  readonly ip?: readonly string[]
  readonly ttl?: number
  readonly file?: string
  readonly dryRun?: true
}

/** Operators are people, and have no ACME accounts. */
const withSubject = (command: Command): Command =>
  command
    .addOption(new Option('--agent <name>', 'of this agent').conflicts('service'))
    .addOption(new Option('--service <name>', 'of this service').conflicts('agent'))

const subjectOf = ({ agent, service }: BoundChoice): { kind?: 'agent' | 'service'; name?: string } => {
  if (agent !== undefined) return { kind: 'agent', name: agent }
  return service === undefined ? {} : { kind: 'service', name: service }
}

const collect = (value: string, before: readonly string[] = []): readonly string[] => [...before, value]

/** What is shown of a new binding where its MAC key went into a file. */
const keptView: View<Omit<AcmeBindingCreated, 'hmacKey'>> = {
  columns: [
    ...members<Omit<AcmeBindingCreated, 'hmacKey'>>('kid', 'expiresAt'),
    { name: 'for', value: row => `${row.subject.kind} ${row.subject.name}` },
    { name: 'names', value: row => row.names.join(' ') },
    ...members<Omit<AcmeBindingCreated, 'hmacKey'>>('directory'),
  ],
  name: row => row.kid,
}

const createdView: View<AcmeBindingCreated> = {
  columns: [...members<AcmeBindingCreated>('kid', 'hmacKey'), ...keptView.columns.slice(1)],
  name: row => row.kid,
}

const listView: View<AcmeBindingAnswer> = {
  columns: [
    ...members<AcmeBindingAnswer>('kid', 'state', 'kind', 'name'),
    { name: 'names', value: row => row.names.join(' ') },
    ...members<AcmeBindingAnswer>('instance', 'expiresAt', 'createdAt', 'createdBy'),
  ],
  name: row => row.kid,
}

/** The MAC key into a file of the operator alone instead of onto the screen. */
const keepKey = (io: CommandIo, created: AcmeBindingCreated, file: string): Omit<AcmeBindingCreated, 'hmacKey'> => {
  const { hmacKey, ...rest } = created
  writeFileSync(resolve(io.cwd, file), `${hmacKey}\n`, { mode: 0o600, flag: 'wx' })
  return rest
}

const nextLine = ({ kid, directory, names }: AcmeBindingCreated, file: string | undefined): string => {
  const key = file === undefined ? 'HMACKEY' : `"$(cat ${file})"`
  const name = names.find(each => each.startsWith('dns:'))?.slice('dns:'.length) ?? 'NAME'
  return `REQUESTS_CA_BUNDLE=ca.pem certbot certonly --standalone --server ${directory} --eab-kid ${kid} --eab-hmac-key ${key} -d ${name}`
}

const createCommand = (io: CommandIo): Command =>
  online<CreateOptions>(
    io,
    withDryRun(
      withSubject(new Command('create').description('kid and HMAC key for one ACME account, shown once'))
        .option(
          '--dns <name>',
          'a DNS name that it may order, beside those of the registration; several times',
          collect,
        )
        .option('--ip <address>', 'an address that a service may order; several times', collect)
        .option('--ttl <duration>', 'how long the account can be made with it, 24h unless given', secondsArgument)
        .option('--file <file>', 'write the HMAC key there (0600) instead of showing it'),
    ),
    async ({ client, options, format }) => {
      const { kind, name } = subjectOf(options)
      if (kind === undefined || name === undefined)
        throw new CliError('usage', 'expected --agent NAME or --service NAME')
      const { dns, ip, ttl, file, dryRun } = options
      // Before the binding exists: its key could not be shown again.
      if (file !== undefined && existsSync(resolve(io.cwd, file)))
        throw new CliError('file_not_written', `${file} exists already`, { hint: 'remove it, or name another file' })
      const body = { kind, name, dns: dns?.slice(), ip: ip?.slice(), ttlSeconds: ttl, dryRun }
      const created = await client.call('acmeBindingsCreate', { body })
      if (dryRun === true) io.err('dry run, nothing was created\n')
      if (file === undefined || dryRun === true) writeOne(io, format, created, createdView)
      else writeOne(io, format, keepKey(io, created, file), keptView)
      if (dryRun !== true) io.err(`next, where it runs: ${nextLine(created, file)}\n`)
    },
  )

const listCommand = (io: CommandIo): Command =>
  online<BoundChoice>(
    io,
    withSubject(new Command('list').description('bindings, never their keys')),
    async ({ client, options, format }) => {
      const rows: AcmeBindingAnswer[] = []
      for await (const page of everyPage(client, 'acmeBindingsList', { query: subjectOf(options) })) rows.push(...page)
      writeRows(io, format, rows, listView)
    },
  )

const revokeCommand = (io: CommandIo): Command =>
  online<{ readonly why?: string; readonly dryRun?: true }, [string]>(
    io,
    withDryRun(
      new Command('revoke')
        .description('no account is made with it any more; one that was stays (agentca instance revoke)')
        .argument('<kid>')
        .option('--why <text>', 'for the audit log'),
    ).option('-y, --yes', 'accepted; a binding is revoked without a question'),
    async ({ client, options, format }, kid) => {
      const { why, dryRun } = options
      writeOne(
        io,
        format,
        await client.call('acmeBindingsRevoke', { params: { kid }, body: { why, dryRun } }),
        listView,
      )
      if (dryRun === true) io.err('dry run, nothing was changed\n')
    },
  )

export const acmeCommand = (io: CommandIo): Command =>
  new Command('acme')
    .description('ACME clients')
    .addCommand(
      new Command('eab')
        .description('external account bindings')
        .addCommand(createCommand(io))
        .addCommand(listCommand(io))
        .addCommand(revokeCommand(io)),
    )
