// When to ask again. A fleet that lost its CA at one moment must not come back at one moment, so every wait is drawn; what the CA
// itself asks for (Retry-After) is the least.
import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from '../base/clock.ts'
import { createBootClock } from './boot-clock.ts'
import { AgentError, isTransient } from './errors.ts'

export interface Pace {
  readonly firstMs: number
  readonly maxMs: number
}

/** A request that somebody waits for. */
export const briskPace: Pace = { firstMs: 500, maxMs: 15_000 }
/** A renewal: the present certificate still serves. */
export const calmPace: Pace = { firstMs: 1000, maxMs: 60_000 }
/** Held, locked or refused: only a person can change that, and 403 consumes nothing. */
export const slowPace: Pace = { firstMs: 20_000, maxMs: 300_000 }

/**
 * Between half and all of a wait that doubles.
 * @param failures how many attempts failed in a row, at least 1
 * @param random 0 to below 1
 */
export const waitAfter = (
  pace: Pace,
  failures: number,
  retryAfterSeconds: number | null,
  random: () => number,
): number => {
  const ceiling = Math.min(pace.maxMs, pace.firstMs * 2 ** Math.min(failures - 1, 20))
  return (retryAfterSeconds ?? 0) * 1000 + ceiling * (0.5 + random() / 2)
}

/** The clock, the dice and the pauses, so that a test can turn hours into nothing. Both pauses reject when aborted. */
export interface Timing {
  readonly clock: Clock
  readonly random: () => number
  /** Somebody waits for what comes after: keeps the process alive. */
  readonly wait: (ms: number, signal: AbortSignal) => Promise<void>
  /** In the background: a process that has nothing else to do may end. */
  readonly idle: (ms: number, signal: AbortSignal) => Promise<void>
}

export const systemTiming: Timing = {
  clock: { now: () => Date.now(), monotonic: createBootClock() },
  random: Math.random,
  wait: (ms, signal) => delay(ms, undefined, { signal }),
  idle: (ms, signal) => delay(ms, undefined, { signal, ref: false }),
}

/** Timers stand still while a machine sleeps, so a long wait is made of short ones. */
const sliceMs = 20_000

/** Resolves when the monotonic clock has reached `deadline`; rejects when aborted. */
export const idleUntil = async (timing: Timing, deadline: number, signal: AbortSignal): Promise<void> => {
  for (;;) {
    signal.throwIfAborted()
    const left = deadline - timing.clock.monotonic()
    if (left <= 0) return
    await timing.idle(Math.min(left, sliceMs), signal)
  }
}

/** Longer than a CA takes to be started again, or an HSM to come back after a fault. */
export const defaultPatienceSeconds = 120

export interface Patience {
  readonly patienceSeconds: number
  readonly signal: AbortSignal
  /** Told of every attempt that will be repeated. */
  readonly onRetry?: (error: AgentError, waitMs: number) => void
}

/**
 * Repeats an attempt that somebody waits for, as long as asking again may help.
 * @throws AgentError of the last attempt, when it is final or patience has run out
 */
export const untilAnswered = async <T>(timing: Timing, patience: Patience, attempt: () => Promise<T>): Promise<T> => {
  const deadline = timing.clock.monotonic() + patience.patienceSeconds * 1000
  for (let failures = 1; ; failures++) {
    try {
      return await attempt()
    } catch (error) {
      if (!(error instanceof AgentError) || !isTransient(error)) throw error
      const wait = waitAfter(briskPace, failures, error.retryAfterSeconds, timing.random)
      if (timing.clock.monotonic() + wait > deadline) throw error
      patience.onRetry?.(error, wait)
      await timing.wait(wait, patience.signal)
    }
  }
}
