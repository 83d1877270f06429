// Who signs next: status before renewals before enrolments, with slots that only status may take. Bounded by expected wait: what
// cannot be reached before its deadline is refused on arrival, when a refusal still costs nothing. Knows nothing of PKCS#11.
import type { Clock } from '../base/clock.ts'
import { SignerError } from './errors.ts'
import type { SignPriority } from './port.ts'

export interface QueuedWork<T> {
  readonly priority: SignPriority
  readonly deadlineMs: number
  /** Runs in a slot. Whatever it throws reaches the caller. */
  run(): Promise<T>
}

/** The same where `run` mostly has its value when it returns. */
export interface ImmediateWork<T> extends Pick<QueuedWork<T>, 'priority' | 'deadlineMs'> {
  run(): T | Promise<T>
}

export interface SignQueue {
  /**
   * What needs no waiting, neither in the queue nor in `run`: done when this returns, without promises and timers, which for many
   * signatures of one turn cost as much as a part of them. @returns null where its turn has not come: `submit` waits for it
   * @throws what `run` throws
   */
  now<T>(work: ImmediateWork<T>): { readonly done: T | Promise<T> } | null
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
  // Status goes before everything else anyway, so with few slots it waits for a part of one signature; a slot kept free for it would cost
  // a quarter of four. Of many, one in twenty is no loss.
  const reserved = Math.floor(slots / 20)
  const queues: Record<SignPriority, Waiting[]> = { status: [], renew: [], enrol: [] }
  const running = new Map<object, { readonly expiresAt: number; readonly status: boolean }>()
  let serviceMs = 1
  let stopped: SignerError | null = null

  const mayStart = (priority: SignPriority): boolean =>
    running.size < (priority === 'status' ? slots : slots - reserved)

  // Signatures made on the event loop finish at once or in microtasks, one after the other: without a pause neither new status requests
  // nor the supervisor's question would be read until all are made. Null between turns of the event loop in which something was started.
  let turnStartedAt: number | null = null
  const isTurnOver = (now: number): boolean => {
    if (turnStartedAt !== null) return now - turnStartedAt > maxTurnMs
    turnStartedAt = now
    setImmediate(() => {
      turnStartedAt = null
      if (queued() > 0) startNext()
    })
    return false
  }
  const startNext = (): void => {
    const now = clock.monotonic()
    if (isTurnOver(now)) return
    for (const priority of order) {
      const queue = queues[priority]
      let taken = 0
      while (taken < queue.length && (queue[taken]!.expiresAt <= now || mayStart(priority))) {
        const next = queue[taken++]!
        if (next.expiresAt <= now) next.fail(expired('no'))
        else next.start()
      }
      if (taken > 0) queue.splice(0, taken)
    }
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
    return mayStart(priority) && ahead === 0 ? 0 : ((ahead + 1) * serviceMs) / usable
  }

  const execute = async <T>(work: QueuedWork<T>, expiresAt: number): Promise<T> => {
    const token = {}
    const startedAt = clock.monotonic()
    running.set(token, { expiresAt, status: work.priority === 'status' })
    try {
      return await work.run()
    } finally {
      running.delete(token)
      serviceMs = serviceMs * 0.95 + (clock.monotonic() - startedAt) * 0.05
      startNext()
    }
  }

  const withDeadline = <T>(promise: Promise<T>, expiresAt: number): Promise<T> =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(expired('maybe')), Math.max(1, expiresAt - clock.monotonic()))
      promise.then(
        value => {
          clearTimeout(timer)
          resolve(value)
        },
        error => {
          clearTimeout(timer)
          reject(error)
        },
      )
    })

  return {
    now(work) {
      const startedAt = clock.monotonic()
      if (stopped || queued() > 0 || !mayStart(work.priority) || isTurnOver(startedAt)) return null
      const done = work.run()
      if (done instanceof Promise) {
        // It met with trouble, and takes a slot and its time like any other from here on.
        const expiresAt = startedAt + work.deadlineMs
        return { done: withDeadline(execute({ ...work, run: () => done }, expiresAt), expiresAt) }
      }
      serviceMs = serviceMs * 0.95 + (clock.monotonic() - startedAt) * 0.05
      return { done }
    },
    submit<T>(work: QueuedWork<T>): Promise<T> {
      if (stopped) return Promise.reject(stopped)
      const expiresAt = clock.monotonic() + work.deadlineMs
      if (queues[work.priority].length === 0 && mayStart(work.priority) && !isTurnOver(clock.monotonic()))
        return withDeadline(execute(work, expiresAt), expiresAt)
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
          start: () => withDeadline(execute(work, expiresAt), expiresAt).then(resolve, reject),
          fail: reject,
        })
        scheduleSweep()
      })
    },
    state() {
      const now = clock.monotonic()
      let stuck = 0
      let oldestStuckMs = 0
      for (const { expiresAt } of running.values()) {
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
