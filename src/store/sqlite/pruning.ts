// The pruning port: certificates and tokens that ended long ago go, a few in each transaction, by look-ups alone. Row numbers are never given
// to others, so the newest row of each table stays.
import type { PruningPort } from '../pruning-port.ts'
import * as codes from './codes.ts'
import type { Connection } from './connection.ts'
import type { Parts } from './parts.ts'

/** What is kept of the hash of a key. */
export const pastKeyOctets = 16

interface Expired {
  readonly row: number
  readonly serial: Uint8Array
  readonly not_after: number
  readonly state: number
  readonly issuer_id: number
  readonly instance: number
  readonly registration_id: number
  readonly predecessor: number | null
  readonly token: number | null
  readonly key_hash: Uint8Array
  readonly issued_at: number | null
}

interface Lineage {
  readonly head: number | null
  readonly account: number
  /** Nothing of it is as young as what is pruned, and nobody has to look at it any more. */
  readonly ended: boolean
}

const selectExpired = `SELECT row, serial, not_after, state, issuer_id, instance, registration_id, predecessor, token, key_hash, issued_at
  FROM certificate WHERE not_after < +? AND not_after >= +? AND (not_after > +? OR row > +?) ORDER BY not_after, row LIMIT +?`

const selectLineage = `SELECT head, state, EXISTS (SELECT 1 FROM acme_account a WHERE a.instance = i.seq) AS account,
    EXISTS (SELECT 1 FROM certificate c WHERE c.instance = i.seq AND c.not_after >= +?) AS live
  FROM instance i WHERE i.seq = +?`

const LOCKED = codes.instanceStates.code('locked')

const lineageOf = (db: Connection, seq: number, before: number): Lineage => {
  const { head, state, account, live } = db.get<{ head: number | null; state: number; account: number; live: number }>(
    selectLineage,
    before,
    seq,
  )!
  return { head, account, ended: account === 0 && live === 0 && state !== LOCKED }
}

const exists = (db: Connection, sql: string, ...values: (number | Uint8Array)[]): boolean =>
  db.get(`SELECT 1 FROM ${sql} LIMIT 1`, ...values) !== undefined

/** What names it, or goes on from it, in a lineage that goes on. */
const isNeeded = (
  db: Connection,
  { row, serial, instance, predecessor, token, key_hash }: Expired,
  before: number,
): boolean => {
  const younger = (condition: string, ...values: number[]) =>
    exists(db, `certificate WHERE ${condition} AND not_after >= +?`, ...values, before)
  if (younger('predecessor = +?', row)) return true
  if (predecessor !== null && younger('predecessor = +? AND supersedes = +?', predecessor, row)) return true
  const use = 'token_use WHERE token = +? AND key_hash = +? AND certificate = +?'
  if (token !== null && exists(db, use, token, key_hash, row)) return true
  return exists(db, 'acme_order WHERE account = +? AND (certificate = +? OR replaces = +?)', instance, serial, serial)
}

const mayGo = (db: Connection, expired: Expired, lineage: Lineage, before: number): boolean => {
  const { row, state, instance, registration_id } = expired
  if (state === codes.INTENT) return false
  // When a registration got its last one is asked for long after.
  if (
    !exists(db, 'certificate WHERE registration_id = +? AND row > +? AND issued_at IS NOT NULL', registration_id, row)
  )
    return false
  if (!lineage.ended) return lineage.head !== row && !isNeeded(db, expired, before)
  // Its head goes last, so that it is a lineage as long as it is one.
  return lineage.head !== row || !exists(db, 'certificate WHERE instance = +? AND row <> +?', instance, row)
}

const rememberKey = `INSERT INTO past_key(key_hash, instance, registration_id, released) VALUES (?, ?, ?, ?)
  ON CONFLICT (key_hash) DO UPDATE SET released = max(released, excluded.released)`

// An orphaned one may have been signed: it goes on being counted against the signer's own count.
const countOrphan = `INSERT INTO counter(name, value) VALUES ('doubtful/' || CAST(+? AS INTEGER), 1)
  ON CONFLICT (name) DO UPDATE SET value = value + 1`

const remove = (db: Connection, expired: Expired, { ended }: Lineage): void => {
  const { row, state, issuer_id, instance, registration_id, key_hash, issued_at } = expired
  db.run('DELETE FROM certificate WHERE row = +?', row)
  db.run(rememberKey, key_hash.subarray(0, pastKeyOctets), instance, registration_id, issued_at === null ? 0 : 1)
  if (state === codes.ORPHANED) db.run(countOrphan, issuer_id)
  if (ended && !exists(db, 'certificate WHERE instance = +?', instance))
    db.run('DELETE FROM instance WHERE seq = +? AND seq < (SELECT max(seq) FROM instance)', instance)
}

const pruneCertificates = (
  { db }: Parts,
  { before, after, limit }: Parameters<PruningPort['certificates']>[0],
): Awaited<ReturnType<PruningPort['certificates']>> => {
  const from = after ?? { notAfter: Number.MIN_SAFE_INTEGER, row: -1 }
  const found = db.all<Expired>(selectExpired, before, from.notAfter, from.notAfter, from.row, limit)
  let removed = 0
  for (const expired of found) {
    const lineage = lineageOf(db, expired.instance, before)
    if (!mayGo(db, expired, lineage, before)) continue
    remove(db, expired, lineage)
    removed++
  }
  const last = found.at(-1)
  return {
    removed,
    next: last === undefined || found.length < limit ? null : { notAfter: last.not_after, row: last.row },
  }
}

/** Of a token that leads to many lineages so many are looked at in one step. */
const usesAtOnce = 32

interface Use {
  readonly key_hash: Uint8Array
  readonly lives: number
}

const selectUses = `SELECT u.key_hash, EXISTS (SELECT 1 FROM certificate c WHERE c.row = u.certificate) AS lives
  FROM token_use u WHERE u.token = +? LIMIT ${usesAtOnce}`

/** @returns whether the token is gone */
const pruneToken = (db: Connection, seq: number): boolean => {
  const uses = db.all<Use>(selectUses, seq)
  const past = uses.filter(({ lives }) => lives === 0)
  for (const { key_hash } of past) db.run('DELETE FROM token_use WHERE token = +? AND key_hash = +?', seq, key_hash)
  if (past.length < uses.length || uses.length === usesAtOnce) return false
  return db.run('DELETE FROM token WHERE seq = +? AND seq < (SELECT max(seq) FROM token)', seq).changes > 0
}

const pruneTokens = (
  { db, tokens }: Parts,
  { before, after, limit }: Parameters<PruningPort['tokens']>[0],
): Awaited<ReturnType<PruningPort['tokens']>> => {
  const found = db.all<{ seq: number; expires_at: number; created_at: number }>(
    'SELECT seq, expires_at, created_at FROM token WHERE seq > +? ORDER BY seq LIMIT +?',
    after,
    limit,
  )
  // In the order of their making, and none ends before it was made.
  const old = found.filter(({ created_at }) => created_at < before)
  let removed = 0
  for (const { seq, expires_at } of old) if (expires_at < before && pruneToken(db, seq)) removed++
  if (removed > 0) tokens.forget()
  return { removed, next: old.length < limit ? null : (old.at(-1)?.seq ?? null) }
}

export const createPruning = (parts: Parts): PruningPort => {
  // What goes stands on pages all over the file. Left to the write-ahead log's own measure, thousands of them would be copied back at once.
  const write = async <T>(work: () => T): Promise<T> => {
    const result = await parts.commit.write(work)
    parts.db.exec('PRAGMA wal_checkpoint(PASSIVE)')
    return result
  }
  return {
    certificates: step => write(() => pruneCertificates(parts, step)),
    tokens: step => write(() => pruneTokens(parts, step)),
  }
}
