// What a hold, lock, retirement or revocation does to certificates, intents and instances: set-based, inside the caller's
// transaction. The rows to change are first collected in the temporary table `hit`; then counted, then changed.
import type { BlastRadius } from '../ports.ts'
import * as codes from './codes.ts'
import type { Connection, SqlValue } from './connection.ts'

/** Which rows: a condition over `certificate c` (and `instance i` of it) with its values. */
export interface Selection {
  readonly from: string
  readonly where: string
  readonly values: readonly SqlValue[]
}

export const ofInstance = (seq: number): Selection => ({
  from: 'certificate c JOIN instance i ON i.seq = c.instance',
  where: 'c.instance = ?',
  values: [seq],
})

/** By way of the instances that still have something live: a registration's history may be long. */
export const ofRegistration = (id: number, now: number): Selection => ({
  from: 'instance i JOIN certificate c ON c.instance = i.seq',
  where: 'i.registration_id = ? AND i.state <> 2 AND i.live_until > ?',
  values: [id, now],
})

export const ofRow = (row: number): Selection => ({
  from: 'certificate c JOIN instance i ON i.seq = c.instance',
  where: 'c.row = ?',
  values: [row],
})

/** Collects unexpired rows of these states. */
export const collect = (db: Connection, selection: Selection, states: readonly number[], now: number): void => {
  db.run('DELETE FROM temp.hit')
  addHits(db, selection, states, now)
}

export const addHits = (db: Connection, selection: Selection, states: readonly number[], now: number): void => {
  db.run(
    `INSERT OR IGNORE INTO temp.hit SELECT c.row FROM ${selection.from}
     WHERE ${selection.where} AND c.state IN (${states.join(',')}) AND c.not_after > ?`,
    ...selection.values,
    now,
  )
}

/** The size of what was collected; `tokens` and names are the caller's to fill in. */
export const hitRadius = (db: Connection): BlastRadius => {
  const counted = db.get<{ intents: number; certificates: number; instances: number }>(
    `SELECT count(*) FILTER (WHERE c.state = ${codes.INTENT}) AS intents,
       count(*) FILTER (WHERE c.state <> ${codes.INTENT}) AS certificates, count(DISTINCT c.instance) AS instances
     FROM temp.hit h JOIN certificate c ON c.row = h.row`,
  )!
  const names = db.all<{ kind: number; name: string }>(
    `SELECT r.kind, r.name FROM registration r WHERE r.id IN
       (SELECT DISTINCT c.registration_id FROM temp.hit h JOIN certificate c ON c.row = h.row) ORDER BY r.kind, r.name`,
  )
  const serials = db.all<{ serial: Uint8Array }>(
    'SELECT c.serial FROM temp.hit h JOIN certificate c ON c.row = h.row ORDER BY h.row DESC LIMIT 1000',
  )
  return {
    registrations: names.map(row => ({ kind: codes.subjectKinds.name(row.kind), name: row.name })),
    instances: counted.instances,
    certificates: counted.certificates,
    intents: counted.intents,
    tokens: 0,
    serials: serials.map(row => codes.hexOf(row.serial)),
    subscriptions: 0,
  }
}

export interface StatusMark {
  readonly state: number
  readonly reason: string
  readonly cause: codes.Cause
  readonly at: number
}

/** Held, revoked or orphaned: the rows and what CRL and OCSP show of them. */
export const markHits = (db: Connection, mark: StatusMark): void => {
  const reason = codes.reasons.code(mark.reason)
  const cause = codes.causes.code(mark.cause)
  if (mark.state === codes.REVOKED) countDoubtful(db)
  db.run(
    `UPDATE certificate SET state = ?, revoked_at = ?, reason = ?, cause = ? WHERE row IN (SELECT row FROM temp.hit)`,
    mark.state,
    mark.at,
    reason,
    cause,
  )
  writeStatus(db, true)
  if (mark.state !== codes.HELD) refreshLiveUntil(db)
}

/**
 * An intent that is revoked may be signed all the same, and its signature may be lost with the process that waits for it: counted, so
 * that it can be held against the signer's count without looking through everything that was ever revoked.
 */
const countDoubtful = (db: Connection): void => {
  db.run(
    `INSERT INTO counter(name, value) SELECT 'doubtful/' || c.issuer_id, count(*) FROM temp.hit h JOIN certificate c ON c.row = h.row
     WHERE c.state = ${codes.INTENT} AND substr(c.signature, 1, 1) = x'00' GROUP BY c.issuer_id
     ON CONFLICT (name) DO UPDATE SET value = value + excluded.value`,
  )
}

/** Its signature came after all, or certainly never will. */
export const settleDoubtful = (db: Connection, issuerId: number): void => {
  db.run('UPDATE counter SET value = value - 1 WHERE name = ?', `doubtful/${issuerId}`)
}

/** Held rows become issued again; their entry stays behind, unlisted, so that caches learn of the change. */
export const releaseHits = (db: Connection): void => {
  writeStatus(db, false)
  db.run(
    `UPDATE certificate SET state = ${codes.ISSUED}, revoked_at = NULL, reason = NULL, cause = NULL
     WHERE row IN (SELECT row FROM temp.hit)`,
  )
}

/** Each changed serial gets a revision of its own, so that a reader can go on after any page. */
const writeStatus = (db: Connection, listed: boolean): void => {
  db.run(
    `INSERT INTO revocation(issuer_id, serial, listed, reason, cause, revoked_at, not_after, revision)
     SELECT c.issuer_id, c.serial, ?, c.reason, c.cause, c.revoked_at, c.not_after,
       s.revision + row_number() OVER (PARTITION BY c.issuer_id ORDER BY c.row)
     FROM temp.hit h JOIN certificate c ON c.row = h.row JOIN issuer s ON s.id = c.issuer_id WHERE true
     ON CONFLICT (issuer_id, serial) DO UPDATE SET listed = excluded.listed, reason = excluded.reason, cause = excluded.cause,
       revoked_at = excluded.revoked_at, revision = excluded.revision`,
    listed ? 1 : 0,
  )
  db.run(
    `UPDATE issuer SET revision = revision + n FROM (SELECT c.issuer_id AS id, count(*) AS n
       FROM temp.hit h JOIN certificate c ON c.row = h.row GROUP BY c.issuer_id) AS hits WHERE hits.id = issuer.id`,
  )
}

const liveStates = `${codes.INTENT}, ${codes.ISSUED}, ${codes.HELD}`

/** Whatever the time is now: one that was wrong must not make what is live look ended, for every later hold would pass it by. */
const latestLive = (instance: string): string =>
  `coalesce((SELECT c.not_after FROM certificate c WHERE c.instance = ${instance} AND c.state IN (${liveStates})
     ORDER BY c.not_after DESC LIMIT 1), 0)`

const refreshLiveUntil = (db: Connection): void => {
  db.run(
    `UPDATE instance SET live_until = ${latestLive('instance.seq')}
     WHERE seq IN (SELECT DISTINCT c.instance FROM temp.hit h JOIN certificate c ON c.row = h.row) AND live_until > 0`,
  )
}

/** After one row stopped counting (void). */
export const refreshLiveUntilOf = (db: Connection, instance: number): void => {
  db.run(`UPDATE instance SET live_until = ${latestLive('instance.seq')} WHERE seq = ?`, instance)
}
