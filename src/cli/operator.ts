// `agentca operator …`: people with a role.
import { Command, Option } from 'commander'
import { type OperatorRoleName, operatorRoles } from '../schema/admin-api.ts'
import { withDryRun } from './confirmation.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { operatorRecoverCommand } from './operator-recover.ts'
import { writeOne } from './output.ts'
import { listCommand, registrationView, retireCommand, untilOption } from './registration.ts'

interface CreateOptions {
  readonly role: OperatorRoleName
  readonly owner?: string
  readonly profile?: string
  readonly until?: string
  readonly dryRun?: true
}

const createCommand = (io: CommandIo): Command =>
  online<CreateOptions, [string]>(
    io,
    withDryRun(
      new Command('create')
        .description('register an operator; a token gives the first credential')
        .argument('<name>', '1 to 61 of a-z, 0-9 and dash')
        .addOption(
          new Option('--role <role>', 'what the operator may do, each role what those before it may')
            .choices(operatorRoles)
            .makeOptionMandatory(),
        )
        .option('--owner <who>', 'the person or team that answers for it')
        .option('--profile <name>', 'profile of its certificates (agentca profile list)')
        .addOption(untilOption()),
    ),
    async ({ client, options, format }, name) => {
      const { role, owner, profile, until, dryRun } = options
      const created = await client.call('operatorsCreate', { body: { name, role, owner, profile, until, dryRun } })
      writeOne(io, format, created, registrationView('operator'))
      io.err(
        dryRun === true
          ? 'dry run, nothing was created\n'
          : `registered; next: agentca token create --operator ${created.name}\n`,
      )
    },
  )

export const operatorCommand = (io: CommandIo): Command =>
  new Command('operator')
    .description('people who run the CA')
    .addCommand(createCommand(io))
    .addCommand(listCommand(io, 'operator'))
    .addCommand(retireCommand(io, 'operator'))
    .addCommand(operatorRecoverCommand(io))
