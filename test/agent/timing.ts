// Time as a test wants it. Who waits for an answer waits for no time at all, and it is written down; who idles in the background
// idles until the test lets time pass. The wall clock is the machine's, or moved.
import type { Timing } from '../../src/agent/backoff.ts'

export interface TestTiming extends Timing {
  /** Milliseconds of every wait so far. */
  readonly waits: number[]
  /** Lets monotonic time pass, and wakes who idled for it. */
  readonly advance: (ms: number) => void
  /** How many idle: whoever was woken is among them again once it has done what it woke for. */
  readonly idling: () => number
  /** Moves the wall clock only. */
  readonly moveWall: (ms: number) => void
}

export const createTiming = (): TestTiming => {
  let [monotonic, wallOffset] = [1_000_000, 0]
  const waits: number[] = []
  const idling = new Set<{ readonly until: number; readonly wake: () => void }>()
  return {
    clock: { now: () => Date.now() + wallOffset, monotonic: () => monotonic },
    random: () => 0.5,
    wait: async (ms, signal) => {
      signal.throwIfAborted()
      waits.push(ms)
      monotonic += ms
      // Others get their turn, as during a real wait.
      await new Promise(setImmediate)
    },
    idle: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal.aborted) reject(signal.reason)
        const entry = { until: monotonic + ms, wake: resolve }
        idling.add(entry)
        signal.addEventListener('abort', () => {
          idling.delete(entry)
          reject(signal.reason)
        })
      }),
    waits,
    idling: () => idling.size,
    advance: ms => {
      monotonic += ms
      for (const entry of idling)
        if (entry.until <= monotonic) {
          idling.delete(entry)
          entry.wake()
        }
    },
    moveWall: ms => {
      wallOffset += ms
    },
  }
}
