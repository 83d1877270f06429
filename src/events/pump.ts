// Feeds one sink from the audit log, at least once: the log itself is the queue, and a cursor in the ledger says up to where the sink
// certainly has everything. Nothing waits for a sink: memory holds one batch, however far behind it is. Ended and started again it goes
// on after the last kept position, and repeats what came after that.
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { EventCursorsPort } from '../store/event-cursors-port.ts'
import type { AuditPort } from '../store/ports.ts'
import type { Leaf } from '../store/records.ts'
import { EventsRefused, type OutgoingEvent, type Sink } from './sink.ts'

export interface PumpDeps {
  readonly clock: Clock
  readonly log: Log
  readonly audit: Pick<AuditPort, 'head' | 'read'>
  readonly cursors: EventCursorsPort
  readonly sink: Sink
  /** null: a kind that nobody wants to hear of. */
  readonly encode: (leaf: Leaf) => OutgoingEvent | null
  /** 0 to 1. */
  readonly random: () => number
  readonly pace?: Partial<Pace>
}

export interface Pace {
  /** How often the log is looked at when there was nothing. */
  readonly pollMs: number
  /** Between failures: doubled from the first up to the second, each between a half and the whole of it. */
  readonly backoffMs: readonly [first: number, most: number]
  /**
   * Tries for what a sink refuses for good. Then its events are sent one by one, each twice at most, and what is refused is counted as dead
   * and left out: one that is poisoned must not take the others of its batch with it.
   */
  readonly tries: number
  /** At most so often the cursor is written. */
  readonly keepEveryMs: number
  /** How long an end waits for what is not delivered yet. */
  readonly closeMs: number
}

const usualPace: Pace = { pollMs: 200, backoffMs: [500, 60_000], tries: 8, keepEveryMs: 1000, closeMs: 2000 }
const batchSize = 200
/** The batch had its tries: a second one is for what may be refused just now. */
const triesAlone = 2

export interface PumpStatus {
  readonly sink: Sink['name']
  readonly target: string
  readonly state: 'live' | 'retrying'
  /** Position of the next leaf that it is given. */
  readonly next: number
  /** Leaves that it has not been given. */
  readonly behind: number
  /** Events that it refused for good. */
  readonly dead: number
  readonly deliveredAt: number | null
  readonly failures: number
  readonly error: string | null
}

export interface Pump {
  status(): PumpStatus
  /** Resolves true when everything up to and without this position was delivered, false after `waitMs`. */
  reached(position: number, waitMs: number): Promise<boolean>
  reopen(): void
  close(): Promise<void>
}

export const createPump = (deps: PumpDeps): Pump => {
  const { clock, log, audit, cursors, sink } = deps
  const pace = { ...usualPace, ...deps.pace }
  const first = cursors.get(sink.name)
  const size = audit.head().size
  // A log shorter than the cursor is an older one that was put back.
  const begin = first === null || first > size ? size : first
  // All owned by the one loop below.
  let next = begin
  let kept = begin
  let recorded = first
  let recordedAt = Number.NEGATIVE_INFINITY
  let dead = cursors.dead(sink.name)
  let recordedDead = dead
  let failures = 0
  let refusals = 0
  /** Up to this position they go one by one. */
  let aloneUntil = 0
  let error: string | null = null
  let deliveredAt: number | null = null
  let closingSince: number | null = null
  let wake: () => void = () => {}
  /** Given to the sink, and when: not certain before it has settled. */
  let unsettled: { readonly next: number; readonly at: number }[] = []

  const pause = (ms: number): Promise<void> =>
    new Promise(resolve => {
      const done = (): void => {
        clearTimeout(timer)
        wake = () => {}
        resolve()
      }
      const timer = setTimeout(done, ms).unref()
      wake = done
    })

  const record = async (): Promise<void> => {
    const due = clock.monotonic() - recordedAt >= pace.keepEveryMs || closingSince !== null
    if (!due || (recorded === kept && recordedDead === dead)) return
    await cursors.set(sink.name, kept, dead)
    recorded = kept
    recordedDead = dead
    recordedAt = clock.monotonic()
  }

  const settle = (): void => {
    const before = clock.monotonic() - sink.settleMs
    while (unsettled[0] !== undefined && unsettled[0].at <= before) kept = unsettled.shift()!.next
  }

  const rewind = (): void => {
    next = kept
    unsettled = []
  }

  const advance = (to: number): void => {
    next = to
    unsettled.push({ next: to, at: clock.monotonic() })
  }

  const failed = (cause: unknown): number => {
    failures++
    error = messageOf(cause)
    // One line when it begins, not one for every try, nor for every event that goes alone.
    const isNews = failures === 1 && next >= aloneUntil
    rewind()
    if (isNews) log.warn({ sink: sink.name, reason: error }, 'events are not delivered; they wait in the log')
    const [shortest, most] = pace.backoffMs
    return Math.min(most, shortest * 2 ** Math.min(failures - 1, 20)) * (0.5 + deps.random() / 2)
  }

  const succeeded = (): void => {
    if (failures > 0) log.info({ sink: sink.name }, 'events are delivered again')
    failures = 0
    refusals = 0
    error = null
    deliveredAt = clock.now()
  }

  /** @returns how long to wait before the next step */
  const deliver = async (leaves: readonly Leaf[]): Promise<number> => {
    const events = leaves.map(deps.encode).filter(event => event !== null)
    try {
      if (events.length > 0) {
        await sink.send(events)
        succeeded()
      }
    } catch (cause) {
      const tries = next < aloneUntil ? triesAlone : pace.tries
      if (!(cause instanceof EventsRefused) || ++refusals < tries) return failed(cause)
      refusals = 0
      if (events.length > 1) {
        aloneUntil = leaves.at(-1)!.index + 1
        return failed(cause)
      }
      log.error(
        { sink: sink.name, sequence: events[0]!.sequence, reason: messageOf(cause) },
        'an event was refused for good; it stays in the audit log',
      )
      dead++
      failures = 0
    }
    advance(leaves.at(-1)!.index + 1)
    return 0
  }

  const step = async (): Promise<number> => {
    if (sink.lost()) rewind()
    const leaves = next < audit.head().size ? audit.read(next, next < aloneUntil ? 1 : batchSize) : []
    const wait = leaves.length === 0 ? pace.pollMs : await deliver(leaves)
    settle()
    await record()
    return wait
  }

  const isDone = (): boolean => {
    if (closingSince === null) return false
    if (clock.monotonic() - closingSince >= pace.closeMs || failures > 0) return true
    return next >= audit.head().size
  }

  const run = async (): Promise<void> => {
    while (!isDone()) {
      const wait = await step().catch(cause => {
        log.error(
          { sink: sink.name, reason: messageOf(cause) },
          'the log of events could not be read, or its cursor not be kept',
        )
        return pace.pollMs * 5
      })
      if (wait > 0 && !isDone()) await pause(wait)
    }
    await sink.close()
    // An orderly end told its receiver everything that was written.
    if (failures === 0 && !sink.lost()) kept = next
    await record().catch(cause => log.error({ sink: sink.name, reason: messageOf(cause) }, 'a cursor was not kept'))
  }
  const running = run()

  return {
    status: () => ({
      sink: sink.name,
      target: sink.target,
      state: failures > 0 ? 'retrying' : 'live',
      next,
      behind: Math.max(0, audit.head().size - next),
      dead,
      deliveredAt,
      failures,
      error,
    }),
    reached: async (position, waitMs) => {
      const until = clock.monotonic() + waitMs
      while (next < position && clock.monotonic() < until) {
        if (failures === 0) wake()
        await new Promise(resolve => setTimeout(resolve, 20))
      }
      return next >= position && failures === 0
    },
    reopen: () => {
      sink.reopen()
      wake()
    },
    close: async () => {
      closingSince ??= clock.monotonic()
      wake()
      await running
    },
  }
}
