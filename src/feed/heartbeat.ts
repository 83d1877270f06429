// The heartbeat: the head of the feed, read just before, in one frame for all who are at the head at the same time.
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
  /** Of the present beat; null while the ledger has more than `sent`, or cannot be asked: nobody is to think that all is well. */
  current(): Heartbeat | null
}

/** It says the time: it is sent this soon after it was made, or made again. */
const freshMs = 50

export const createHeartbeats = (deps: {
  readonly clock: Clock
  readonly leaseSeconds: number
  /** The ledger's own. */
  readonly head: () => FeedPosition
  /** What has been taken from it. */
  readonly sent: () => FeedPosition
}): Heartbeats => {
  const { clock, leaseSeconds } = deps
  let beat = 0
  let made: (Heartbeat & { readonly position: FeedPosition; readonly madeAt: number }) | null = null

  const isWhole = ({ epoch, n }: FeedPosition): boolean => {
    try {
      const head = deps.head()
      return head.epoch === epoch && head.n === n
    } catch {
      return false
    }
  }
  return {
    next: () => {
      beat++
    },
    current: () => {
      const madeAt = clock.monotonic()
      const position = deps.sent()
      if (made?.beat === beat && made.position === position && madeAt - made.madeAt < freshMs) return made
      if (!isWhole(position)) return null
      const frame = encodeFrame({ type: 'heartbeat', position, at: clock.now(), leaseSeconds })
      made = { beat, position, frame, madeAt }
      return made
    },
  }
}
