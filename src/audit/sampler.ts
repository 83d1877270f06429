// Refusals that a caller can cause without limit: a few per code and source network get a leaf of their own, all others are counted,
// and the counts become one summary leaf a minute. Whoever has been named (the holder of a join token, of a key or of a certificate that
// is no longer good) is counted by that name and apart from strangers, whose flood must not hide what a named one did. Memory is bounded
// too: sources, and names, beyond the bound share a bucket.
import type { Clock } from '../base/clock.ts'
import type { LeafDraft } from '../store/records.ts'
import { refusalsSummary } from './events.ts'

export interface SamplerLimits {
  /** Leaves of their own per (code, network) or (code, name): burst, and one more every so many milliseconds. */
  readonly burst: number
  readonly refillMs: number
  /** Leaves of their own from all strangers together, a minute. */
  readonly globalPerMinute: number
  readonly maxBuckets: number
}

export const defaultSamplerLimits: SamplerLimits = {
  burst: 5,
  refillMs: 10_000,
  globalPerMinute: 300,
  maxBuckets: 10_000,
}

export interface Sampler {
  /**
   * True: write a leaf for this one. False: it was counted.
   * @param name who it was, where the ledger knows: a name that nobody can make up, or their number would be without bound
   */
  admit(code: string, source: string, name?: string): boolean
  /** The leaf that says what was not written since the last flush; null when nothing was. */
  flush(): LeafDraft | null
}

/** The network that one attacker is likely to have whole: IPv4 /24, IPv6 /64. */
export const networkOf = (source: string): string => {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(source)
  const address = mapped?.[1] ?? source
  const v4 = /^(\d+\.\d+\.\d+)\.\d+$/.exec(address)
  if (v4 !== null) return `${v4[1]}.0/24`
  if (!address.includes(':')) return address
  const [front = '', back] = address.split('%')[0]!.split('::')
  const head = front === '' ? [] : front.split(':')
  const tail = back === undefined || back === '' ? [] : back.split(':')
  const groups =
    back === undefined ? head : [...head, ...Array(Math.max(0, 8 - head.length - tail.length)).fill('0'), ...tail]
  return `${groups
    .slice(0, 4)
    .map(group => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`
}

interface Bucket {
  tokens: number
  at: number
}

/** Codes come from our own table, so their number is bounded. */
export const createSampler = (clock: Clock, limits: SamplerLimits = defaultSamplerLimits): Sampler => {
  const strangers = new Map<string, Bucket>()
  const named = new Map<string, Bucket>()
  let dropped = new Map<string, number>()
  let from = clock.now()
  const everyone: Bucket = { tokens: limits.globalPerMinute, at: clock.monotonic() }

  const take = (bucket: Bucket, burst: number, refillMs: number): boolean => {
    const at = clock.monotonic()
    bucket.tokens = Math.min(burst, bucket.tokens + (at - bucket.at) / refillMs)
    bucket.at = at
    if (bucket.tokens < 1) return false
    bucket.tokens -= 1
    return true
  }

  const bucketOf = (buckets: Map<string, Bucket>, code: string, who: string): Bucket => {
    const key = `${code} ${who}`
    const found = buckets.get(key)
    if (found !== undefined) return found
    const place = buckets.size >= limits.maxBuckets ? code : key
    const bucket = buckets.get(place) ?? { tokens: limits.burst, at: clock.monotonic() }
    buckets.set(place, bucket)
    return bucket
  }

  // A bucket that is full again says nothing: forgetting it changes no answer.
  const forgetFull = (buckets: Map<string, Bucket>): void => {
    const at = clock.monotonic()
    for (const [key, bucket] of buckets)
      if (bucket.tokens + (at - bucket.at) / limits.refillMs >= limits.burst) buckets.delete(key)
  }

  return {
    admit: (code, source, name) => {
      const own = name === undefined ? bucketOf(strangers, code, networkOf(source)) : bucketOf(named, code, name)
      const admitted =
        take(own, limits.burst, limits.refillMs) &&
        (name !== undefined || take(everyone, limits.globalPerMinute, 60_000 / limits.globalPerMinute))
      if (!admitted) dropped.set(code, (dropped.get(code) ?? 0) + 1)
      return admitted
    },
    flush: () => {
      forgetFull(strangers)
      forgetFull(named)
      const to = clock.now()
      const counts = Object.fromEntries(dropped)
      const total = [...dropped.values()].reduce((sum, n) => sum + n, 0)
      const since = from
      dropped = new Map()
      from = to
      return total === 0
        ? null
        : refusalsSummary({ at: to, who: 'system' }, { from: since, to, dropped: total, codes: counts })
    },
  }
}
