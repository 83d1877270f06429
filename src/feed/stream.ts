// One reader of the feed: what it was sent, what it is due, and how it takes it. At most one frame more than its connection buffers is
// in memory for it, however slow it is: it is a position in the entry log, not a queue.
import type { Writable } from 'node:stream'
import type { FeedPosition, PrincipalKind } from '../verify/feed-event.ts'
import { encodeFrame, frameEnd, frameStart } from './entry.ts'
import type { EntryLog } from './entry-log.ts'
import type { Heartbeat } from './heartbeat.ts'
import type { Snapshot } from './snapshot.ts'
import type { Subscriber } from './subscribers.ts'

/** Whose certificate the connection was made with: the stream ends with it. */
export interface StreamPeer {
  readonly kind: PrincipalKind
  readonly name: string
  readonly instanceId: string
  /** Lower-case hex. */
  readonly serial: string
  readonly notAfter: number
}

/** Why the server ends a stream: the code of its last event. */
export type EndCode =
  | 'slow_reader'
  | 'certificate_expired'
  | 'certificate_revoked'
  | 'registration_changed'
  /** The same subscriber connected again. */
  | 'replaced'
  /** What comes next is not kept any more, or of another epoch: the next connection gets a snapshot. */
  | 'position_lost'
  | 'shutting_down'

export interface StreamDeps {
  readonly log: Pick<EntryLog, 'head' | 'next'>
  readonly now: () => number
  readonly monotonic: () => number
  /** The one that is due, of the head as it is now. */
  readonly heartbeat: () => Heartbeat
}

/** At most so much in one go, so that one reader with much to catch up with does not hold up the others. */
const maxBytesPerTurn = 262_144

export interface Stream {
  readonly subscriber: Subscriber
  readonly peer: StreamPeer
  /** It gets only what is its own, as whole frames through `send`; the entry log is not for it. */
  readonly own: boolean
  /** null: it waits for `begin`, or for `send`. */
  readonly start: FeedPosition | null
  /** Sends what is due as far as the connection takes it. @returns whether there is more that it would take */
  pump(): boolean
  /** What it hears of its own up to entry `n`, at once; null: nothing. */
  send(frame: Uint8Array | null, n: number): void
  /** Entries go on after the snapshot. */
  begin(snapshot: Snapshot): void
  /** Once it has been sent everything up to the head. */
  endAfter(code: EndCode): void
  readonly ending: EndCode | null
  end(code: EndCode): void
  readonly ended: EndCode | null
  /** The connection has not taken anything for so long; 0: it takes what it is given. */
  stalledMs(): number
  destroy(): void
}

export const createStream = (
  deps: StreamDeps,
  reader: {
    readonly subscriber: Subscriber
    readonly peer: StreamPeer
    readonly own: boolean
    readonly out: Writable
    readonly start: FeedPosition | null
    /** There is room again. */
    readonly onDrain: () => void
  },
): Stream => {
  const { log } = deps
  const { subscriber, out } = reader
  // Owned by this closure. `n` is what was sent last; null before there is a place to go on from.
  let n = reader.start?.n ?? null
  let parts: { readonly snapshot: Snapshot; next: number } | null = null
  let beat = -1
  let blockedAt: number | null = null
  let ending: EndCode | null = null
  let ended: EndCode | null = null

  out.on('drain', () => {
    blockedAt = null
    reader.onDrain()
  })

  const write = (...pieces: readonly Uint8Array[]): number => {
    let room = true
    let size = 0
    for (const piece of pieces) {
      room = out.write(piece)
      size += piece.length
    }
    if (!room) blockedAt ??= deps.monotonic()
    return size
  }

  const sendPart = ({ snapshot, next }: { readonly snapshot: Snapshot; readonly next: number }): number => {
    const { position, parts: all } = snapshot
    const size = write(Buffer.from(frameStart('snapshot', position)), all[next]!, frameEnd)
    if (next + 1 < all.length) parts = { snapshot, next: next + 1 }
    else {
      parts = null
      n = position.n
      subscriber.sent = n
    }
    return size
  }

  const sendEntry = (after: number): number => {
    const frame = log.next(after)
    if (frame === null) {
      end('position_lost')
      return 0
    }
    n = after + 1
    subscriber.sent = n
    return write(frame)
  }

  const sendHeartbeat = (): number => {
    const due = deps.heartbeat()
    if (due.beat === beat) return 0
    beat = due.beat
    subscriber.heartbeatAt = deps.now()
    return write(due.frame)
  }

  /** @returns bytes written; 0: nothing is due */
  const step = (): number => {
    if (parts !== null) return sendPart(parts)
    if (n === null) return 0
    if (n < log.head().n) return sendEntry(n)
    if (ending !== null) {
      end(ending)
      return 0
    }
    return sendHeartbeat()
  }

  const end = (code: EndCode): void => {
    if (ended !== null) return
    ended = code
    const position = { epoch: log.head().epoch, n: n ?? 0 }
    out.end(encodeFrame({ type: 'end', position, at: deps.now(), code }))
  }

  return {
    subscriber,
    peer: reader.peer,
    own: reader.own,
    start: reader.start,
    pump: () => {
      let bytes = 0
      out.cork()
      try {
        while (ended === null && blockedAt === null && bytes < maxBytesPerTurn) {
          const written = step()
          if (written === 0) return false
          bytes += written
        }
      } finally {
        out.uncork()
      }
      return ended === null && blockedAt === null
    },
    send: (frame, at) => {
      if (ended !== null) return
      n = at
      subscriber.sent = at
      if (frame !== null) write(frame)
    },
    begin: snapshot => {
      parts = { snapshot, next: 0 }
    },
    endAfter: code => {
      ending ??= code
    },
    get ending() {
      return ending
    },
    end,
    stalledMs: () => (blockedAt === null ? 0 : deps.monotonic() - blockedAt),
    get ended() {
      return ended
    },
    destroy: () => {
      out.destroy()
    },
  }
}

/** How the stream of a reader begins, before any event: how long to wait before it connects again. */
export const streamStart: Uint8Array = Buffer.from('retry: 1000\n\n')
