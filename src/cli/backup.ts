// `agentca backup …`: the ledger and what belongs to it in one encrypted file, and the way back. Made while the server runs; restored
// where none does; and after that nothing is issued until an operator has looked at what is known of the time in between.
import { accessSync, constants, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Command, Option } from 'commander'
import type { Key, Lock } from '../backup/archive.ts'
import { createBackup, type MadeBackup } from '../backup/create-backup.ts'
import { checkBackupLog, logKeyFingerprint, logKeyName, neededToVerify, openBackup } from '../backup/open-backup.ts'
import { type RestoredBackup, restoreBackup } from '../backup/restore-backup.ts'
import { makeScratch, makeScratchAnywhere } from '../backup/scratch.ts'
import { systemClock } from '../base/clock.ts'
import { isAgentCaError } from '../base/errors.ts'
import { silentLog } from '../base/log.ts'
import { parseOnePem } from '../pki/pem.ts'
import type { MaintenanceAnswer } from '../schema/admin-answers.ts'
import type { BackupManifest } from '../schema/backup.ts'
import { ServerError } from '../server/errors.ts'
import type { HomePaths } from '../server/home.ts'
import { createAdminClient } from './admin-client.ts'
import { configurationParts } from './backup-configuration.ts'
import { loadConfig } from './config-file.ts'
import { withDryRun } from './confirmation.ts'
import { openConnection } from './connection.ts'
import { CliError } from './errors.ts'
import { readInputText, readSecret } from './files.ts'
import { homeOf } from './home.ts'
import type { CommandIo } from './io.ts'
import { homeOption, online } from './online.ts'
import { members, type OutputOptions, type View, withOutput, writeOne } from './output.ts'
import { presenceOf } from './presence.ts'
import { readVersion } from './version.ts'

const collect = (value: string, before: readonly string[] = []): readonly string[] => [...before, value]

interface LockOptions {
  readonly recipient?: readonly [string, ...string[]]
  readonly passphraseFile?: string
}
interface KeyOptions {
  readonly identityFile?: string
  readonly passphraseFile?: string
}

const passphraseOption = (): Option =>
  new Option('--passphrase-file <file>', 'file with the passphrase, or - for standard input')

const lockOf = async (io: CommandIo, { recipient, passphraseFile }: LockOptions): Promise<Lock> => {
  if ((recipient === undefined) === (passphraseFile === undefined))
    throw new CliError('usage', 'expected --recipient or --passphrase-file', {
      hint: 'age-keygen -o backup.key prints a recipient; keep backup.key away from this machine',
    })
  if (recipient !== undefined) return { recipients: recipient }
  const passphrase = await readSecret(io, passphraseFile!)
  if (passphrase.length < 16)
    throw new CliError('usage', 'expected a passphrase of 16 characters or more', { hint: 'openssl rand -base64 24' })
  return { passphrase }
}

const keyOf = async (io: CommandIo, { identityFile, passphraseFile }: KeyOptions): Promise<Key> => {
  if ((identityFile === undefined) === (passphraseFile === undefined))
    throw new CliError('usage', 'expected --identity-file or --passphrase-file', {
      hint: 'the key that belongs to the recipient of the backup',
    })
  if (passphraseFile !== undefined) return { passphrase: await readSecret(io, passphraseFile) }
  // As age-keygen writes it: comments, and an identity a line.
  const text = identityFile === '-' ? await io.readStdin() : readInputText(io, identityFile!)
  const identities = text.split('\n').map(line => line.trim())
  return { identities: identities.filter(line => line !== '' && !line.startsWith('#')) }
}

const logKeyIn = (file: string): Uint8Array => parseOnePem(readFileSync(file, 'utf8'), 'PUBLIC KEY')

const isWritable = (directory: string): boolean => {
  try {
    accessSync(directory, constants.W_OK)
    return true
  } catch {
    return false
  }
}

const checkHome = ({ home, database }: HomePaths): void => {
  if (presenceOf(database) !== 'absent') return
  throw new ServerError('not_initialised', `there is no CA in ${home}`, { hint: 'agentca init, or --home DIR' })
}

interface BackupRow {
  readonly file: string
  readonly caId: string
  readonly createdAt: string
  readonly bytes: number | null
  readonly sha256: string | null
  readonly files: number
  readonly auditSize: number
  readonly feedN: number
  readonly keys: boolean
  /** sha256:HEX of the log key's SubjectPublicKeyInfo: what a restore into an empty home asks for. */
  readonly logKey: string
}

const backupView: View<BackupRow> = {
  columns: members<BackupRow>(
    'file',
    'caId',
    'createdAt',
    'bytes',
    'sha256',
    'files',
    'auditSize',
    'feedN',
    'keys',
    'logKey',
  ),
  name: row => row.file,
}

const rowOf = (
  file: string,
  manifest: BackupManifest,
  made: Pick<MadeBackup, 'bytes' | 'sha256'> | null,
  logKeySpki: Uint8Array,
): BackupRow => ({
  file,
  caId: manifest.caId,
  createdAt: manifest.createdAt,
  bytes: made?.bytes ?? null,
  sha256: made?.sha256 ?? null,
  files: manifest.files.length,
  auditSize: manifest.audit.size,
  feedN: manifest.feed.n,
  keys: manifest.keys,
  logKey: logKeyFingerprint(logKeySpki),
})

/** @returns false where no server runs: then nothing is recorded */
const record = async (
  io: CommandIo,
  home: string | undefined,
  { manifest, sha256, bytes }: MadeBackup,
): Promise<boolean> => {
  const { AGENTCA_ADMIN_URL: _url, AGENTCA_ADMIN_CREDENTIAL: _credential, ...env } = io.env
  const client = createAdminClient(openConnection({ ...io, env }, home === undefined ? {} : { home }))
  const facts = { sha256, bytes, feedN: manifest.feed.n, auditSize: manifest.audit.size, keys: manifest.keys }
  try {
    await client.call('backupsRecord', { body: facts })
    return true
  } catch (error) {
    if (isAgentCaError(error) && error.code === 'server_not_running') return false
    throw error
  }
}

const createCommand = (io: CommandIo): Command => {
  const command = withOutput(new Command('create')).addOption(homeOption())
  return command
    .description('write an encrypted backup while the server runs')
    .argument('<file>', 'must not be there')
    .addOption(
      new Option('--recipient <age1…>', 'encrypt to this age recipient (repeatable)').argParser(
        (value: string, before: readonly string[] | undefined) => collect(value, before),
      ),
    )
    .addOption(passphraseOption())
    .option(
      '--with-tokens',
      'with the embedded SoftHSM2 token of the online keys and its PIN: whoever opens it is the CA',
    )
    .option('-c, --config <file>', 'configuration file (AGENTCA_CONFIG)')
    .action(async (file: string) => {
      type Options = OutputOptions & LockOptions & { home?: string; withTokens?: true; config?: string }
      const options = command.opts<Options>()
      const paths = homeOf(io, options.home)
      checkHome(paths)
      const lock = await lockOf(io, options)
      const loaded = loadConfig(io, options.config)
      const made = await createBackup({
        paths,
        clock: systemClock,
        log: silentLog,
        version: readVersion(),
        to: resolve(io.cwd, file),
        lock,
        configuration: configurationParts(loaded),
        keys: options.withTokens === true,
      })
      const recorded = await record(io, options.home, made)
      writeOne(io, options.output, rowOf(file, made.manifest, made, logKeyIn(join(paths.home, logKeyName))), backupView)
      if (!recorded) io.err('no server runs: the audit log does not say that this backup was made\n')
      if (!made.manifest.keys) io.err('the keys are not in it: back up the HSM by its own means\n')
    })
}

const verifyCommand = (io: CommandIo): Command => {
  const command = withOutput(new Command('verify')).addOption(homeOption())
  return command
    .description('open a backup and check its files, its ledger and its audit log')
    .argument('<file>')
    .option('--identity-file <file>', 'age identity, as age-keygen writes it, or - for standard input')
    .addOption(passphraseOption())
    .action(async (file: string) => {
      const options = command.opts<OutputOptions & KeyOptions & { home?: string }>()
      const key = await keyOf(io, options)
      const { home } = homeOf(io, options.home)
      using scratch = isWritable(home) ? makeScratch(home) : makeScratchAnywhere()
      const opened = await openBackup(resolve(io.cwd, file), key, scratch.directory, neededToVerify)
      await checkBackupLog(opened, { clock: systemClock, log: silentLog })
      writeOne(io, options.output, rowOf(file, opened.manifest, null, opened.logKeySpki), backupView)
    })
}

interface RestoreRow {
  readonly caId: string
  readonly backupAt: string
  readonly revoked: number | null
  readonly held: readonly string[]
  readonly unknown: number | null
  readonly locked: readonly string[]
  readonly tokensRevoked: number | null
  readonly seen: readonly string[]
  readonly ignored: readonly string[]
  readonly movedAside: readonly string[]
  readonly configuration: string | null
}

const restoreView: View<RestoreRow> = {
  columns: members<RestoreRow>(
    'caId',
    'backupAt',
    'revoked',
    'held',
    'unknown',
    'locked',
    'tokensRevoked',
    'seen',
    'ignored',
    'movedAside',
    'configuration',
  ),
  name: row => row.caId,
}

const restoreRow = ({ manifest, seen, recovered, movedAside, configuration }: RestoredBackup): RestoreRow => ({
  caId: manifest.caId,
  backupAt: manifest.createdAt,
  revoked: recovered?.revoked ?? null,
  held: recovered?.held ?? [],
  unknown: recovered?.unknown ?? null,
  locked: recovered?.locked ?? [],
  tokensRevoked: recovered?.tokens ?? null,
  seen: seen.used,
  ignored: seen.ignored.map(({ file, why }) => `${file}: ${why}`),
  movedAside,
  configuration,
})

const restoreCommand = (io: CommandIo): Command => {
  const command = withDryRun(withOutput(new Command('restore'))).addOption(homeOption())
  return command
    .description('bring the CA back where no server runs; then it issues nothing until you say so')
    .argument('<file>')
    .option('--identity-file <file>', 'age identity, as age-keygen writes it, or - for standard input')
    .addOption(passphraseOption())
    .addOption(
      new Option(
        '--outside <path>',
        'CRLs, checkpoints or published state kept elsewhere: file or directory (repeatable)',
      )
        .argParser((value: string, before: readonly string[] | undefined) => collect(value, before))
        .default([]),
    )
    .option('--log-key <file>', 'public log key of the CA, PEM, where the home has none (issuers/log-1.pub.pem)')
    .option('--confirm <sha256:hex>', 'its fingerprint instead, as backup create and verify show it')
    .option('--replace', 'move the ledger that is there aside')
    .action(async (file: string) => {
      type Options = OutputOptions &
        KeyOptions & { home?: string; outside: string[]; replace?: true; dryRun?: true } & {
          logKey?: string
          confirm?: string
        }
      const options = command.opts<Options>()
      const restored = await restoreBackup({
        paths: homeOf(io, options.home),
        clock: systemClock,
        log: silentLog,
        from: resolve(io.cwd, file),
        key: await keyOf(io, options),
        outside: options.outside.map(path => resolve(io.cwd, path)),
        logKey:
          options.logKey === undefined
            ? (options.confirm ?? null)
            : parseOnePem(readInputText(io, options.logKey), 'PUBLIC KEY'),
        replace: options.replace === true,
        dryRun: options.dryRun === true,
      })
      writeOne(io, options.output, restoreRow(restored), restoreView)
      if (restored.recovered === null) return io.err('dry run, nothing was restored\n')
      if (restored.seen.used.length === 0)
        io.err('warning: no published CRL was found: a revocation after the backup is forgotten; --outside PATH\n')
      io.err('next: agentca serve; then, when you have looked: agentca backup reconcile\n')
    })
}

const maintenanceView: View<MaintenanceAnswer> = {
  columns: members<MaintenanceAnswer>(
    'state',
    'backupAt',
    'restoredAt',
    'endedAt',
    'feedEntriesLost',
    'auditLeavesLost',
    'revoked',
    'held',
    'unknown',
    'locked',
    'tokensRevoked',
  ),
  name: row => row.state,
}

const reconcileCommand = (io: CommandIo): Command =>
  online<{ readonly accept?: true; readonly why?: string; readonly dryRun?: true }>(
    io,
    withDryRun(
      new Command('reconcile')
        .description('what is known of the time between a backup and its restore; --accept ends the maintenance')
        .option('--accept', 'issue again')
        .option('--why <text>', 'for the audit log'),
    ),
    async ({ client, options: { accept, why, dryRun }, format }) => {
      const ends = accept === true && dryRun !== true
      const answer = ends
        ? await client.call('maintenanceEnd', { body: { why } })
        : await client.call('maintenanceShow')
      writeOne(io, format, answer, maintenanceView)
      if (answer.state !== 'waiting') return
      if (accept === true) return io.err('dry run, nothing was accepted\n')
      io.setExitCode(7)
      io.err(
        `certificates issued from ${answer.backupAt} to ${answer.restoredAt} are not in the ledger: whoever has one enrols anew, ` +
          'and where one may be in the wrong hands, rotate the issuing CA (agentca ca prepare).\n' +
          '  hint: when you have looked: agentca backup reconcile --accept --why TEXT\n',
      )
    },
  )

export const backupCommand = (io: CommandIo): Command =>
  new Command('backup')
    .description('the ledger in an encrypted file, and the way back')
    .addCommand(createCommand(io))
    .addCommand(verifyCommand(io))
    .addCommand(restoreCommand(io))
    .addCommand(reconcileCommand(io))
