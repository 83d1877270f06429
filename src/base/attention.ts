// A clock for waiting on others. While the own event loop stands still, timers that are due run before the answers that have come
// meanwhile are read: that time is nobody's silence.
import type { Clock } from './clock.ts'

export interface Attention {
  /** Milliseconds from an arbitrary start; goes on only while this event loop turns, and never back. */
  now(): number
  close(): void
}

/** How often it is seen whether the event loop turns. */
const turnMs = 100

export const createAttention = (clock: Pick<Clock, 'monotonic'>): Attention => {
  let stalledMs = 0
  let turnedAt = clock.monotonic()
  const stalledAt = (at: number): number => stalledMs + Math.max(0, at - turnedAt - 2 * turnMs)
  const pulse = setInterval(() => {
    const at = clock.monotonic()
    stalledMs = stalledAt(at)
    turnedAt = at
  }, turnMs)
  pulse.unref()
  return {
    now: () => {
      const at = clock.monotonic()
      // Timers of one turn run in no order that could be relied on: the pulse may not have seen a stall yet.
      return at - stalledAt(at)
    },
    close: () => clearInterval(pulse),
  }
}
