// Orders of ACME over SQLite. Their certificate is set by issuance (issuance.ts), in the transaction that records the intent.
import type { AcmeOrder, AcmeOrdersPort } from '../acme-port.ts'
import { StoreError } from '../errors.ts'
import * as codes from './codes.ts'
import { isUniqueViolation } from './connection.ts'
import type { Parts } from './parts.ts'
import * as rows from './rows.ts'

interface OrderRow {
  id: string
  account_id: codes.StoredId
  profile: string
  authorizations: string
  not_before: number | null
  not_after: number | null
  replaces: Uint8Array | null
  certificate: Uint8Array | null
  error: string | null
  expires_at: number
  created_at: number
}

const selectOrder = 'SELECT o.*, i.id AS account_id FROM acme_order o JOIN instance i ON i.seq = o.account'

const serialOf = (blob: Uint8Array | null): string | null => (blob === null ? null : codes.hexOf(blob))
const blobOf = (serial: string | null): Uint8Array | null => (serial === null ? null : codes.blobOf(serial))

const orderOf = (row: OrderRow): AcmeOrder => ({
  id: row.id,
  account: codes.idOf(row.account_id),
  profile: row.profile,
  authorizations: JSON.parse(row.authorizations),
  notBefore: row.not_before,
  notAfter: row.not_after,
  replaces: serialOf(row.replaces),
  certificate: serialOf(row.certificate),
  error: row.error === null ? null : JSON.parse(row.error),
  expiresAt: row.expires_at,
  createdAt: row.created_at,
})

const alreadyReplaced = (error: unknown): unknown =>
  isUniqueViolation(error) ? new StoreError('conflict', 'another order replaces this certificate already') : error

export const createAcmeOrders = ({ db, commit, journal }: Parts): AcmeOrdersPort => {
  const get = (id: string): AcmeOrder | null => {
    const row = db.get<OrderRow>(`${selectOrder} WHERE o.id = ?`, id)
    return row === undefined ? null : orderOf(row)
  }

  const insert = (order: AcmeOrder): void => {
    const account = rows.instanceSeq(db, order.account)
    if (account < 0) throw new StoreError('not_found', `no account has id ${order.account}`)
    try {
      db.run(
        `INSERT INTO acme_order(id, account, profile, authorizations, not_before, not_after, replaces, expires_at, created_at)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        order.id,
        account,
        order.profile,
        JSON.stringify(order.authorizations),
        order.notBefore,
        order.notAfter,
        blobOf(order.replaces),
        order.expiresAt,
        order.createdAt,
      )
    } catch (error) {
      throw alreadyReplaced(error)
    }
  }

  return {
    create: (order, leaf) =>
      commit.write(() => {
        insert(order)
        journal.leaf(leaf)
        return order
      }),
    get,
    replacing: serial => {
      const sql = `${selectOrder} WHERE o.replaces = ? AND o.error IS NULL`
      const row = db.get<OrderRow>(sql, codes.blobOf(serial))
      return row === undefined ? null : orderOf(row)
    },
    list: ({ account, before, limit }) => {
      const older = before === undefined ? '' : 'AND o.seq < (SELECT seq FROM acme_order WHERE id = ?)'
      const sql = `${selectOrder} WHERE o.account = ? ${older}
        ORDER BY o.seq DESC LIMIT ?`
      return db
        .all<OrderRow>(sql, rows.instanceSeq(db, account), ...(before === undefined ? [] : [before]), limit)
        .map(orderOf)
    },
    open: (account, now) =>
      db.get<{ n: number }>(
        `SELECT count(*) AS n FROM acme_order WHERE account = ?
           AND certificate IS NULL AND error IS NULL AND expires_at > ?`,
        rows.instanceSeq(db, account),
        now,
      )!.n,
    // By the accounts, which are bounded, and not by all orders that run.
    openOfWaiting: (now, limit) =>
      db.get<{ n: number }>(
        `SELECT count(*) AS n FROM (SELECT 1 FROM acme_account a INDEXED BY acme_account_waiting
           CROSS JOIN acme_order o INDEXED BY acme_order_open ON o.account = a.instance
           WHERE a.waiting_of IS NOT NULL AND o.certificate IS NULL AND o.error IS NULL AND o.expires_at > ? LIMIT ?)`,
        now,
        limit,
      )!.n,
    change: (id, change, leaf) =>
      commit.write(() => {
        const before = get(id)
        if (before === null) throw new StoreError('not_found', `no order has id ${id}`)
        const after = change(before)
        if (after === before) return before
        db.run(
          'UPDATE acme_order SET authorizations = ?, error = ?, expires_at = ? WHERE id = ?',
          JSON.stringify(after.authorizations),
          after.error === null ? null : JSON.stringify(after.error),
          after.expiresAt,
          id,
        )
        if (leaf !== null) journal.leaf(leaf(after))
        return after
      }),
    prune: (before, limit) =>
      commit.write(
        () =>
          db.run(
            `DELETE FROM acme_order WHERE seq IN (SELECT o.seq FROM acme_order o WHERE o.expires_at < ?
               AND (o.replaces IS NULL OR NOT EXISTS (
                 SELECT 1 FROM certificate c WHERE c.serial = o.replaces AND c.not_after > ?))
               ORDER BY o.expires_at LIMIT ?)`,
            before,
            before,
            limit,
          ).changes,
      ),
  }
}
