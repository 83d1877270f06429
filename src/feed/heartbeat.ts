// The heartbeat: the head of the feed as it is now, in one frame for all who are at the head at the same time.
import type { Clock } from '../base/clock.ts'
import type { FeedPosition } from '../verify/feed-event.ts'
import { encodeFrame } from './entry.ts'

export interface Heartbeat {
  /** Which one, of all; a stream gets each once. */
  readonly beat: number
  readonly frame: Uint8Array
}

export interface Heartbeats {
  /** The next one is due. */
  next(): void
  /** Of the present beat, made after reading the head. */
  current(): Heartbeat
}

/** It says the time: it is sent this soon after it was made, or made again. */
const freshMs = 50

export const createHeartbeats = (clock: Clock, leaseSeconds: number, head: () => FeedPosition): Heartbeats => {
  let beat = 0
  let made: (Heartbeat & { readonly position: FeedPosition; readonly madeAt: number }) | null = null
  return {
    next: () => {
      beat++
    },
    current: () => {
      const madeAt = clock.monotonic()
      const position = head()
      if (made === null || made.beat !== beat || made.position !== position || madeAt - made.madeAt >= freshMs) {
        const frame = encodeFrame({ type: 'heartbeat', position, at: clock.now(), leaseSeconds })
        made = { beat, position, frame, madeAt }
      }
      return made
    },
  }
}
