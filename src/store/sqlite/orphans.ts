// The orphans port: what the rules look at, by the indexes there are, and the warnings that were given.
import type { NoticeTopic, OrphanNotice, OrphansPort, RegistrationFacts } from '../orphans-port.ts'
import * as codes from './codes.ts'
import type { Parts } from './parts.ts'
import * as rows from './rows.ts'

interface FactsRow extends rows.RegistrationRow {
  owner_confirmed_at: number | null
  attested_at: number | null
  last_issued_at: number | null
}

/** Positions are the codes in the database: append, never reorder. */
const topics: readonly NoticeTopic[] = ['attestation', 'orphan']

// The newest certificate has the highest row: the index of registrations is read from its end until one was given out.
const selectFacts = `SELECT f.*, f.own_attested_at AS attested_at,
  (SELECT max(a.attested_at) FROM registration a WHERE a.owner_id = f.owner_id) AS owner_confirmed_at,
  (SELECT c.issued_at FROM certificate c WHERE c.registration_id = f.id AND c.issued_at IS NOT NULL
   ORDER BY c.row DESC LIMIT 1) AS last_issued_at
  FROM (${rows.selectRegistration.replace('SELECT r.*,', 'SELECT r.*, r.attested_at AS own_attested_at,')}`

export const createOrphans = ({ db, words, commit, journal }: Parts): OrphansPort => {
  const noticesOf = (registrationId: number): readonly OrphanNotice[] =>
    db
      .all<{ topic: number; warned_at: number }>(
        'SELECT topic, warned_at FROM orphan_notice WHERE registration_id = ?',
        registrationId,
      )
      .map(row => ({ topic: topics[row.topic]!, warnedAt: row.warned_at }))
  const factsOf = (row: FactsRow): RegistrationFacts => {
    const registration = rows.registrationOf(row)
    const { owner } = registration
    return {
      registration,
      owner:
        owner === null
          ? null
          : { name: owner, state: codes.activeOrGone.name(row.owner_state!), createdAt: row.owner_created_at! },
      ownerConfirmedAt: row.owner_confirmed_at,
      attestedAt: row.attested_at,
      lastIssuedAt: row.last_issued_at,
      notices: noticesOf(registration.id),
    }
  }
  return {
    registrations: ({ after, limit }) =>
      db
        .all<FactsRow>(`${selectFacts} WHERE r.id > ? AND r.state <> 2 ORDER BY r.id LIMIT ?) f`, after, limit)
        .map(factsOf),
    registration: id => {
      const row = db.get<FactsRow>(`${selectFacts} WHERE r.id = ? AND r.state <> 2) f`, id)
      return row === undefined ? null : factsOf(row)
    },
    instances: ({ registrationId, now, issuedBefore, limit }) =>
      db
        .all<rows.InstanceRow & { last_issued_at: number }>(
          `SELECT f.* FROM (SELECT i.*, (SELECT c.issued_at FROM certificate c WHERE c.instance = i.seq
               AND c.issued_at IS NOT NULL ORDER BY c.row DESC LIMIT 1) AS last_issued_at
             FROM (${rows.selectInstance} WHERE i.registration_id = ? AND i.state <> 2 AND i.live_until > ?) i) f
           WHERE f.last_issued_at < ? ORDER BY f.seq LIMIT ?`,
          registrationId,
          now,
          issuedBefore,
          limit,
        )
        .map(row => ({ ...rows.instanceOf(row), lastIssuedAt: row.last_issued_at })),
    unusedTokens: ({ registrationId, createdBefore, limit }) =>
      db
        .all<rows.TokenRow>(
          `SELECT * FROM token WHERE registration_id = ? AND state = 0 AND uses_taken = 0 AND created_at < ?
           ORDER BY seq LIMIT ?`,
          registrationId,
          createdBefore,
          limit,
        )
        .map(row => rows.tokenOf(words, row)),
    warn: (registrationId, { topic, warnedAt }, leaf) =>
      commit.write(() => {
        db.run(
          `INSERT INTO orphan_notice(registration_id, topic, warned_at) VALUES (?, ?, ?)
           ON CONFLICT (registration_id, topic) DO UPDATE SET warned_at = excluded.warned_at`,
          registrationId,
          topics.indexOf(topic),
          warnedAt,
        )
        journal.leaf(leaf)
      }),
    forget: (registrationId, topic) =>
      commit.write(() => {
        db.run(
          'DELETE FROM orphan_notice WHERE registration_id = ? AND topic = ?',
          registrationId,
          topics.indexOf(topic),
        )
      }),
  }
}
