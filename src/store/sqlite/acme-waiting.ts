// Accounts without a binding that have no certificate: counted, and removed with everything that is theirs. Nothing else of the ledger
// speaks of them: a certificate, and be it a voided one, has taken an account out of `waiting_of` for good.
import type { AcmeAccountsPort, WaitingAccounts } from '../acme-port.ts'
import type { Connection } from './connection.ts'
import type { Parts } from './parts.ts'
import * as rows from './rows.ts'

/** @param limit counted up to it */
export const waitingAccounts = (db: Connection, registrationId: number, limit: number): WaitingAccounts => {
  const found = db.get<{ n: number; oldest: number | null }>(
    `SELECT count(*) AS n, min(created_at) AS oldest FROM
       (SELECT created_at FROM acme_account WHERE waiting_of = ? ORDER BY created_at LIMIT ?)`,
    registrationId,
    limit,
  )!
  return { count: found.n, oldestAt: found.oldest }
}

const removeAccount = ({ db }: Parts, account: number): void => {
  db.run('DELETE FROM acme_order WHERE account = ?', account)
  db.run('DELETE FROM acme_key WHERE account = ?', account)
  db.run('DELETE FROM acme_account WHERE instance = ?', account)
  db.run('DELETE FROM instance WHERE seq = ?', account)
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
      for (const [id, of] of Map.groupBy(ended, row => row.waiting_of))
        journal.leaf(leaf(rows.registrationById(db, id)!, of.length))
      return ended.length
    })
