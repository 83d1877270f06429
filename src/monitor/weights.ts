// How much memory a set of things takes, roughly: each says what it weighs, and is weighed again whenever it may have changed.

export interface Weighed {
  /** Bytes, as counted at measured sizes, not as the heap has them. */
  readonly weight: number
}

export interface Weights {
  weigh(thing: Weighed): void
  drop(thing: Weighed): void
  readonly total: number
}

export const createWeights = (): Weights => {
  // Owned by this closure.
  const weights = new Map<Weighed, number>()
  let total = 0
  const drop = (thing: Weighed): void => {
    total -= weights.get(thing) ?? 0
    weights.delete(thing)
  }
  return {
    weigh: thing => {
      drop(thing)
      weights.set(thing, thing.weight)
      total += thing.weight
    },
    drop,
    get total() {
      return total
    },
  }
}
