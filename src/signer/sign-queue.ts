// Who signs next: status before renewals before enrolments, with slots that only status may take. Bounded by expected wait: what
// cannot be reached before its deadline is refused on arrival, when a refusal still costs nothing. Knows nothing of PKCS#11.
import type { Clock } from '../base/clock.ts'
import { SignerError } from './errors.ts'
import type { SignPriority } from './port.ts'

export interface QueuedWork<T> {
  readonly priority: SignPriority
  readonly deadlineMs: number
  /** Runs in a slot, and may be done when it returns. Whatever it throws reaches the caller. */
  run(): T | Promise<T>
}

export interface SignQueue {
  /** @throws SignerError `signer_busy` at once, `signer_deadline` when the time is up, or what `run` throws */
  submit<T>(work: QueuedWork<T>): Promise<T>
  state(): { readonly busy: number; readonly queued: number; readonly stuck: number; readonly oldestStuckMs: number }
  /** Fails everything that waits, and refuses what comes. */
  stop(error: SignerError): void
}

export interface SignQueueOptions {
  readonly slots: number
  readonly clock: Clock
}

interface Waiting {
  readonly priority: SignPriority
  readonly expiresAt: number
  start(): void
  fail(error: SignerError): void
}

interface RunningCall {
  readonly expiresAt: number
  readonly startedAt: number
}

const order: readonly SignPriority[] = ['status', 'renew', 'enrol']
const maxQueued = 50_000
const maxTurnMs = 5

const expired = (hsmCalled: 'no' | 'maybe'): SignerError =>
  new SignerError(
    'signer_deadline',
    hsmCalled === 'no' ? 'the deadline passed in the queue' : 'the deadline passed inside the module',
    {
      hsmCalled,
    },
  )

/** Owned by the signer's event loop: no locks, every change is synchronous. */
export const createSignQueue = ({ slots, clock }: SignQueueOptions): SignQueue => {
  const reserved = slots >= 2 ? Math.max(1, Math.floor(slots / 4)) : 0
  const queues: Record<SignPriority, Waiting[]> = { status: [], renew: [], enrol: [] }
  const running = new Set<RunningCall>()
  let serviceMs = 1
  let stopped: SignerError | null = null

  // Signatures made on the event loop are made one after the other: without a pause neither new status requests nor the supervisor's
  // question would be read until the queue is empty. From the first one of a turn of the loop; null where there was none.
  let turnStartedAt: number | null = null
  const signedInTurn = (startedAt: number): void => {
    if (turnStartedAt !== null) return
    turnStartedAt = startedAt
    setImmediate(() => {
      turnStartedAt = null
      startNext()
    })
  }

  const mayStart = (priority: SignPriority, now: number): boolean =>
    running.size < (priority === 'status' ? slots : slots - reserved) &&
    (turnStartedAt === null || now - turnStartedAt <= maxTurnMs)

  /** What one call leaves is begun by the loop that began it. */
  let starting = false
  const startNext = (): void => {
    if (starting || queued() === 0) return
    starting = true
    for (const priority of order) {
      const queue = queues[priority]
      let taken = 0
      for (; taken < queue.length; taken++) {
        const next = queue[taken]!
        const now = clock.monotonic()
        if (next.expiresAt <= now) next.fail(expired('no'))
        else if (mayStart(priority, now)) next.start()
        else break
      }
      if (taken > 0) queue.splice(0, taken)
    }
    starting = false
    scheduleSweep()
  }

  // Expired requests are noticed when a slot frees; while every slot hangs, only this timer sees them.
  let sweep: NodeJS.Timeout | null = null
  const queued = (): number => queues.status.length + queues.renew.length + queues.enrol.length
  const scheduleSweep = (): void => {
    if (sweep !== null || queued() === 0) return
    sweep = setTimeout(() => {
      sweep = null
      const now = clock.monotonic()
      for (const priority of order) {
        const alive: Waiting[] = []
        for (const one of queues[priority])
          if (one.expiresAt <= now) one.fail(expired('no'))
          else alive.push(one)
        queues[priority] = alive
      }
      scheduleSweep()
    }, 25)
    sweep.unref()
  }

  const expectedWaitMs = (priority: SignPriority): number => {
    let ahead = 0
    for (const other of order) {
      ahead += queues[other].length
      if (other === priority) break
    }
    const usable = Math.max(1, priority === 'status' ? slots : slots - reserved)
    return mayStart(priority, clock.monotonic()) && ahead === 0 ? 0 : ((ahead + 1) * serviceMs) / usable
  }

  const ended = (call: RunningCall): void => {
    running.delete(call)
    serviceMs = serviceMs * 0.95 + (clock.monotonic() - call.startedAt) * 0.05
    startNext()
  }

  /** What is done when it returns needs no deadline: nobody could have been told in between that it had passed. */
  const execute = <T>(work: QueuedWork<T>, expiresAt: number): Promise<T> => {
    const call: RunningCall = { expiresAt, startedAt: clock.monotonic() }
    running.add(call)
    let outcome: T | Promise<T>
    try {
      outcome = work.run()
    } catch (error) {
      outcome = Promise.reject(error)
    }
    if (outcome instanceof Promise) return withDeadline(outcome, call)
    signedInTurn(call.startedAt)
    ended(call)
    return Promise.resolve(outcome)
  }

  const withDeadline = <T>(promise: Promise<T>, call: RunningCall): Promise<T> =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(expired('maybe')), Math.max(1, call.expiresAt - clock.monotonic()))
      promise.then(
        value => {
          clearTimeout(timer)
          ended(call)
          resolve(value)
        },
        error => {
          clearTimeout(timer)
          ended(call)
          reject(error)
        },
      )
    })

  return {
    submit<T>(work: QueuedWork<T>): Promise<T> {
      if (stopped) return Promise.reject(stopped)
      const expiresAt = clock.monotonic() + work.deadlineMs
      if (queues[work.priority].length === 0 && mayStart(work.priority, clock.monotonic()))
        return execute(work, expiresAt)
      const wait = expectedWaitMs(work.priority)
      if (wait > work.deadlineMs || queued() >= maxQueued) {
        const seconds = Math.max(1, Math.ceil(wait / 1000))
        return Promise.reject(
          new SignerError(
            'signer_busy',
            `the queue needs about ${Math.round(wait)} ms, the deadline is ${Math.round(work.deadlineMs)} ms`,
            {
              hsmCalled: 'no',
              facts: { retryAfterSeconds: seconds },
            },
          ),
        )
      }
      return new Promise<T>((resolve, reject) => {
        queues[work.priority].push({
          priority: work.priority,
          expiresAt,
          start: () => void execute(work, expiresAt).then(resolve, reject),
          fail: reject,
        })
        scheduleSweep()
      })
    },
    state() {
      const now = clock.monotonic()
      let stuck = 0
      let oldestStuckMs = 0
      for (const { expiresAt } of running) {
        if (expiresAt >= now) continue
        stuck++
        oldestStuckMs = Math.max(oldestStuckMs, now - expiresAt)
      }
      return { busy: running.size, queued: queued(), stuck, oldestStuckMs }
    },
    stop(error) {
      stopped = error
      for (const priority of order) for (const one of queues[priority].splice(0)) one.fail(error)
    },
  }
}
