// `agentca agent …`
import { Command } from 'commander'
import type { AdminBodyInput } from '../schema/admin-api.ts'
import { withDryRun } from './confirmation.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { writeOne } from './output.ts'
import {
  createBody,
  listCommand,
  registrationView,
  retireCommand,
  reversibleCommand,
  type SubjectOptions,
  showCommand,
  type UpdateOptions,
  untilOption,
  updateBody,
  withSubject,
  withUpdate,
  writeChange,
} from './registration.ts'

const createCommand = (io: CommandIo): Command =>
  online<SubjectOptions & { readonly owner: string }, [string]>(
    io,
    withSubject(
      new Command('create')
        .description('register an agent; a token lets it enrol (agentca token create)')
        .argument('<name>', '1 to 58 of a-z, 0-9 and dash')
        .requiredOption('--owner <who>', 'the person or team that answers for it'),
    ).addOption(untilOption()),
    async ({ client, options, format }, name) => {
      const body = { ...createBody(io, name, options), owner: options.owner } as AdminBodyInput<'agentsCreate'>
      const created = await client.call('agentsCreate', { body })
      writeOne(io, format, created, registrationView('agent'))
      io.err(
        options.dryRun === true
          ? 'dry run, nothing was created\n'
          : `registered; next: agentca token create --agent ${created.name}\n`,
      )
    },
  )

const updateCommand = (io: CommandIo): Command =>
  online<UpdateOptions, [string]>(
    io,
    withUpdate(
      new Command('update').description('change what an agent is; its very next renewal follows').argument('<name>'),
    ),
    async (session, name) => {
      const body = updateBody(io, session.options)
      writeChange(session, 'agent', await session.client.call('agentsUpdate', { params: { name }, body }))
    },
  )

interface AttestOptions {
  readonly until?: string
  readonly why?: string
  readonly dryRun?: true
}

const attestCommand = (io: CommandIo): Command =>
  online<AttestOptions, [string]>(
    io,
    withDryRun(
      new Command('attest')
        .description('say that an agent is still needed, and until when')
        .argument('<name>')
        .addOption(untilOption())
        .option('--why <text>', 'for the audit log'),
    ),
    async (session, name) => {
      const { until, why, dryRun } = session.options
      const answer = await session.client.call('agentsAttest', { params: { name }, body: { until, why, dryRun } })
      writeChange(session, 'agent', answer)
    },
  )

export const agentCommand = (io: CommandIo): Command =>
  new Command('agent')
    .description('agents: register, hold, release, retire')
    .addCommand(createCommand(io))
    .addCommand(listCommand(io, 'agent'))
    .addCommand(showCommand(io, 'agent'))
    .addCommand(updateCommand(io))
    .addCommand(reversibleCommand(io, 'hold', 'refuse an agent until it is released'))
    .addCommand(reversibleCommand(io, 'release', 'let a held agent work again'))
    .addCommand(retireCommand(io, 'agent'))
    .addCommand(attestCommand(io))
