// Makes a backup while the server runs: a consistent copy of the ledger, the certificates and transcripts of the home, the configuration
// beside it. Keys stay where they are: an HSM is backed up by its own means. Only the embedded SoftHSM2's token may come along, by name.
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { type BackupManifest, parseBackupManifest } from '../schema/backup.ts'
import type { HomePaths } from '../server/home.ts'
import { openSqliteLedger } from '../store/sqlite/open.ts'
import { schemaVersionOf, snapshotLedger } from '../store/sqlite/snapshot.ts'
import { describeFile, type Lock, type Source, writeArchive } from './archive.ts'
import { BackupError } from './errors.ts'
import { makeScratch } from './scratch.ts'

/** By what it is for, not by how it is called where it lies: two may be called alike. */
export interface ConfigurationPart {
  /** Below `configuration/`. */
  readonly as: string
  readonly path: string
}

export interface BackupOrder {
  readonly paths: HomePaths
  readonly clock: Clock
  readonly log: Log
  readonly version: string
  /** Must not be there. */
  readonly to: string
  readonly lock: Lock
  /** Files and directories of the configuration, which need not be there. */
  readonly configuration: readonly ConfigurationPart[]
  /** Whether the token directory of the embedded HSM goes along, with its PIN. */
  readonly keys: boolean
}

export interface MadeBackup {
  readonly manifest: BackupManifest
  readonly sha256: string
  readonly bytes: number
}

export const ledgerName = 'ledger.db'

/** What the manifest says of the ledger, from the copy itself. The copy is brought to this version's tables by being opened. */
const factsOf = async (copy: string, { clock, log }: BackupOrder) => {
  await using ledger = openSqliteLedger(copy, { clock, log })
  const { size, head } = ledger.audit.head()
  const crlNumbers = ledger.issuers
    .list()
    .map(({ id, name }) => [name, (ledger.status.latestCrl(id)?.number ?? 0n).toString()] as const)
  const metaOf = (key: 'ca_id' | 'trust_domain'): string => ledger.meta.get(key) ?? ''
  return {
    caId: metaOf('ca_id'),
    trustDomain: metaOf('trust_domain'),
    feed: ledger.feed.head(),
    audit: { size, head: toHex(head) },
    crlNumbers: Object.fromEntries(crlNumbers),
  }
}

/** Regular files below, by a name under `as`; links and what is being written are left out. */
const filesBelow = (path: string, as: string): readonly { readonly name: string; readonly path: string }[] => {
  const stat = statSync(path, { throwIfNoEntry: false })
  if (stat === undefined) return []
  if (stat.isFile()) return [{ name: as, path }]
  return readdirSync(path, { withFileTypes: true })
    .filter(entry => (entry.isFile() || entry.isDirectory()) && !entry.name.endsWith('.tmp'))
    .flatMap(entry => filesBelow(join(path, entry.name), `${as}/${entry.name}`))
}

/** Copies, which nobody changes between the manifest and the archive; one after the other, for there may be many. */
const describeCopies = async (files: ReturnType<typeof filesBelow>, into: string): Promise<readonly Source[]> => {
  mkdirSync(into, { mode: 0o700 })
  const sources: Source[] = []
  for (const [n, { name, path }] of files.entries()) {
    const copy = join(into, String(n))
    copyFileSync(path, copy)
    sources.push(await describeFile(name, copy))
  }
  return sources
}

/** By the rules of whoever opens it: a backup that no restore can read is none. @throws BackupError `backup_unreadable` */
const checkReadable = (to: string, manifest: BackupManifest): void => {
  try {
    parseBackupManifest(JSON.stringify(manifest))
  } catch (error) {
    throw new BackupError('backup_unreadable', `${to} could not be read back: ${messageOf(error)}`, {
      cause: error,
      hint: 'rename or move away the files that it names, then make the backup again',
    })
  }
}

/**
 * @throws BackupError `backup_in_the_way`, `backup_key_wrong`, `backup_unreadable`; StoreError; the error of the file system. Nothing is left behind then
 */
export const createBackup = async (order: BackupOrder): Promise<MadeBackup> => {
  const { paths, to, clock } = order
  if (existsSync(to))
    throw new BackupError('backup_in_the_way', `${to} exists already`, { hint: 'name another file, or remove it' })
  if (!existsSync(dirname(to)))
    throw new BackupError('backup_in_the_way', `there is no directory ${dirname(to)}`, {
      hint: 'make it, or name another',
    })
  // One that says it has the keys, and has none, would be missed on the day that it is needed.
  if (order.keys && !existsSync(paths.tokens))
    throw new BackupError(
      'backup_in_the_way',
      `there is no token in ${paths.tokens}: it is an HSM's, or the signer's`,
      {
        hint: 'leave --with-tokens out, and keep a copy of the token as its own user',
      },
    )
  using scratch = makeScratch(paths.home)
  const copy = join(scratch.directory, ledgerName)
  const createdAt = new Date(clock.now()).toISOString()
  snapshotLedger(paths.database, copy)
  const facts = await factsOf(copy, order)
  const files = [
    await describeFile(ledgerName, copy),
    ...(await describeCopies(
      [
        ...filesBelow(join(paths.home, 'init.json'), 'home/init.json'),
        ...filesBelow(paths.issuers, 'home/issuers'),
        ...filesBelow(paths.ceremonies, 'home/ceremonies'),
        ...order.configuration.flatMap(({ as, path }) => filesBelow(path, `configuration/${as}`)),
        ...(order.keys ? filesBelow(paths.tokens, 'home/tokens') : []),
      ],
      join(scratch.directory, 'files'),
    )),
  ]
  const manifest: BackupManifest = {
    format: 'agentca-backup',
    version: 1,
    createdAt,
    agentca: order.version,
    schema: schemaVersionOf(copy),
    ...facts,
    keys: order.keys,
    files: files.map(({ name, size, sha256 }) => ({ name, size, sha256 })),
  }
  checkReadable(to, manifest)
  // What is half written never has its name.
  const beside = join(dirname(to), `.${basename(to)}.${process.pid}.tmp`)
  try {
    await writeArchive(beside, { manifest, files }, order.lock)
    const { size, sha256 } = await describeFile(basename(to), beside)
    renameSync(beside, to)
    return { manifest, sha256, bytes: size }
  } catch (error) {
    rmSync(beside, { force: true })
    throw error
  }
}
