// Which proofs were used within their window. In memory only: after a restart a proof can be used once more within its minute, which
// the ledger's own rules make harmless (the proved key is then no longer the last one).

export interface ReplayMemory {
  /** `full`: too many proofs within the window; nothing was remembered, so the caller must refuse. */
  take(id: string): 'fresh' | 'replayed' | 'full'
}

/**
 * @param now monotonic milliseconds
 * @param windowMs how long a proof could be used: entries live that long, so they end in the order they came
 */
export const createReplayMemory = (now: () => number, windowMs: number, maxEntries: number): ReplayMemory => {
  // Owned by this closure; each value is the time at which the entry is forgotten.
  const seen = new Map<string, number>()
  return {
    take: id => {
      const at = now()
      for (const [old, until] of seen) {
        if (until > at) break
        seen.delete(old)
      }
      if (seen.has(id)) return 'replayed'
      if (seen.size >= maxEntries) return 'full'
      seen.set(id, at + windowMs)
      return 'fresh'
    },
  }
}
