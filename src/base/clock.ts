// The clock port. Wall time stamps certificates; monotonic time measures deadlines, so that a step of the wall clock never
// shortens or stretches one.

export interface Clock {
  /** Milliseconds since the Unix epoch. */
  now(): number
  /** Milliseconds from an arbitrary start; never goes back. */
  monotonic(): number
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
}
