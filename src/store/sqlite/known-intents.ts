// Where the intents of this process stand in the ledger: a certificate that is signed need not be looked up by its serial again. Only what
// never changes of a row is kept; whether it is still an intent says the row.
import * as codes from './codes.ts'
import type { Connection } from './connection.ts'

export interface KnownIntent {
  readonly row: number
  readonly issuerId: number
  /** Row of the certificate that this one replaces. */
  readonly supersedes: number | null
}

export interface KnownIntents {
  /** Of the next certificate, for whatever points to it; inside a transaction that inserts it. */
  nextRow(): number
  remember(serial: string, intent: KnownIntent): void
  /** From memory, or else from the ledger. @returns null when no certificate has the serial */
  find(serial: string): KnownIntent | null
}

/** Far more than can be in work at once; a full memory starts anew. */
const maxKnown = 10_000

interface Row {
  readonly row: number
  readonly issuer_id: number
  readonly supersedes: number | null
}

export const createKnownIntents = (db: Connection): KnownIntents => {
  const known = new Map<string, KnownIntent>()
  let next: number | null = null
  // Rows of a transaction that was rolled back are given to others.
  db.onForget(() => {
    known.clear()
    next = null
  })
  return {
    nextRow: () => {
      next ??= db.get<{ next: number }>('SELECT coalesce(max(row), 0) + 1 AS next FROM certificate')!.next
      return next++
    },
    remember: (serial, intent) => {
      if (known.size >= maxKnown) known.clear()
      known.set(serial, intent)
    },
    find: serial => {
      const remembered = known.get(serial)
      if (remembered !== undefined) {
        // Each is released once.
        known.delete(serial)
        return remembered
      }
      const found = db.get<Row>(
        'SELECT row, issuer_id, supersedes FROM certificate WHERE serial = +?',
        codes.soughtBlob(serial),
      )
      return found === undefined ? null : { row: found.row, issuerId: found.issuer_id, supersedes: found.supersedes }
    },
  }
}
