// The feed port: reading the sequence that the journal writes, and the state that it leads to.
import type { FeedPort, FeedSnapshot } from '../ports.ts'
import type { Registration } from '../records.ts'
import * as codes from './codes.ts'
import type { Connection, ReadTransaction } from './connection.ts'
import { type RootRow, selectRoots } from './issuers.ts'
import type { Parts } from './parts.ts'
import { type RegistrationRow, registrationOf, selectRegistration } from './rows.ts'

type Reader = Pick<Connection, 'get'>

const headOf = (db: Reader): ReturnType<FeedPort['head']> => ({
  epoch: db.get<{ value: string }>(`SELECT value FROM counter WHERE name = 'feed_epoch'`)!.value,
  n: db.get<{ value: number }>(`SELECT value FROM counter WHERE name = 'feed_n'`)!.value,
})

export const createFeed = ({ db, commit, journal, appended }: Parts): FeedPort => ({
  head: () => headOf(db),
  oldest: () => db.get<{ n: number | null }>('SELECT min(n) AS n FROM feed')!.n ?? headOf(db).n + 1,
  read: (afterN, limit) =>
    db
      .all<{ n: number; type: string; at: number; body: string }>(
        'SELECT * FROM feed WHERE n > ? ORDER BY n LIMIT ?',
        afterN,
        limit,
      )
      .map(row => ({ n: row.n, type: row.type, at: row.at, body: JSON.parse(row.body) })),
  onAppend: appended.listen,
  snapshot: at => openSnapshot(db.beginRead(), at),
  prune: ({ keep, before, limit }) =>
    commit.write(
      () =>
        db.run(
          'DELETE FROM feed WHERE n IN (SELECT n FROM feed WHERE n <= ? AND at < ? ORDER BY n LIMIT ?)',
          headOf(db).n - keep,
          before,
          limit,
        ).changes,
    ),
  newEpoch: leaf =>
    commit.write(() => {
      const from = headOf(db)
      db.run(`UPDATE counter SET value = lower(hex(randomblob(8))) WHERE name = 'feed_epoch'`)
      appended.touched()
      const to = headOf(db)
      journal.leaf(leaf(from, to))
      return to
    }),
})

interface ListedRow {
  readonly serial: Uint8Array
  readonly reason: number
  readonly not_after: number
}

interface PoliciesRow {
  readonly id: number
  readonly hash: string
}

const certificateHold = codes.reasons.code('certificateHold')

// A retired registration matters as long as its latest certificate: all of them are listed as revoked anyway, and whoever is not known
// is refused.
const principals = `${selectRegistration} WHERE r.state <> 2
  OR (SELECT c.not_after FROM certificate c WHERE c.registration_id = r.id ORDER BY c.row DESC LIMIT 1) > ? ORDER BY r.id`

/** Of a trust bundle; two while one takes the place of another. */
const maxRoots = 100

const openSnapshot = (reader: ReadTransaction, at: number): FeedSnapshot => {
  const { epoch, n } = headOf(reader)
  const listed = reader.rows<ListedRow>(
    'SELECT serial, reason, not_after FROM revocation WHERE listed = 1 AND not_after > ?',
    at,
  )
  const registrations = reader.rows<RegistrationRow>(principals, at)
  const [policies] = take(reader.rows<PoliciesRow>('SELECT id, hash FROM policy_version WHERE active = 1'), 1)
  return {
    epoch,
    n,
    roots: take(reader.rows<RootRow>(selectRoots), maxRoots).map(row => codes.bytesOf(row.certificate)),
    policies: { version: policies?.id ?? 0, hash: policies?.hash ?? '' },
    statuses: limit =>
      take(listed, limit).map(row => ({
        serial: codes.hexOf(row.serial),
        notAfter: row.not_after,
        held: row.reason === certificateHold,
      })),
    registrations: limit => take(registrations, limit).map((row): Registration => registrationOf(row)),
    [Symbol.dispose]: () => reader[Symbol.dispose](),
  }
}

const take = <Row>(rows: Iterator<Row>, limit: number): readonly Row[] => {
  const taken: Row[] = []
  while (taken.length < limit) {
    const next = rows.next()
    if (next.done === true) break
    taken.push(next.value)
  }
  return taken
}
