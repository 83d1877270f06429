// Signatures that came back from the signer, ever, by issuer: what its own count is held against. Counted in memory while calls run and
// written once at the end of their transaction.
import type { Connection } from './connection.ts'

export interface SignatureCount {
  add(issuerId: number): void
  /** Inside the transaction, after the calls that counted. */
  write(): void
}

export const createSignatureCount = (db: Connection): SignatureCount => {
  // Owned by this closure; empty outside of a transaction.
  const added = new Map<number, number>()
  db.onForget(() => added.clear())
  return {
    add: issuerId => {
      added.set(issuerId, (added.get(issuerId) ?? 0) + 1)
    },
    write: () => {
      // A number is bound as REAL, so that the name ends in `.0`.
      for (const [issuerId, count] of added)
        db.run(
          `INSERT INTO counter(name, value) VALUES ('signed/' || ?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value`,
          issuerId,
          count,
        )
      added.clear()
    },
  }
}
