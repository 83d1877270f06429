// Accounts without a binding that have no certificate: counted, and removed with everything that is theirs. Nothing else of the ledger
// speaks of them: a certificate, and be it a voided one, has taken an account out of `waiting_of` for good.
import type { AcmeAccountsPort, WaitingAccounts } from '../acme-port.ts'
import type { Connection } from './connection.ts'
import type { Parts } from './parts.ts'
import * as rows from './rows.ts'

// Their number is a row of `counter`, made when it is first asked for and kept with every insert and end of one, in the same transaction:
// anybody can ask for it, and counting a million takes long under the one write lock.
const counterOf = (registrationId: number): string => `waiting/${registrationId}`

/** Inside the transaction that changes how many there are. Nothing where they were never counted. */
const count = (db: Connection, registrationId: number, more: number): void => {
  const sql = 'UPDATE counter SET value = value + CAST(? AS INTEGER) WHERE name = ?'
  db.run(sql, more, counterOf(registrationId))
}

const counted = (db: Connection, registrationId: number): number => {
  const name = counterOf(registrationId)
  const known = db.get<{ value: number }>('SELECT value FROM counter WHERE name = ?', name)
  if (known !== undefined) return known.value
  const sql = `INSERT INTO counter(name, value) SELECT ?, count(*) FROM acme_account WHERE waiting_of = ? RETURNING value`
  return db.get<{ value: number }>(sql, name, registrationId)!.value
}

/** Inside a transaction that may write. */
export const waitingAccounts = (db: Connection, registrationId: number): WaitingAccounts => {
  const sql = 'SELECT created_at FROM acme_account WHERE waiting_of = ? ORDER BY created_at LIMIT 1'
  const oldest = db.get<{ created_at: number }>(sql, registrationId)
  return { count: counted(db, registrationId), oldestAt: oldest?.created_at ?? null }
}

/** An account was inserted that waits. */
export const beginWaiting = (db: Connection, registrationId: number): void => count(db, registrationId, 1)

/** Rows of the ledger speak of it from now on: the account is there for good. */
export const endWaiting = (db: Connection, instance: number, registrationId: number): void => {
  const sql = 'UPDATE acme_account SET waiting_of = NULL WHERE instance = +? AND waiting_of IS NOT NULL'
  if (db.run(sql, instance).changes > 0) count(db, registrationId, -1)
}

const removeAccount = ({ db }: Parts, account: number): void => {
  db.run('DELETE FROM acme_order WHERE account = ?', account)
  db.run('DELETE FROM acme_key WHERE account = ?', account)
  db.run('DELETE FROM acme_account WHERE instance = ?', account)
  // Row numbers are never given to others, so the newest one stays, as what it is without an account: an instance that has nothing.
  db.run('DELETE FROM instance WHERE seq = +? AND seq < (SELECT max(seq) FROM instance)', account)
}

export const pruneWaiting =
  (parts: Parts): AcmeAccountsPort['pruneWaiting'] =>
  ({ createdBefore, now, limit }, leaf) =>
    parts.commit.write(() => {
      const { db, journal } = parts
      const ended = db.all<{ instance: number; waiting_of: number }>(
        `SELECT instance, waiting_of FROM acme_account a WHERE waiting_of IS NOT NULL AND created_at < ?
           AND NOT EXISTS (SELECT 1 FROM acme_order o WHERE o.account = a.instance AND o.expires_at > ?)
           ORDER BY created_at LIMIT ?`,
        createdBefore,
        now,
        limit,
      )
      for (const { instance } of ended) removeAccount(parts, instance)
      for (const [id, of] of Map.groupBy(ended, row => row.waiting_of)) {
        count(db, id, -of.length)
        journal.leaf(leaf(rows.registrationById(db, id)!, of.length))
      }
      return ended.length
    })
