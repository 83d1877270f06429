// How many signatures a minute a key gives for a purpose: a bound on what a core in an attacker's hands can do before somebody looks.
import type { Clock } from '../base/clock.ts'
import { SignerError } from './errors.ts'
import type { SignPurpose } from './port.ts'

export interface RateCeiling {
  /** @throws SignerError `signer_busy` with rule `rate_ceiling` */
  take(key: string, purpose: SignPurpose, perMinute: number): void
}

/** A bucket per key and purpose, as large as a minute's allowance. Owned by the event loop. */
export const createRateCeiling = (clock: Clock): RateCeiling => {
  const buckets = new Map<string, { left: number; at: number }>()
  return {
    take(key, purpose, perMinute) {
      const name = `${key}/${purpose}`
      const now = clock.monotonic()
      const bucket = buckets.get(name) ?? { left: perMinute, at: now }
      bucket.left = Math.min(perMinute, bucket.left + ((now - bucket.at) * perMinute) / 60_000)
      bucket.at = now
      buckets.set(name, bucket)
      if (bucket.left < 1) {
        const retryAfterSeconds = perMinute === 0 ? 60 : Math.max(1, Math.ceil(((1 - bucket.left) * 60) / perMinute))
        throw new SignerError('signer_busy', `key "${key}" reached ${perMinute} signatures a minute for ${purpose}`, {
          hsmCalled: 'no',
          rule: 'rate_ceiling',
          facts: { retryAfterSeconds },
          hint: 'raise ceilings.perMinute of the key if this load is expected',
        })
      }
      bucket.left -= 1
    },
  }
}
