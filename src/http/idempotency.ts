// Idempotency keys: a key that was used for one certification request is refused for another. In memory only, because what makes a
// repeated request safe is the ledger (a token's use and a lineage belong to a key); this catches a client that mixes its requests up.
import { createHash } from 'node:crypto'
import { toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { HttpError } from './errors.ts'

const ttlMs = 86_400_000
const maxEntries = 20_000

interface Entry {
  readonly csrHash: string
  readonly until: number
  /** Requests in work under this key. */
  pending: number
  /** True once one of them was answered. */
  answered: boolean
}

export interface IdempotencyKeys {
  /**
   * Runs `work`, unless the key belongs to another request of the same evidence. A refused request leaves its key free.
   * @param evidence whose key it is: keys of different callers have nothing to do with each other
   * @throws HttpError `idempotency_key_reused`
   */
  run<T>(evidence: string, key: string | undefined, csr: Uint8Array, work: () => Promise<T>): Promise<T>
}

export const createIdempotencyKeys = (clock: Clock, bound: number = maxEntries): IdempotencyKeys => {
  // In the order of first use, so expired ones are in front. Owned by this closure.
  const entries = new Map<string, Entry>()

  const makeRoom = (at: number): void => {
    for (const [name, entry] of entries) {
      if (entry.until > at && entries.size < bound) return
      entries.delete(name)
    }
  }

  const claim = (name: string, csrHash: string): Entry => {
    const at = clock.monotonic()
    makeRoom(at)
    const entry = entries.get(name) ?? { csrHash, until: at + ttlMs, pending: 0, answered: false }
    if (entry.csrHash !== csrHash)
      throw new HttpError(
        'idempotency_key_reused',
        'this idempotency key was used with another certification request',
        {
          hint: 'draw a new key for each new request; keep it for retries of the same one',
        },
      )
    entries.set(name, entry)
    entry.pending++
    return entry
  }

  return {
    run: async (evidence, key, csr, work) => {
      if (key === undefined) return work()
      const name = `${evidence} ${key}`
      const entry = claim(name, toHex(createHash('sha256').update(csr).digest()))
      try {
        const answer = await work()
        entry.answered = true
        return answer
      } finally {
        entry.pending--
        if (!entry.answered && entry.pending === 0 && entries.get(name) === entry) entries.delete(name)
      }
    },
  }
}
