// Monotonic time that counts while the machine sleeps. performance.now() stands still then (CLOCK_MONOTONIC), so a laptop that slept
// through its renewal would not notice; the system's uptime goes on (CLOCK_BOOTTIME), but reading it costs 15 µs.
import { uptime } from 'node:os'

/** How old a reading may become, in time awake; after a sleep the clock is right again this much later at most. */
const readEveryMs = 1000

/** @returns milliseconds from an arbitrary start; never goes back */
export const createBootClock = (): (() => number) => {
  let [readAt, reading, last] = [Number.NEGATIVE_INFINITY, 0, 0]
  return () => {
    const awake = performance.now()
    if (awake - readAt > readEveryMs) {
      readAt = awake
      reading = uptime() * 1000
    }
    // Readings have hundredths of a second: two of them may overlap by one.
    last = Math.max(last, reading + (awake - readAt))
    return last
  }
}
