// Opens a backup and believes nothing of it before it was checked: its files against the manifest, the ledger's pages, and the audit
// log's chain up to the head that the manifest names.
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { originOf } from '../audit/checkpoint.ts'
import { type LogVerdict, verifyLog } from '../audit/verify-log.ts'
import { toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { parseOnePem } from '../pki/pem.ts'
import type { BackupManifest } from '../schema/backup.ts'
import type { Ledger } from '../store/ports.ts'
import type { Leaf } from '../store/records.ts'
import { currentVersion } from '../store/sqlite/migrations.ts'
import { openSqliteLedger } from '../store/sqlite/open.ts'
import { findCorruption } from '../store/sqlite/snapshot.ts'
import { type Key, readArchive } from './archive.ts'
import { ledgerName } from './create-backup.ts'
import { BackupError } from './errors.ts'

export interface OpenedBackup {
  readonly manifest: BackupManifest
  /** Where its files lie. */
  readonly directory: string
  readonly ledgerFile: string
  /** DER SubjectPublicKeyInfo of the CA's log key. */
  readonly logKeySpki: Uint8Array
}

const spoilt = (path: string, problem: string): BackupError =>
  new BackupError('backup_unreadable', `${path}: ${problem}`, { hint: 'take another backup' })

/** Where a home has it, and a backup below `home/`. */
export const logKeyName = 'issuers/log-1.pub.pem'

/** As `agentca backup create` and `verify` show it. */
export const logKeyFingerprint = (spki: Uint8Array): string =>
  `sha256:${toHex(createHash('sha256').update(spki).digest())}`

/** What a backup may bring into a home: above all no `agentca.db-wal`, which would become part of a ledger that was checked without it. */
const belongs = (name: string, keys: boolean): boolean =>
  [ledgerName, 'home/init.json'].includes(name) ||
  ['home/issuers/', 'home/ceremonies/', 'configuration/'].some(folder => name.startsWith(folder)) ||
  (keys && name.startsWith('home/tokens/'))

/** What a look at a backup needs; the rest is checked and not written, tokens least of all. */
export const neededToVerify = (name: string): boolean => name === ledgerName || name === `home/${logKeyName}`

/**
 * @param into an empty directory of the caller's own
 * @throws BackupError `backup_unreadable`, `backup_key_wrong`, `backup_newer`
 */
export const openBackup = async (
  path: string,
  key: Key,
  into: string,
  keep?: (name: string) => boolean,
): Promise<OpenedBackup> => {
  if (!existsSync(path)) throw spoilt(path, 'there is no such file')
  const manifest = await readArchive(path, key, into, keep)
  if (manifest.schema > currentVersion)
    throw new BackupError('backup_newer', `${path}: made by agentca ${manifest.agentca}`, {
      hint: `install agentca ${manifest.agentca}, or a newer one`,
    })
  const stray = manifest.files.find(({ name }) => !belongs(name, manifest.keys))
  if (stray !== undefined) throw spoilt(path, `${stray.name} does not belong in a backup`)
  const ledgerFile = join(into, ledgerName)
  const logKeyFile = join(into, 'home', logKeyName)
  for (const file of [ledgerFile, logKeyFile])
    if (!existsSync(file)) throw spoilt(path, `it has no ${file.slice(into.length + 1)}`)
  const [fault] = findCorruption(ledgerFile)
  if (fault !== undefined) throw spoilt(path, `the ledger in it is damaged: ${fault}`)
  const logKeySpki = parseOnePem(readFileSync(logKeyFile, 'utf8'), 'PUBLIC KEY')
  return { manifest, directory: into, ledgerFile, logKeySpki }
}

const pageSize = 1000

function* leavesOf(ledger: Ledger): Generator<Leaf> {
  for (let from = 0; ; ) {
    const page = ledger.audit.read(from, pageSize)
    yield* page
    if (page.length === 0) return
    from += page.length
  }
}

/** The log in it, from its first leaf. @throws BackupError `backup_unreadable`, `backup_newer` */
export const verifyBackupLog = async (
  { manifest, ledgerFile, logKeySpki }: OpenedBackup,
  parts: { readonly clock: Clock; readonly log: Log },
): Promise<LogVerdict> => {
  await using ledger = openSqliteLedger(ledgerFile, parts)
  const { size, head } = ledger.audit.head()
  if (size !== manifest.audit.size || toHex(head) !== manifest.audit.head)
    throw spoilt(ledgerFile, `expected a log of ${manifest.audit.size} leaves, got ${size}`)
  const log = { origin: originOf(manifest.caId), spki: logKeySpki }
  const checkpoints = ledger.audit.checkpoints({ limit: 1000 }).map(({ note }) => note)
  return await verifyLog({ leaves: leavesOf(ledger), checkpoints, log })
}

/**
 * That the log in it holds together and was signed by its log key. Whether that key is the CA's is for whoever restores it to know.
 * @throws BackupError `backup_unreadable`, `backup_newer`
 */
export const checkBackupLog = async (
  opened: OpenedBackup,
  parts: { readonly clock: Clock; readonly log: Log },
): Promise<void> => {
  const { findings, checkpoints } = await verifyBackupLog(opened, parts)
  const [first] = findings
  const problem =
    first !== undefined
      ? `${first.kind} at ${first.index}: ${first.detail}`
      : checkpoints === 0
        ? 'no checkpoint of it was signed'
        : null
  if (problem === null) return
  throw new BackupError('backup_unreadable', `the audit log in it: ${problem}`, {
    hint: 'take an older backup, and look after the machine that this one lay on',
  })
}
