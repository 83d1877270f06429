// The life of one credential on the monotonic clock: when to renew it and when it ends, whatever happens to the wall clock.
import type { Timing } from './backoff.ts'
import type { Credential } from './credential.ts'

export interface Lifetime {
  /** Monotonic milliseconds. */
  readonly renewAt: number
  readonly expiresAt: number
}

/** A CA that says "renew at once" must not be asked in a tight loop. */
const leastSeconds = 1

/** From the seconds that came with the answer a moment ago. */
export const freshLifetime = ({ facts }: Credential, { clock }: Timing): Lifetime => {
  const now = clock.monotonic()
  return {
    renewAt: now + Math.max(facts.renewInSeconds, leastSeconds) * 1000,
    expiresAt: now + facts.expiresInSeconds * 1000,
  }
}

/** Read from disk: how long ago the answer came only the wall clock can tell, and it may not give more life than the answer did. */
export const storedLifetime = ({ facts, notAfter }: Credential, { clock }: Timing): Lifetime => {
  const [now, wall] = [clock.monotonic(), clock.now()]
  const left = (until: number, most: number): number => Math.min(Math.max(until - wall, 0), most * 1000)
  return {
    renewAt: now + left(Date.parse(facts.renewAfter), facts.renewInSeconds),
    expiresAt: now + left(notAfter, facts.expiresInSeconds),
  }
}
