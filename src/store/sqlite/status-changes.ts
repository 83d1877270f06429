// Tells listeners that a commit changed what CRL and OCSP show, whatever part of the ledger did it: the issuers' revisions say so.
import { messageOf } from '../../base/errors.ts'
import type { Log } from '../../base/log.ts'
import type { Connection } from './connection.ts'

export interface StatusChanges {
  /** After each COMMIT. */
  committed(): void
  /** @returns how to stop listening */
  listen(listener: () => void): () => void
}

export const createStatusChanges = (db: Connection, log: Log): StatusChanges => {
  const listeners = new Set<() => void>()
  // A handful of rows: revisions only grow, so their sum changes whenever one of them does.
  const sum = (): number => db.get<{ n: number }>('SELECT coalesce(sum(revision), 0) AS n FROM issuer')!.n
  let last = sum()
  return {
    committed: () => {
      if (listeners.size === 0) return
      try {
        const now = sum()
        if (now === last) return
        last = now
        for (const listener of listeners) listener()
      } catch (error) {
        log.error({ error: messageOf(error) }, 'a listener of status changes failed')
      }
    },
    listen: listener => {
      last = sum()
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  }
}
