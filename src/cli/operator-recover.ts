// `agentca operator recover`: the way back in on the CA's own machine, through its socket or, while no server runs, its ledger.
import { randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import { resolve } from 'node:path'
import { Command } from 'commander'
import { systemClock } from '../base/clock.ts'
import { isAgentCaError } from '../base/errors.ts'
import { silentLog } from '../base/log.ts'
import type { OperatorRecoveredAnswer } from '../schema/admin-answers.ts'
import type { HomePaths } from '../server/home.ts'
import { recoverOperatorOffline } from '../server/recover-operator.ts'
import { writeDurably } from '../signer/durable-file.ts'
import { createAdminClient } from './admin-client.ts'
import { withDryRun } from './confirmation.ts'
import { openConnection } from './connection.ts'
import { CliError } from './errors.ts'
import { homeOf } from './home.ts'
import type { CommandIo } from './io.ts'
import { homeOption } from './online.ts'
import { members, type OutputOptions, type View, withOutput, writeOne } from './output.ts'
import { presenceOf } from './presence.ts'

interface RecoverOptions extends OutputOptions {
  readonly home?: string
  readonly why?: string
  readonly file?: string
  readonly dryRun?: true
}

interface Recovered extends Omit<OperatorRecoveredAnswer, 'token'> {
  readonly file: string
}

const view: View<Recovered> = {
  columns: [
    { name: 'operator', value: row => row.subject.name },
    ...members<Recovered>('created', 'file', 'expiresAt', 'url', 'caFingerprint'),
  ],
  name: row => row.subject.name,
}

/** What it makes belongs to the CA's user, and what it does is that user's to do. @throws CliError `file_not_permitted` */
const checkOwner = ({ home }: HomePaths): void => {
  if (presenceOf(home) === 'absent') return
  const { uid } = statSync(home)
  if (uid === process.geteuid?.()) return
  throw new CliError('file_not_permitted', `${home} belongs to another user`, {
    hint: `sudo -u '#${uid}' agentca operator recover NAME`,
  })
}

const recover = async (
  io: CommandIo,
  paths: HomePaths,
  name: string,
  { home, why, dryRun = false }: { home?: string | undefined; why?: string | undefined; dryRun?: boolean },
): Promise<OperatorRecoveredAnswer> => {
  // Never elsewhere, whatever the environment says: it is about this machine.
  const { AGENTCA_ADMIN_URL: _url, AGENTCA_ADMIN_CREDENTIAL: _credential, ...env } = io.env
  const client = createAdminClient(openConnection({ ...io, env }, home === undefined ? {} : { home }))
  try {
    return await client.call('operatorsRecover', { params: { name }, body: { why, dryRun } })
  } catch (error) {
    if (!isAgentCaError(error) || error.code !== 'server_not_running') throw error
    return recoverOperatorOffline({ paths, clock: systemClock, log: silentLog, randomBytes, name, why, dryRun })
  }
}

export const operatorRecoverCommand = (io: CommandIo): Command => {
  const command = withDryRun(withOutput(new Command('recover')).addOption(homeOption()))
    .description('let an admin in again whose certificate has ended: on the CA’s machine, as the owner of its home')
    .argument('<name>', 'an active admin; where none is left, a new one')
    .option('--why <text>', 'for the audit log')
    .option('--file <file>', 'the token’s file (0600) instead of first-operator.token in the home')
  return command.action(async (name: string) => {
    const options = command.opts<RecoverOptions>()
    const paths = homeOf(io, options.home)
    checkOwner(paths)
    const file = options.file === undefined ? paths.firstOperatorToken : resolve(io.cwd, options.file)
    // Before the token exists: it could not be shown again.
    if (options.file !== undefined && presenceOf(file) !== 'absent')
      throw new CliError('file_not_written', `${options.file} exists already`, {
        hint: 'remove it, or name another file',
      })
    const { token, ...recovered } = await recover(io, paths, name, options)
    if (options.dryRun !== true) writeDurably(file, `${token}\n`)
    writeOne(io, options.output, { ...recovered, file }, view)
    io.err(
      options.dryRun === true
        ? 'dry run, nothing was made\n'
        : `next, within the hour: agentca enroll --url ${recovered.url} --ca-fingerprint ${recovered.caFingerprint} --token-file ${file} --dir DIR\n`,
    )
  })
}
