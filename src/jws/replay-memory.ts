// Which proofs were used within their window. In memory only: after a restart a proof can be used once more within its minute, which
// the ledger's own rules make harmless (the proved key is then no longer the last one).

export interface ReplayMemory {
  /**
   * `again`: the very same proof, which is over the same request, as whoever lost its answer sends it. `full`: too many proofs within the window; nothing was remembered, so the caller must refuse.
   * @param proof its digest
   */
  take(id: string, proof: string): 'fresh' | 'again' | 'replayed' | 'full'
  /** What was taken did nothing: it may come again. For whoever got `fresh`, and nobody else. */
  giveBack(id: string): void
}

/**
 * @param now monotonic milliseconds
 * @param windowMs how long a proof could be used: entries live that long, so they end in the order they came
 */
export const createReplayMemory = (now: () => number, windowMs: number, maxEntries: number): ReplayMemory => {
  // Owned by this closure; each value has the time at which the entry is forgotten.
  const seen = new Map<string, { readonly until: number; readonly proof: string }>()
  return {
    take: (id, proof) => {
      const at = now()
      for (const [old, { until }] of seen) {
        if (until > at) break
        seen.delete(old)
      }
      const before = seen.get(id)
      if (before !== undefined) return before.proof === proof ? 'again' : 'replayed'
      if (seen.size >= maxEntries) return 'full'
      seen.set(id, { until: at + windowMs, proof })
      return 'fresh'
    },
    giveBack: id => void seen.delete(id),
  }
}
