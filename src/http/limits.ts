// How much one caller may ask for: token buckets in memory, by source network for those who showed no certificate of ours and by
// instance for those who did, and a bound on the certificates in work at once. Never in the ledger (architecture.md, Processes).
import type { Clock } from '../base/clock.ts'
import { createRateBuckets, type Rate } from '../base/rate-buckets.ts'
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
  /**
   * A request that came without a certificate, and turned out to be signed by an instance's key: counted by that, and no longer by where it
   * came from. A fleet behind one address is not held back by its size.
   * @throws HttpError `rate_limited`
   */
  recognised(network: string, instanceId: string): void
}

export interface LimitRates {
  readonly anonymousPerMinute: number
  readonly identityPerMinute: number
}

/** Callers remembered at once. */
const maxBuckets = 20_000

const limited = (): HttpError =>
  new HttpError('rate_limited', 'too many requests', { hint: 'wait as long as Retry-After says' })

export const createLimits = (clock: Clock, rates: LimitRates, bound: number = maxBuckets): Limits => {
  // Ten seconds' worth at once: a fleet behind one address starts together.
  const rateOf = (perMinute: number): Rate => ({ perMinute, burst: Math.max(1, perMinute / 6) })
  const anonymous = createRateBuckets<string>(clock, rateOf(rates.anonymousPerMinute), bound)
  const identity = createRateBuckets<string>(clock, rateOf(rates.identityPerMinute), bound)
  return {
    takeAnonymous: network => {
      if (anonymous.take(network) > 0) throw limited()
    },
    takeIdentity: instanceId => {
      if (identity.take(instanceId) > 0) throw limited()
    },
    recognised: (network, instanceId) => {
      // Whoever asks too much stays counted by the address as well, or each of its requests would cost a signature's check.
      if (identity.take(instanceId) > 0) throw limited()
      anonymous.giveBack(network)
    },
  }
}

/** Issuances in work at once. */
export interface InFlight {
  /** What begins a lineage: a start-up storm takes three quarters of the places. @throws HttpError `overloaded` */
  run<T>(work: () => Promise<T>): Promise<T>
  /** What goes on with one, and has a certificate that ends: takes any place. @throws HttpError `overloaded` */
  renew<T>(work: () => Promise<T>): Promise<T>
}

export const createInFlight = (max: number): InFlight => {
  let running = 0
  const within = async <T>(places: number, work: () => Promise<T>): Promise<T> => {
    if (running >= places) throw new HttpError('overloaded', 'too many certificates are in work')
    running++
    try {
      return await work()
    } finally {
      running--
    }
  }
  const beginnings = Math.ceil(max * 0.75)
  return { run: work => within(beginnings, work), renew: work => within(max, work) }
}
