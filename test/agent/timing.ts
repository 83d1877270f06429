// Time as a test wants it: pauses pass at once and are written down, the wall clock is the machine's or moved.
import type { Timing } from '../../src/agent/backoff.ts'

export interface TestTiming extends Timing {
  /** Milliseconds of every pause so far. */
  readonly pauses: number[]
  /** Lets monotonic time pass. */
  readonly advance: (ms: number) => void
  /** Moves the wall clock only. */
  readonly moveWall: (ms: number) => void
}

export const createTiming = (): TestTiming => {
  let [monotonic, wallOffset] = [1_000_000, 0]
  const pauses: number[] = []
  return {
    clock: { now: () => Date.now() + wallOffset, monotonic: () => monotonic },
    random: () => 0.5,
    pause: async (ms, signal) => {
      signal.throwIfAborted()
      pauses.push(ms)
      monotonic += ms
      // Others get their turn, as during a real pause.
      await new Promise(setImmediate)
    },
    pauses,
    advance: ms => {
      monotonic += ms
    },
    moveWall: ms => {
      wallOffset += ms
    },
  }
}
