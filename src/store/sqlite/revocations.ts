// The revocations port: blast radius, revocation by any selector, and what CRL and OCSP read.
import { StoreError } from '../errors.ts'
import type { BlastRadius, RevocationSelector, RevocationsPort } from '../ports.ts'
import type { RevocationRow, RevokedEntry } from '../records.ts'
import * as cascade from './cascade.ts'
import * as codes from './codes.ts'
import type { Parts } from './parts.ts'
import * as rows from './rows.ts'
import { resolveSelector, type Target } from './selector.ts'

export const createRevocations = (parts: Parts): RevocationsPort => {
  const { db, commit, journal } = parts
  return {
    blastRadius: (selector, now) => radiusOf(parts, resolveSelector(db, selector, now), now),
    revoke: command =>
      commit.write(() => {
        const { selector, at } = command
        if (command.reason === 'certificateHold')
          throw new StoreError('conflict', 'expected a final reason, got certificateHold', {
            hint: `agentca agent hold NAME, which can be released`,
          })
        const target = resolveSelector(db, selector, at)
        const radius = radiusOf(parts, target, at)
        const hit = radius.certificates + radius.intents
        if (command.expected !== null && hit > command.expected)
          throw new StoreError('radius_changed', `expected at most ${command.expected} certificates, got ${hit}`, {
            facts: { expected: command.expected, found: hit },
          })
        const covered = target.instances === null ? [] : instanceIds(parts, target, at)
        const cause = command.bySubject === true ? 'subject' : 'revocation'
        cascade.markHits(db, { state: codes.REVOKED, reason: command.reason, cause, at })
        endCovered(parts, target, at)
        if (selector.by === 'serial' && cause === 'revocation') makeOperators(parts, selector.value)
        const keyHash = compromisedKey(parts, selector, command.reason)
        if (keyHash !== null) refuseKey(parts, keyHash, command.reason, at)
        const feedN = journal.statusFeed('revoke', at, {
          by: selector.by,
          value: selector.value,
          reason: command.reason,
          serials: hit,
          ...knownToVerifiers(selector, radius, covered),
        })
        journal.leaf(command.leaf(radius, feedN))
        return { radius, feedN }
      }),
    revision: issuerId =>
      db.get<{ revision: number }>('SELECT revision FROM issuer WHERE id = ?', issuerId)?.revision ?? 0,
    onChange: parts.changes.listen,
    entries: page =>
      db
        .all<EntryRow>(
          `SELECT serial, revoked_at, reason, not_after FROM revocation
           WHERE issuer_id = ? AND serial > ? AND listed = 1 AND not_after > ? ORDER BY serial LIMIT ?`,
          page.issuerId,
          page.after === null ? new Uint8Array(0) : codes.soughtBlob(page.after),
          page.since,
          page.limit,
        )
        .map(entryOf),
    readRows: issuerId => {
      const read = db.beginRead()
      const rows = read.rows<Row>(`${selectRows} WHERE issuer_id = ? ORDER BY serial`, issuerId)
      return {
        revision: read.get<{ revision: number }>('SELECT revision FROM issuer WHERE id = ?', issuerId)?.revision ?? 0,
        next: limit => {
          const page: RevocationRow[] = []
          while (page.length < limit) {
            const { done, value } = rows.next()
            if (done === true) break
            page.push(rowOf(value))
          }
          return page
        },
        [Symbol.dispose]: () => read[Symbol.dispose](),
      }
    },
    rowsSince: (issuerId, revision, limit) =>
      db
        .all<Row>(
          `${selectRows} WHERE issuer_id = ? AND revision > ? ORDER BY revision LIMIT ?`,
          issuerId,
          revision,
          limit,
        )
        .map(rowOf),
    changedSince: (issuerId, revision, limit) =>
      db
        .all<{ serial: Uint8Array; revision: number }>(
          'SELECT serial, revision FROM revocation WHERE issuer_id = ? AND revision > ? ORDER BY revision LIMIT ?',
          issuerId,
          revision,
          limit,
        )
        .map(row => ({ serial: codes.hexOf(row.serial), revision: row.revision })),
    prune: step => commit.write(() => prune(parts, step)),
  }
}

/** By the key of the table, from serial to serial: an index over ends would cost every revocation more than this costs. */
const prune = ({ db }: Parts, { issuerId, before, after, limit }: Parameters<RevocationsPort['prune']>[0]) => {
  const from = after === null ? new Uint8Array(0) : codes.soughtBlob(after)
  const last = db.all<{ serial: Uint8Array }>(
    'SELECT serial FROM revocation WHERE issuer_id = ? AND serial > ? ORDER BY serial LIMIT 1 OFFSET ?',
    issuerId,
    from,
    limit - 1,
  )[0]?.serial
  const { changes } = db.run(
    `DELETE FROM revocation WHERE issuer_id = ? AND serial > ? AND not_after <= ?${last === undefined ? '' : ' AND serial <= ?'}`,
    issuerId,
    from,
    before,
    ...(last === undefined ? [] : [last]),
  )
  return { removed: changes, next: last === undefined ? null : codes.hexOf(last) }
}

interface EntryRow {
  serial: Uint8Array
  revoked_at: number
  reason: number
  not_after: number
}

const entryOf = (row: EntryRow): RevokedEntry => ({
  serial: codes.hexOf(row.serial),
  revokedAt: row.revoked_at,
  reason: codes.reasons.name(row.reason),
  notAfter: row.not_after,
})

const selectRows = 'SELECT serial, listed, reason, revoked_at, not_after, revision FROM revocation'

interface Row extends EntryRow {
  listed: number
  revision: number
}

const rowOf = (row: Row): RevocationRow => ({
  serial: row.serial,
  listed: row.listed === 1,
  reason: codes.reasons.name(row.reason),
  revokedAt: row.revoked_at,
  notAfter: row.not_after,
  revision: row.revision,
})

const everyLive = [codes.INTENT, codes.ISSUED, codes.HELD]

/** Leaves the rows in `hit`. */
const radiusOf = ({ db }: Parts, target: Target, now: number): BlastRadius => {
  cascade.collect(db, target.certificates, everyLive, now)
  if (target.instances !== null) cascade.addHits(db, target.instances, everyLive, now)
  const radius = cascade.hitRadius(db)
  const bindings = target.bindings === null ? [] : unusedBindings(db, target.bindings)
  return {
    ...radius,
    registrations: target.registrations ?? radius.registrations,
    instances: target.instances === null ? 0 : countInstances(db, target),
    tokens: (target.tokens === null ? 0 : countTokens(db, target.tokens)) + bindings.length,
    ...(bindings.length === 0 ? {} : { bindings }),
  }
}

const countInstances = (db: Parts['db'], target: Target): number =>
  db.get<{ n: number }>(
    `SELECT count(*) AS n FROM instance i WHERE i.state <> 2 AND ${target.instances!.instance}`,
    ...target.instances!.instanceValues,
  )!.n

const countTokens = (db: Parts['db'], tokens: NonNullable<Target['tokens']>): number =>
  db.get<{ n: number }>(`SELECT count(*) AS n FROM token WHERE state = 0 AND ${tokens.where}`, ...tokens.values)!.n

const unused = 'state = 0 AND account IS NULL'

const unusedBindings = (db: Parts['db'], where: string): readonly string[] =>
  db
    .all<{ kid: string }>(`SELECT kid FROM acme_binding WHERE ${unused} AND ${where} ORDER BY seq DESC`)
    .map(row => row.kid)

const instanceIds = ({ db }: Parts, target: Target, _at: number): readonly string[] =>
  db
    .all<{ id: codes.StoredId }>(
      `SELECT i.id FROM instance i WHERE i.state <> 2 AND ${target.instances!.instance} LIMIT 1000`,
      ...target.instances!.instanceValues,
    )
    .map(row => codes.idOf(row.id))

const endCovered = ({ db }: Parts, target: Target, at: number): void => {
  if (target.instances !== null)
    db.run(
      `UPDATE instance AS i SET state = 2, changed_at = ? WHERE i.state <> 2 AND ${target.instances.instance}`,
      at,
      ...target.instances.instanceValues,
    )
  if (target.tokens !== null)
    db.run(
      `UPDATE token SET state = 1, revoked_at = ? WHERE state = 0 AND ${target.tokens.where}`,
      at,
      ...target.tokens.values,
    )
  if (target.bindings !== null)
    db.run(`UPDATE acme_binding SET state = 1, revoked_at = ? WHERE ${unused} AND ${target.bindings}`, at)
}

/** Its holder may have revoked it before, and must not go on by that. */
const makeOperators = ({ db }: Parts, serial: string): void => {
  const [revocation, subject] = [codes.causes.code('revocation'), codes.causes.code('subject')]
  const sql = 'UPDATE certificate SET cause = ? WHERE serial = ? AND cause = ?'
  db.run(sql, revocation, codes.soughtBlob(serial), subject)
}

/** Of one certificate alone its lineage goes on, and must not go on with that key; where the lineage ends, its keys are nobody's any more. */
const compromisedKey = ({ db }: Parts, { by, value }: RevocationSelector, reason: string): string | null => {
  if (by === 'key') return value
  const row = by === 'serial' && reason === 'keyCompromise' ? rows.certificateBySerial(db, value) : undefined
  return row === undefined ? null : codes.hexOf(row.key_hash)
}

const refuseKey = ({ db }: Parts, keyHash: string, reason: string, at: number): void => {
  db.run(
    'INSERT OR IGNORE INTO revoked_key(key_hash, reason, at) VALUES (?, ?, ?)',
    codes.blobOf(keyHash),
    codes.reasons.code(reason),
    at,
  )
}

/** A verifier knows agents, instances and serials; not owners, tokens or keys: those entries also say what they cover. */
const knownToVerifiers = (
  selector: RevocationSelector,
  radius: BlastRadius,
  instances: readonly string[],
): Readonly<Record<string, unknown>> => {
  if (selector.by === 'owner') return { registrations: radius.registrations }
  if (selector.by === 'token' || selector.by === 'key') return { instances }
  return {}
}
