// How many certificates one instance, and one registration, may get: a holder of one key, thief or program in a loop, must not fill ledger,
// CRL and HSM with what nobody needs. Counted in memory, at what is recorded; an answer that is repeated, and an attempt that came to
// nothing, are never counted. How often somebody may ask is another limit, and the HTTP layer's.
import type { Clock } from '../base/clock.ts'
import { createRateBuckets, type Rate } from '../base/rate-buckets.ts'
import { CaError } from './errors.ts'

/** As a decision names them. */
export interface Paced {
  readonly registration: { readonly id: number; readonly kind: string; readonly name: string }
  /** None where a new one begins. */
  readonly instance?: { readonly id: string }
}

export interface IssuancePace {
  /**
   * Counted before the work begins, so that many at once are counted too.
   * @returns what gives it back, where it led to no new certificate
   * @throws CaError `issuance_rate_limited`, before anything was done
   */
  take(whose: Paced): () => void
}

export interface PaceRates {
  readonly perInstance: Rate
  readonly perRegistration: Rate
}

/** Remembered at once; beyond it the longest silent begin anew. */
const maxInstances = 100_000
const maxRegistrations = 20_000

const limited = (whose: string, waitMs: number): CaError => {
  const retryAfterSeconds = Math.ceil(waitMs / 1000)
  return new CaError('issuance_rate_limited', `${whose} got too many certificates in too short a time`, {
    facts: { retryAfterSeconds },
    hint: `wait ${retryAfterSeconds} s and keep the certificate there is; if it is no error, raise issuance.perInstance or issuance.perRegistration`,
  })
}

export const createIssuancePace = (clock: Pick<Clock, 'monotonic'>, rates: PaceRates): IssuancePace => {
  const instances = createRateBuckets<string>(clock, rates.perInstance, maxInstances)
  const registrations = createRateBuckets<number>(clock, rates.perRegistration, maxRegistrations)
  return {
    take: ({ registration: { id, kind, name }, instance }) => {
      const own = instance === undefined ? 0 : instances.take(instance.id)
      if (own > 0) throw limited(`instance ${instance?.id}`, own)
      const giveBackOwn = (): void => {
        if (instance !== undefined) instances.giveBack(instance.id)
      }
      const shared = registrations.take(id)
      if (shared > 0) {
        giveBackOwn()
        throw limited(`${kind} ${name}`, shared)
      }
      return () => {
        giveBackOwn()
        registrations.giveBack(id)
      }
    },
  }
}
