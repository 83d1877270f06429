// Tells listeners that a commit changed what a query gives: whatever part of the ledger did it, the rows say so.
import { messageOf } from '../../base/errors.ts'
import type { Log } from '../../base/log.ts'
import type { Connection } from './connection.ts'

export interface CommitWatch {
  /** Something was written that the value depends on and that it does not see by itself. */
  touched(): void
  /** After each COMMIT. */
  committed(): void
  /** @returns how to stop listening */
  listen(listener: () => void): () => void
}

/** A number or text that is another one after each change. */
export interface Watched {
  /** False only where nothing was written that could have changed it: then it is not read. */
  mayHaveChanged(): boolean
  read(): unknown
}

export interface WatchedRows {
  /** Whatever changes the value writes one of them. */
  readonly tables: readonly string[]
  /** Gives one row with one `value`. */
  readonly sql: string
}

/** What CRL and OCSP show. A handful of rows: revisions only grow, so their sum changes whenever one of them does. */
export const statusRevision: WatchedRows = {
  tables: ['issuer'],
  sql: 'SELECT coalesce(sum(revision), 0) AS value FROM issuer',
}
/** What the feed holds. A new epoch is a row of `counter`, which every commit writes: whoever begins one says so (`touched`). */
export const feedPosition: WatchedRows = {
  tables: ['feed'],
  sql: `SELECT group_concat(value, '.') AS value FROM counter WHERE name IN ('feed_epoch', 'feed_n')`,
}

export const watchRows = (db: Connection, { tables, sql }: WatchedRows): Watched => {
  let written = false
  db.onWrite(tables, () => {
    written = true
  })
  return {
    mayHaveChanged: () => written,
    read: () => {
      written = false
      return db.get<{ value: unknown }>(sql)!.value
    },
  }
}

export const createCommitWatch = (log: Log, { mayHaveChanged, read }: Watched): CommitWatch => {
  const listeners = new Set<() => void>()
  let last = read()
  let told = false
  return {
    touched: () => {
      told = true
    },
    committed: () => {
      if (listeners.size === 0 || !(told || mayHaveChanged())) return
      told = false
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
