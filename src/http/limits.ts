// How much one caller may ask for: token buckets in memory, by source network for those who showed no certificate of ours and by
// instance for those who did, and a bound on the certificates in work at once. Never in the ledger (architecture.md, Processes).
import type { Clock } from '../base/clock.ts'
import { HttpError } from './errors.ts'

export interface Limits {
  /** @throws HttpError `rate_limited` */
  takeAnonymous(network: string): void
  /**
   * By instance, not by registration: whoever stole one key, revoked or expired as it may be, must not keep the other instances of its
   * agent from renewing.
   * @throws HttpError `rate_limited`
   */
  takeIdentity(instanceId: string): void
}

export interface LimitRates {
  readonly anonymousPerMinute: number
  readonly identityPerMinute: number
}

/** Callers remembered at once. The longest silent is forgotten first, and whoever is forgotten starts with a full bucket. */
const maxBuckets = 20_000

interface Bucket {
  tokens: number
  at: number
}

const createBuckets = <K>(clock: Clock, perMinute: number, bound: number) => {
  const perMs = perMinute / 60_000
  // Ten seconds' worth at once: a fleet behind one address starts together.
  const burst = Math.max(1, perMinute / 6)
  // In the order of last use, owned by this closure.
  const buckets = new Map<K, Bucket>()
  return (key: K): boolean => {
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
    if (bucket.tokens < 1) return false
    bucket.tokens -= 1
    return true
  }
}

const limited = (): HttpError =>
  new HttpError('rate_limited', 'too many requests', { hint: 'wait as long as Retry-After says' })

export const createLimits = (clock: Clock, rates: LimitRates, bound: number = maxBuckets): Limits => {
  const anonymous = createBuckets<string>(clock, rates.anonymousPerMinute, bound)
  const identity = createBuckets<string>(clock, rates.identityPerMinute, bound)
  return {
    takeAnonymous: network => {
      if (!anonymous(network)) throw limited()
    },
    takeIdentity: instanceId => {
      if (!identity(instanceId)) throw limited()
    },
  }
}

/** Issuances in work at once. */
export interface InFlight {
  /** Runs `work`, or refuses at once. @throws HttpError `overloaded` */
  run<T>(work: () => Promise<T>): Promise<T>
}

export const createInFlight = (max: number): InFlight => {
  let running = 0
  return {
    run: async work => {
      if (running >= max) throw new HttpError('overloaded', 'too many certificates are in work')
      running++
      try {
        return await work()
      } finally {
        running--
      }
    },
  }
}
