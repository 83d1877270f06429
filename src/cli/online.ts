// A command that asks a running server: its connection options, its form of output, and the session its action gets.
import { type Command, Option } from 'commander'
import { type AdminClient, createAdminClient } from './admin-client.ts'
import { type ConnectionOptions, openConnection } from './connection.ts'
import type { CommandIo } from './io.ts'
import { type Format, type OutputOptions, withOutput } from './output.ts'

export const homeOption = (): Option =>
  new Option('--home <dir>', 'directory of the CA (AGENTCA_HOME)').helpGroup('Connection:')

export const withConnection = (command: Command): Command =>
  command
    .addOption(homeOption())
    .addOption(
      new Option('--url <url>', 'API of a CA elsewhere, https://HOST:PORT (AGENTCA_ADMIN_URL)').helpGroup(
        'Connection:',
      ),
    )
    .addOption(
      new Option('--credential <dir>', 'operator credential for --url (AGENTCA_ADMIN_CREDENTIAL)').helpGroup(
        'Connection:',
      ),
    )

export interface Session<Options> {
  readonly io: CommandIo
  readonly client: AdminClient
  readonly options: Options
  readonly format: Format
}

/** Completes a command with connection, output and action. Arguments come as commander parsed them. */
export const online = <Options extends object, Args extends readonly unknown[] = readonly []>(
  io: CommandIo,
  command: Command,
  run: (session: Session<Options>, ...args: Args) => Promise<void>,
  formats?: readonly Format[],
): Command =>
  withConnection(withOutput(command, formats)).action(async () => {
    const options = command.opts<Options & ConnectionOptions & OutputOptions>()
    const client = createAdminClient(openConnection(io, options))
    await run({ io, client, options, format: options.output }, ...(command.processedArgs as unknown as Args))
  })
