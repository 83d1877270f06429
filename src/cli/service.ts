// `agentca service …`: backends and MCP servers, which agents call.
import { Command } from 'commander'
import type { AdminBodyInput } from '../schema/admin-api.ts'
import { listArgument } from './arguments.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { writeOne } from './output.ts'
import {
  createBody,
  listCommand,
  registrationView,
  retireCommand,
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
  online<SubjectOptions, [string]>(
    io,
    withSubject(
      new Command('create')
        .description('register a service')
        .argument('<name>', '1 to 60 of a-z, 0-9 and dash')
        .option('--dns <name>', 'host name that its certificates carry, may be repeated', listArgument)
        .option('--owner <who>', 'the person or team that answers for it'),
    ).addOption(untilOption()),
    async ({ client, options, format }, name) => {
      const body = { ...createBody(io, name, options), dns: options.dns } as AdminBodyInput<'servicesCreate'>
      const created = await client.call('servicesCreate', { body })
      writeOne(io, format, created, registrationView('service'))
      io.err(
        options.dryRun === true
          ? 'dry run, nothing was created\n'
          : `registered; next: agentca token create --service ${created.name}\n`,
      )
    },
  )

const updateCommand = (io: CommandIo): Command =>
  online<UpdateOptions, [string]>(
    io,
    withUpdate(
      new Command('update')
        .description('change what a service is; its very next renewal follows')
        .argument('<name>')
        .option('--dns <name>', 'all its host names, repeated', listArgument),
    ),
    async (session, name) => {
      const body = updateBody(io, session.options)
      writeChange(session, 'service', await session.client.call('servicesUpdate', { params: { name }, body }))
    },
  )

export const serviceCommand = (io: CommandIo): Command =>
  new Command('service')
    .description('services that agents call')
    .addCommand(createCommand(io))
    .addCommand(listCommand(io, 'service'))
    .addCommand(showCommand(io, 'service'))
    .addCommand(updateCommand(io))
    .addCommand(retireCommand(io, 'service'))
