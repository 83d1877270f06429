// Tells the CA what was decided, in digests: equal decisions of a moment as one, with their number. A call never waits for it: memory is
// bounded, what has no room is counted and dropped, and while the CA is away it waits longer and longer.
import { randomBytes } from 'node:crypto'
import { systemTiming, type Timing } from '../agent/backoff.ts'
import { messageOf } from '../base/errors.ts'
import { type Log, silentLog } from '../base/log.ts'
import { type CallClass, classOf, told } from './call-class.ts'
import { type Call, type Judgement, type Judging, type Repeats, sourceOf } from './judgement.ts'
import type { CallingIdentity } from './outside/calls.ts'
import { createRepeatedCalls } from './repeated-calls.ts'

export interface DecisionReportOptions {
  readonly verifier: Pick<Judging, 'observe'>
  /** The backend's own: the CA counts what it is told as calls to this service. */
  readonly identity: CallingIdentity
  /** What a call is; default: the demanded scopes, and the path with its identifiers left out. Must not throw. */
  readonly classify?: (call: Call) => CallClass
  /** Above so many calls a second those that were allowed are sampled: each 16th counts for 16. Denials are always told. */
  readonly sampleAbovePerSecond?: number
  readonly log?: Log
}

export interface DecisionReportStatus {
  /** Digests that wait. */
  readonly pending: number
  /** Decisions that were told, and those there was no room for. */
  readonly sent: number
  readonly dropped: number
  /** Attempts that failed in a row. */
  readonly failures: number
}

export interface DecisionReport extends AsyncDisposable {
  status(): DecisionReportStatus
}

const windowMs = 250
const maxPending = 2000
const maxBatch = 200
/** The CA takes 64 KiB. */
const maxBatchBytes = 60_000
const deadlineMs = 5000
const closingMs = 2000
const backoffMs = [250, 500, 1000, 2000, 5000, 10_000, 30_000]
/** A CA that knows no such call, or will not hear it from us, is not asked again soon. */
const unwantedMs = 60_000
const sampleOf = 16
const defaultSampleAbove = 2000

interface Digest {
  readonly outcome: 'allow' | 'deny'
  readonly rule: string
  readonly caller: string | null
  readonly action: string
  readonly resourceClass: string
  readonly source: string
  count: number
  /** Monotonic. */
  first: number
  last: number
  maxLatencyMs: number
  /** It is on its way: nothing counts in it any more. */
  isTaken: boolean
}

/**
 * Empty where nothing is known of it. The address of a proxy that does not say where its caller is stands there as the proxy's: as no
 * address, or all its callers would look as if they had moved there.
 */
const toldSource = (call: Call): string =>
  told(sourceOf(call) ?? (call.from?.proxy == null ? '' : `${call.from.proxy} (proxy)`))

const keyOf = ({ outcome, rule, caller, action, resourceClass, source }: Digest): string =>
  `${outcome}\n${rule}\n${caller ?? ''}\n${action}\n${resourceClass}\n${source}`

interface Batch {
  readonly id: string
  readonly dropped: number
  readonly digests: readonly Digest[]
}

const countOf = ({ digests }: Batch): number => digests.reduce((sum, { count }) => sum + count, 0)

interface Pending {
  drop(count: number): void
  /** @returns the one that counts it from now until it is taken; null: there was no room */
  add(digest: Digest): Digest | null
  /** The next batch, oldest first; they are no longer pending. */
  take(): readonly Digest[]
  /** Decisions dropped since the last call. */
  takeDropped(): number
  readonly size: number
  readonly dropped: number
}

const createPending = (): Pending => {
  // Owned by this closure.
  const digests = new Map<string, Digest>()
  let dropped = 0
  let untold = 0
  const drop = (count: number): void => {
    dropped += count
    untold += count
  }
  return {
    drop,
    add: digest => {
      const key = keyOf(digest)
      const known = digests.get(key)
      if (known !== undefined) {
        known.count += digest.count
        known.first = Math.min(known.first, digest.first)
        known.last = Math.max(known.last, digest.last)
        known.maxLatencyMs = Math.max(known.maxLatencyMs, digest.maxLatencyMs)
        return known
      }
      if (digests.size < maxPending) {
        digests.set(key, digest)
        return digest
      }
      drop(digest.count)
      return null
    },
    take: () => {
      const batch: Digest[] = []
      let bytes = 0
      for (const [key, digest] of digests) {
        // Six bytes for each character that JSON escapes would be 200 times too careful: text is printable ASCII.
        bytes += 2 * key.length + 200
        if (batch.length === maxBatch || (batch.length > 0 && bytes > maxBatchBytes)) break
        batch.push(digest)
        digest.isTaken = true
        digests.delete(key)
      }
      return batch
    },
    takeDropped: () => {
      const count = untold
      untold = 0
      return count
    },
    get size() {
      return digests.size
    },
    get dropped() {
      return dropped
    },
  }
}

/** Observes a verifier and reports until it is disposed of, which sends what is left. */
export const reportDecisions = (
  options: DecisionReportOptions,
  { clock, random }: Pick<Timing, 'clock' | 'random'> = systemTiming,
): DecisionReport => {
  const { identity, log = silentLog, classify = classOf, sampleAbovePerSecond = defaultSampleAbove } = options
  const exactPerWindow = Math.max(1, Math.floor((sampleAbovePerSecond * windowMs) / 1000))
  const pending = createPending()
  const sender = randomBytes(9).toString('base64url')
  const ended = new AbortController()
  // Owned by this closure.
  let timer: NodeJS.Timeout | null = null
  let sending: Promise<void> | null = null
  let failures = 0
  let unsent: Batch | null = null
  let batches = 0
  let sent = 0
  let inWindow = 0
  /** The last judgement, where another one like it may be counted too. */
  let countedIn: Digest | null = null
  let closed = false
  let unwanted = false

  // Not where somebody else says what a call is: it may say so by anything.
  const repeated = classify === classOf ? createRepeatedCalls<Digest>() : null
  const count = (judgement: Judgement, weight: number): Digest | null => {
    const now = clock.monotonic()
    const again = repeated?.find(judgement) ?? null
    if (again !== null) {
      again.count += weight
      again.last = now
      again.maxLatencyMs = Math.max(again.maxLatencyMs, Math.ceil(judgement.latencyMs))
      return again
    }
    const { outcome, rule, peer, call, latencyMs } = judgement
    const digest = pending.add({
      outcome,
      rule: rule ?? '',
      caller: peer?.spiffeId ?? null,
      ...classify(call),
      source: toldSource(call),
      count: weight,
      first: now,
      last: now,
      maxLatencyMs: Math.ceil(latencyMs),
      isTaken: false,
    })
    if (digest !== null) repeated?.keep(judgement, digest)
    return digest
  }
  /** How many the next allowed one counts for. 0: it is left out. */
  const nextWeight = (): number => {
    inWindow++
    if (inWindow <= exactPerWindow) return 1
    return inWindow % sampleOf === 0 ? sampleOf : 0
  }
  const observe = (judgement: Judgement): void => {
    const weight = nextWeight()
    if (judgement.outcome === 'deny') count(judgement, 1)
    else {
      const digest = weight === 0 ? repeated?.find(judgement) : count(judgement, weight)
      countedIn = repeated === null ? null : (digest ?? null)
      if (weight === 0) return
    }
    schedule(unwanted ? unwantedMs : windowMs)
  }
  // What is not taken yet waits for a time that is set already.
  const repeats: Repeats = {
    counted: () => countedIn,
    again: (counted, at) => {
      const digest = counted as Digest
      if (digest.isTaken) return false
      digest.count += nextWeight()
      digest.last = at
      return true
    },
  }

  const schedule = (waitMs: number): void => {
    if (timer !== null || sending !== null || closed) return
    timer = setTimeout(() => {
      timer = null
      inWindow = 0
      sending = flush().finally(() => {
        sending = null
        if (left() > 0) schedule(waitAfter())
      })
    }, waitMs).unref()
  }
  const waitAfter = (): number => {
    if (unwanted) return unwantedMs
    if (failures === 0) return windowMs
    return (backoffMs[Math.min(failures, backoffMs.length) - 1] as number) * (0.5 + random())
  }

  const left = (): number => pending.size + (unsent?.digests.length ?? 0)
  /** One that got no answer comes first, as it was: the CA may have counted it, and knows it by its id. */
  const nextBatch = (): Batch => {
    // What is taken counts no more.
    repeated?.forget()
    return { id: `${sender}-${++batches}`, dropped: pending.takeDropped(), digests: pending.take() }
  }
  const post = async ({ id, dropped, digests }: Batch): Promise<number> => {
    const now = clock.monotonic()
    const decisions = digests.map(({ first, last, isTaken: _, ...digest }) => ({
      ...digest,
      firstAgoMs: Math.max(0, Math.round(now - first)),
      lastAgoMs: Math.max(0, Math.round(now - last)),
    }))
    const { url, trustDomain } = identity.current()
    const answer = await identity.fetch(`${url}/v1/decisions`, {
      peer: `spiffe://${trustDomain}/service/agentca`,
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ id, dropped, decisions }),
      signal: AbortSignal.any([ended.signal, AbortSignal.timeout(deadlineMs)]),
    })
    await answer.text()
    return answer.status
  }
  const failed = (batch: Batch, reason: string): void => {
    failures++
    unsent = batch
    log.debug({ reason, failures }, 'decisions could not be reported')
  }
  /**
   * Batches until what was there when it began is told, or one fails. What comes meanwhile waits for the next window: under load something
   * always does.
   */
  const flush = async (): Promise<void> => {
    unwanted = false
    for (let due = left(); due > 0 && !ended.signal.aborted; ) {
      const batch: Batch = unsent ?? nextBatch()
      due -= batch.digests.length
      try {
        const status = await post(batch)
        if (status === 204) {
          failures = 0
          unsent = null
          sent += countOf(batch)
          continue
        }
        // What it does not want now it will not want in the next moment: sent again it would only keep the others waiting.
        const isRefused = status >= 400 && status < 500 && status !== 408 && status !== 429
        unwanted = [401, 403, 404, 405].includes(status)
        if (isRefused) {
          log.warn({ status }, 'the CA does not take reports of decisions')
          pending.drop(countOf(batch))
          unsent = null
          return
        }
        failed(batch, `the CA answered ${status}`)
      } catch (error) {
        failed(batch, messageOf(error))
      }
      return
    }
  }

  const unobserve = options.verifier.observe(observe, repeats)
  return {
    status: () => ({ pending: left(), sent, dropped: pending.dropped, failures }),
    [Symbol.asyncDispose]: async () => {
      unobserve()
      closed = true
      if (timer !== null) clearTimeout(timer)
      const deadline = setTimeout(() => ended.abort(), closingMs)
      await sending
      await flush()
      clearTimeout(deadline)
    },
  }
}
