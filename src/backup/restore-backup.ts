// Brings a CA back from a backup, in a home where no server runs. What is there is moved aside, never written over. A ledger that is
// restored must not forget a revocation that somebody saw: what is still known outside is taken over before the ledger has its name, and
// nothing is issued from it until an operator has looked (ca/maintenance.ts).
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { lookOutside, outsideTrust, type Seen } from '../ca/outside.ts'
import { recoverLedger } from '../ca/recover-ledger.ts'
import { parseOnePem } from '../pki/pem.ts'
import type { BackupManifest } from '../schema/backup.ts'
import type { HomePaths } from '../server/home.ts'
import { readInitRecord } from '../server/init-record.ts'
import { softHsmPaths, writeSoftHsmConf } from '../signer/softhsm-token.ts'
import type { Recovered } from '../store/recovery-port.ts'
import { openSqliteLedger } from '../store/sqlite/open.ts'
import { lockLedger } from '../store/sqlite/single-writer.ts'
import type { Key } from './archive.ts'
import { BackupError } from './errors.ts'
import { checkBackupLog, logKeyFingerprint, logKeyName, type OpenedBackup, openBackup } from './open-backup.ts'
import { makeScratch } from './scratch.ts'

export interface RestoreOrder {
  readonly paths: HomePaths
  readonly clock: Clock
  readonly log: Log
  readonly from: string
  readonly key: Key
  /** Beside the home's own published files. */
  readonly outside: readonly string[]
  /** DER SubjectPublicKeyInfo, or `sha256:HEX` of it, of the CA's log key as the operator knows it; null: as the home has it. */
  readonly logKey: Uint8Array | string | null
  /** Whether a ledger that is there may be moved aside. */
  readonly replace: boolean
  readonly dryRun: boolean
}

export interface RestoredBackup {
  readonly manifest: BackupManifest
  readonly seen: Seen
  /** null: a dry run. */
  readonly recovered: Recovered | null
  /** Where what was there lies now. */
  readonly movedAside: readonly string[]
  /** Of the configuration in the backup: nothing of it is put in force. */
  readonly configuration: string | null
}

const who = { who: 'operator:local', requestId: 'offline', source: 'local' }

/** @throws BackupError `backup_in_the_way`, `backup_foreign` */
const checkHome = ({ paths, replace }: RestoreOrder, { manifest }: OpenedBackup): void => {
  const there = existsSync(join(paths.home, 'init.json')) ? readInitRecord(paths) : null
  if (there !== null && there.caId !== manifest.caId)
    throw new BackupError(
      'backup_foreign',
      `${paths.home} is the home of CA ${there.caId}, the backup is of ${manifest.caId}`,
      {
        hint: 'name an empty directory with --home',
      },
    )
  if (existsSync(paths.database) && !replace)
    throw new BackupError('backup_in_the_way', `${paths.database} is there`, {
      hint: 'where it is to be replaced: agentca backup restore FILE --replace, which moves it aside',
    })
}

/**
 * Whoever knows the recipient can encrypt to it: age does not say from whom a backup is. That the log key signed its log does.
 * @throws BackupError `backup_foreign`
 */
const checkLogKey = ({ paths, logKey }: RestoreOrder, { logKeySpki }: OpenedBackup): void => {
  const found = logKeyFingerprint(logKeySpki)
  const file = join(paths.home, logKeyName)
  const own = existsSync(file) ? logKeyFingerprint(parseOnePem(readFileSync(file, 'utf8'), 'PUBLIC KEY')) : null
  const said = logKey === null || typeof logKey === 'string' ? logKey : logKeyFingerprint(logKey)
  const expected = [own, said].filter(each => each !== null)
  if (expected.length === 0)
    throw new BackupError('backup_foreign', `this home has no log key to compare with that of the backup, ${found}`, {
      hint: `is it the one that backup create or verify showed? then --confirm ${found}; or --log-key FILE`,
    })
  const other = expected.find(each => each !== found)
  if (other === undefined) return
  throw new BackupError('backup_foreign', `expected a backup signed by the log key ${other}, got ${found}`, {
    hint: 'whoever knows the recipient can make such a file: take one that you know the way of',
  })
}

/** What this home itself published. */
const publishedIn = ({ status, log }: HomePaths): readonly string[] => [status, log].filter(existsSync)

const syncFile = async (path: string): Promise<void> => {
  const file = await open(path, 'r')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

/** @returns where they lie now */
const moveAside = (order: RestoreOrder): readonly string[] => {
  const { paths, clock } = order
  const mark = `before-restore-${new Date(clock.now()).toISOString().replace(/[:.]/g, '-')}`
  // The notes of a log that went on further would forbid the restored one its checkpoints; they stay as the proof that there was more.
  // The database first: without its write-ahead log it would be a ledger that forgot something; a log without a database is nothing.
  const files = [paths.database, `${paths.database}-wal`, `${paths.database}-shm`, join(paths.log, 'checkpoints')]
  return files.filter(existsSync).map(path => {
    renameSync(path, `${path}.${mark}`)
    return `${path}.${mark}`
  })
}

const filesBelow = (directory: string): readonly string[] =>
  existsSync(directory)
    ? readdirSync(directory, { recursive: true, withFileTypes: true })
        .filter(entry => entry.isFile())
        .map(entry => join(entry.parentPath, entry.name).slice(directory.length + 1))
    : []

/** What is there already stays as it is. */
const copyMissing = (from: string, to: string): void => {
  for (const name of filesBelow(from)) {
    const target = join(to, name)
    if (existsSync(target)) continue
    mkdirSync(dirname(target), { recursive: true, mode: 0o700 })
    copyFileSync(join(from, name), target)
  }
}

/**
 * @throws BackupError; StoreError `ledger_in_use` while a server runs; the error of the file system. Until the ledger has its name
 * nothing of the home has changed
 */
export const restoreBackup = async (order: RestoreOrder): Promise<RestoredBackup> => {
  const { paths, clock, log } = order
  mkdirSync(paths.home, { recursive: true, mode: 0o700 })
  using scratch = makeScratch(paths.home)
  const opened = await openBackup(order.from, order.key, scratch.directory)
  checkHome(order, opened)
  checkLogKey(order, opened)
  await checkBackupLog(opened, { clock, log })
  const lock = lockLedger(paths.database)
  try {
    const ledger = openSqliteLedger(opened.ledgerFile, { clock, log })
    let seen: Seen
    let recovered: Recovered | null = null
    try {
      const { manifest, logKeySpki } = opened
      seen = lookOutside(
        [...publishedIn(paths), ...order.outside],
        outsideTrust(ledger.issuers, manifest.caId, logKeySpki),
      )
      const ends = { at: Date.parse(manifest.createdAt), feed: manifest.feed, auditSize: manifest.audit.size }
      if (!order.dryRun) recovered = await recoverLedger(ledger.recovery, { ends, seen, now: clock.now(), who })
    } finally {
      await ledger.close()
    }
    const { manifest } = opened
    if (order.dryRun) return { manifest, seen, recovered, movedAside: [], configuration: null }
    await syncFile(opened.ledgerFile)
    const movedAside = moveAside(order)
    renameSync(opened.ledgerFile, paths.database)
    await syncFile(paths.home)
    const hasToken = existsSync(paths.tokens)
    copyMissing(join(opened.directory, 'home'), paths.home)
    if (manifest.keys && !hasToken) writeSoftHsmConf(softHsmPaths(paths.tokens))
    const configuration = join(opened.directory, 'configuration')
    const kept = join(paths.home, 'restored-configuration')
    copyMissing(configuration, kept)
    return { manifest, seen, recovered, movedAside, configuration: existsSync(configuration) ? kept : null }
  } finally {
    lock.release()
  }
}
