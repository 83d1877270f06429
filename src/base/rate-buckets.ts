// Token buckets by key, in memory: how many at once, and how many a minute after that. Bounded: the longest silent key is forgotten first,
// and whoever is forgotten starts with a full bucket.
import type { Clock } from './clock.ts'

export interface Rate {
  /** At once, by whoever was silent before. */
  readonly burst: number
  readonly perMinute: number
}

export interface RateBuckets<K> {
  /** @returns 0: taken; else the milliseconds until there is one to take, and nothing was taken */
  take(key: K): number
  /** What was taken came to nothing. */
  giveBack(key: K): void
}

interface Bucket {
  tokens: number
  at: number
}

export const createRateBuckets = <K>(
  clock: Pick<Clock, 'monotonic'>,
  { burst, perMinute }: Rate,
  bound: number,
): RateBuckets<K> => {
  const perMs = perMinute / 60_000
  // In the order of last use, owned by this closure.
  const buckets = new Map<K, Bucket>()
  return {
    take: key => {
      const at = clock.monotonic()
      let bucket = buckets.get(key)
      if (bucket === undefined) {
        if (buckets.size >= bound) buckets.delete(buckets.keys().next().value as K)
        bucket = { tokens: burst, at }
      } else {
        buckets.delete(key)
        bucket.tokens = Math.min(burst, bucket.tokens + (at - bucket.at) * perMs)
        bucket.at = at
      }
      buckets.set(key, bucket)
      if (bucket.tokens < 1) return Math.max(1, Math.ceil((1 - bucket.tokens) / perMs))
      bucket.tokens -= 1
      return 0
    },
    giveBack: key => {
      const bucket = buckets.get(key)
      if (bucket !== undefined) bucket.tokens = Math.min(burst, bucket.tokens + 1)
    },
  }
}
