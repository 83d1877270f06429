// Batches that were taken already: a sender that got no answer sends the same one again, and it must not count twice. Bounded.

const maxSenders = 10_000
/** A sender repeats its last batch only; several may share one identity. */
const keptEach = 16

export interface Batches {
  /** @returns whether it is new */
  take(sender: string, id: string): boolean
}

export const createBatches = (): Batches => {
  // Owned by this closure; senders in the order of their last batch.
  const taken = new Map<string, string[]>()
  return {
    take: (sender, id) => {
      const ids = taken.get(sender) ?? []
      taken.delete(sender)
      taken.set(sender, ids)
      if (taken.size > maxSenders) taken.delete(taken.keys().next().value as string)
      if (ids.includes(id)) return false
      ids.push(id)
      if (ids.length > keptEach) ids.shift()
      return true
    },
  }
}
