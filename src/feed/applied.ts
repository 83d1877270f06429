// How far revocations and holds have got: who has said that they are applied, after how long, and until when those who have not may
// still admit somebody. When all have, or after a minute, a receipt goes into the audit log.
import type { Clock } from '../base/clock.ts'
import type { Metrics } from '../base/metrics.ts'
import type { KnownFeedEvent } from '../verify/feed-event.ts'
import {
  covers,
  type Deed,
  isDeed,
  isPartOf,
  type Missing,
  markApplied,
  missingOf,
  type StatusEvent,
  type Waiting,
} from './deed.ts'
import type { Receipts } from './receipts.ts'
import type { Subscriber, Subscribers } from './subscribers.ts'

export interface AppliedStatus {
  /** Subscribers that it concerns. */
  readonly of: number
  /** Milliseconds from the commit to the slowest of those who applied it; null: nobody yet, or not known any more. */
  readonly afterMs: number | null
  readonly missing: readonly Missing[]
}

export interface Applied {
  /** What was committed just now. */
  appended(events: readonly KnownFeedEvent[]): void
  acknowledged(subscriber: Subscriber): void
  /** It admits nobody any more. */
  left(subscriber: Subscriber): void
  status(n: number): AppliedStatus
  /** The same once nobody is missing, or after so long. */
  wait(n: number, ms: number): Promise<AppliedStatus>
  /** Now and then: lets go of those who refuse everybody by now, and writes receipts. */
  sweep(): void
  /** Whoever waits is answered; receipts that are due are written. */
  close(): Promise<void>
}

export interface AppliedDeps {
  readonly clock: Clock
  readonly metrics: Pick<Metrics, 'observe'>
  readonly subscribers: Pick<Subscribers, 'enforcing' | 'coveredUntil'>
  readonly receipts: Receipts
}

const receiptAfterMs = 60_000
/** Beyond it the oldest is given up: its receipt says who is missing. */
const maxOpen = 64
/** Still asked about after they were applied. */
const maxClosed = 256

export const createApplied = (deps: AppliedDeps): Applied => {
  const { clock, subscribers, receipts } = deps
  // Owned by this closure, changed only synchronously. `open` is in the order of its numbers.
  let open: Deed[] = []
  let closed: Deed[] = []
  const waiters = createWaiters()

  const waitingOf = (those: readonly Subscriber[]): Waiting =>
    new Map(those.map(each => [each, subscribers.coveredUntil(each)]))
  const begin = (event: StatusEvent): void => {
    const waiting = waitingOf(subscribers.enforcing())
    const { n } = event.position
    const startedAt = clock.monotonic()
    if (waiting.size > 0)
      open.push({ event, n, startedAt, of: waiting.size, waiting, applied: new Map(), slowestMs: 0, receipted: false })
    if (open.length > maxOpen) close(open[0]!)
  }
  const close = (deed: Deed): void => {
    open = open.filter(each => each !== deed)
    closed = [...closed.slice(1 - maxClosed), deed]
    receipts.add(deed)
  }
  const settle = (deed: Deed): void => {
    if (deed.waiting.size === 0) close(deed)
  }
  const find = (n: number): Deed | undefined =>
    open.find(each => covers(each, n)) ?? closed.find(each => covers(each, n))
  /** Of what is not remembered as a deed, the numbers alone say who is behind. */
  const behind = (n: number): Waiting =>
    waitingOf(subscribers.enforcing().filter(({ acked }) => acked === null || acked < n))
  const status = (n: number): AppliedStatus => {
    const deed = find(n)
    if (deed === undefined)
      return { of: subscribers.enforcing().length, afterMs: null, missing: missingOf(behind(n), clock.now()) }
    const { of, applied, slowestMs, waiting, event } = deed
    return { of, afterMs: applied.size === 0 ? null : slowestMs, missing: missingOf(waiting, event.at) }
  }
  const applies = (deed: Deed, subscriber: Subscriber): void => {
    const ms = clock.monotonic() - deed.startedAt
    markApplied(deed, subscriber, ms)
    deps.metrics.observe('agentca_feed_applied_seconds', ms / 1000)
    settle(deed)
  }

  return {
    appended: events => {
      for (const event of events.filter(isDeed)) {
        const last = open.at(-1)
        if (last !== undefined && isPartOf(last, event)) last.n = event.position.n
        else begin(event)
      }
    },
    acknowledged: subscriber => {
      const acked = subscriber.acked ?? -1
      for (const deed of open) if (acked >= deed.n && deed.waiting.delete(subscriber)) applies(deed, subscriber)
      waiters.done(subscriber, n => acked >= n)
    },
    left: subscriber => {
      for (const deed of open) if (deed.waiting.delete(subscriber)) settle(deed)
      waiters.done(subscriber, () => true)
    },
    status,
    wait: async (n, ms) => {
      await waiters.wait(n, find(n)?.waiting ?? behind(n), ms)
      return status(n)
    },
    sweep: () => {
      const now = clock.now()
      for (const deed of open) {
        if (clock.monotonic() - deed.startedAt >= receiptAfterMs) receipts.add(deed)
        for (const [subscriber, coveredUntil] of deed.waiting)
          if (coveredUntil <= now && subscriber.disconnectedAt !== null) deed.waiting.delete(subscriber)
        settle(deed)
      }
      void receipts.write()
    },
    close: async () => {
      waiters.wakeAll()
      await receipts.write()
    },
  }
}

interface Waiter {
  readonly n: number
  readonly missing: Set<Subscriber>
  readonly wake: () => void
}

/** Those who wait until nobody is missing. */
const createWaiters = () => {
  const waiters = new Set<Waiter>()
  return {
    wait: (n: number, waiting: Waiting, ms: number): Promise<void> =>
      new Promise(resolve => {
        if (waiting.size === 0 || ms <= 0) return resolve()
        const wake = (): void => {
          clearTimeout(timer)
          waiters.delete(waiter)
          resolve()
        }
        const waiter: Waiter = { n, missing: new Set(waiting.keys()), wake }
        const timer = setTimeout(wake, ms)
        waiters.add(waiter)
      }),
    done: (subscriber: Subscriber, has: (n: number) => boolean): void => {
      for (const { n, missing, wake } of waiters) if (has(n) && missing.delete(subscriber) && missing.size === 0) wake()
    },
    wakeAll: (): void => {
      for (const { wake } of waiters) wake()
    },
  }
}
