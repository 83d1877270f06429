// How far a verifier may trust what it knows (architecture.md, Revocation): live while the feed's lease runs, then while a signed state
// holds, then for as long as the operator of the backend said, and then by that operator's own word. Times are arguments: monotonic
// ones for how long ago something was confirmed, the wall clock only for ends that somebody signed.

export interface StalenessPolicy {
  /** What happens to calls once nothing vouches for the state any more. */
  readonly onStale: 'refuse' | 'allow'
  /** How long after its last confirmation the state is relied on without anybody vouching for it: the bound for a revoked caller. */
  readonly maxStalenessMs: number
}

/** What is known of the state's age. Monotonic times are of this process. */
export interface Confirmations {
  /** Monotonic: when any source last confirmed the state that is applied; null before the first verified state. */
  readonly confirmedAt: number | null
  /** Monotonic: until when the last heartbeat of a live feed vouches; null without one. */
  readonly leaseUntil: number | null
  /** Wall clock: `nextUpdate` of the signed state or CRLs that are applied; null without one. */
  readonly publishedUntil: number | null
}

export interface Instant {
  /** Milliseconds since the epoch. */
  readonly wall: number
  readonly monotonic: number
}

export type Freshness =
  | { readonly rung: 'live' | 'published' | 'aging'; readonly trusted: true; readonly ageMs: number }
  /** Nothing vouches for it, and `onStale` says that calls go on. */
  | { readonly rung: 'stale'; readonly trusted: true; readonly ageMs: number }
  | { readonly rung: 'stale'; readonly trusted: false; readonly ageMs: number }
  /** There was never a verified state: nobody is let in. */
  | { readonly rung: 'unknown'; readonly trusted: false; readonly ageMs: null }

const unknown: Freshness = { rung: 'unknown', trusted: false, ageMs: null }

export const freshnessAt = (known: Confirmations, policy: StalenessPolicy, now: Instant): Freshness => {
  if (known.confirmedAt === null) return unknown
  const ageMs = Math.max(0, now.monotonic - known.confirmedAt)
  if (known.leaseUntil !== null && now.monotonic < known.leaseUntil) return { rung: 'live', trusted: true, ageMs }
  if (known.publishedUntil !== null && now.wall < known.publishedUntil)
    return { rung: 'published', trusted: true, ageMs }
  if (ageMs <= policy.maxStalenessMs) return { rung: 'aging', trusted: true, ageMs }
  return { rung: 'stale', trusted: policy.onStale === 'allow', ageMs }
}

/** For how long it stays trusted while nobody says anything more, whatever `onStale` says of what comes then. 0: it is not now. */
export const trustedForMs = (known: Confirmations, policy: StalenessPolicy, now: Instant): number => {
  if (known.confirmedAt === null) return 0
  const lease = (known.leaseUntil ?? now.monotonic) - now.monotonic
  const published = (known.publishedUntil ?? now.wall) - now.wall
  return Math.max(0, lease, published, known.confirmedAt + policy.maxStalenessMs - now.monotonic)
}
