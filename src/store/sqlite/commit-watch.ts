// Tells listeners that a commit changed what a query gives: whatever part of the ledger did it, the rows say so.
import { messageOf } from '../../base/errors.ts'
import type { Log } from '../../base/log.ts'
import type { Connection } from './connection.ts'

export interface CommitWatch {
  /** After each COMMIT. */
  committed(): void
  /** @returns how to stop listening */
  listen(listener: () => void): () => void
}

/** What CRL and OCSP show. A handful of rows: revisions only grow, so their sum changes whenever one of them does. */
export const statusRevision = 'SELECT coalesce(sum(revision), 0) AS value FROM issuer'
/** What the feed holds. */
export const feedPosition = `SELECT group_concat(value, '.') AS value FROM counter WHERE name IN ('feed_epoch', 'feed_n')`

/** What the audit log holds. */
export const logPosition = 'SELECT max(idx) AS value FROM audit_leaf'

/** @param sql gives one row with one `value` */
export const createCommitWatch = (db: Connection, log: Log, sql: string): CommitWatch => {
  const listeners = new Set<() => void>()
  const read = (): unknown => db.get<{ value: unknown }>(sql)!.value
  let last = read()
  return {
    committed: () => {
      if (listeners.size === 0) return
      try {
        const now = read()
        if (now === last) return
        last = now
        for (const listener of listeners) listener()
      } catch (error) {
        log.error({ error: messageOf(error) }, 'a listener of commits failed')
      }
    },
    listen: listener => {
      last = read()
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  }
}
