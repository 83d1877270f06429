// `agentca doctor`: what is wrong or soon will be, with the cure of each; as far as it can also without a server.

import { Command } from 'commander'
import { messageOf } from '../base/errors.ts'
import { printable } from '../base/printable.ts'
import type { HomePaths } from '../server/home.ts'
import { createAdminClient } from './admin-client.ts'
import { type ConnectionOptions, openConnection } from './connection.ts'
import { type Check, exitCodeOfChecks, failed } from './doctor-check.ts'
import { checkMachine, readCaFiles } from './doctor-machine.ts'
import { checkServer, noServer } from './doctor-server.ts'
import { checkUrls, type Named, namedByServer, namedCas } from './doctor-urls.ts'
import { homeOf } from './home.ts'
import type { CommandIo } from './io.ts'
import { withConnection } from './online.ts'
import { members, type OutputOptions, type View, withOutput, writeRows } from './output.ts'
import { isOpen, presenceOf } from './presence.ts'

interface DoctorOptions extends ConnectionOptions, OutputOptions {
  readonly config?: string
}

const checkView: View<Check> = {
  columns: members<Check>('status', 'check', 'what'),
  name: row => row.check,
}

const examine = async (io: CommandIo, options: DoctorOptions): Promise<readonly Check[]> => {
  const now = Date.now()
  const client = createAdminClient(openConnection(io, options))
  let serverAnswers = true
  const fromServer = await checkServer(client, now).catch((error: unknown) => {
    serverAnswers = false
    return [noServer(error)]
  })
  // Another machine's files are not here to be examined.
  const isRemote = options.url !== undefined || io.env.AGENTCA_ADMIN_URL !== undefined
  const paths = homeOf(io, options.home)
  const fromMachine = isRemote ? [] : checkMachine(io, paths, { config: options.config, serverAnswers, now })
  const named = async (): Promise<readonly Named[]> =>
    serverAnswers
      ? namedByServer(client)
      : namedCas(isRemote || !canLook(paths) ? [] : readCaFiles(paths).map(each => each.certificate))
  const urls = await named().then(
    found => checkUrls(found, { now, serverAnswers }),
    (error: unknown) => [failed('urls', messageOf(error), 'see the server’s log')],
  )
  return [...fromMachine, ...fromServer, ...urls]
}

const canLook = ({ issuers }: HomePaths): boolean => presenceOf(issuers) !== 'not permitted' && isOpen(issuers)

export const doctorCommand = (io: CommandIo): Command => {
  const command = withConnection(withOutput(new Command('doctor')))
    .description('examine the CA and its machine; exit code 9: a check failed, 10: warnings only')
    .option('--config <file>', 'configuration (AGENTCA_CONFIG)')
  return command.action(async () => {
    const options = command.opts<DoctorOptions>()
    const checks = await examine(io, options)
    writeRows(io, options.output, checks, checkView)
    for (const { status, what, cure } of checks)
      if (cure !== null) io.err(`${status}: ${printable(what)}\n  cure: ${printable(cure)}\n`)
    io.setExitCode(exitCodeOfChecks(checks))
  })
}
