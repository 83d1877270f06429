// One reader of the feed: what it was sent, what it is due, and how it takes it. At most one frame more than its connection buffers is
// in memory for it, however slow it is: it is a position in the entry log, not a queue.
import type { Writable } from 'node:stream'
import type { FeedPosition, PrincipalKind } from '../verify/feed-event.ts'
import { encodeFrame, frameEnd, frameStart } from './entry.ts'
import type { EntryLog } from './entry-log.ts'
import type { Heartbeat } from './heartbeat.ts'
import { createOutlet, type Outlet } from './outlet.ts'
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
  /** The one that is due, of the head as it is now; null while the head is not known to be the ledger's. */
  readonly heartbeat: () => Heartbeat | null
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

export interface StreamReader {
  readonly subscriber: Subscriber
  readonly peer: StreamPeer
  readonly own: boolean
  readonly out: Writable
  readonly start: FeedPosition | null
  /** There is room again. */
  readonly onDrain: () => void
}

export const createStream = (deps: StreamDeps, reader: StreamReader): Stream => {
  const { log } = deps
  const { subscriber, peer, own, start } = reader
  const outlet = createOutlet(reader.out, deps.monotonic, reader.onDrain)
  // Owned by this closure. `n` is what was sent last; null before there is a place to go on from.
  let n = start?.n ?? null
  let parts: { readonly snapshot: Snapshot; readonly next: number } | null = null
  let beat = -1
  let ending: EndCode | null = null
  let ended: EndCode | null = null

  const reach = (at: number): void => {
    n = at
    subscriber.sent = at
  }
  const sendPart = ({ snapshot, next }: { readonly snapshot: Snapshot; readonly next: number }): number => {
    const { position, parts: all } = snapshot
    parts = next + 1 < all.length ? { snapshot, next: next + 1 } : null
    if (parts === null) reach(position.n)
    return outlet.write(Buffer.from(frameStart('snapshot', position)), all[next]!, frameEnd)
  }
  const sendEntry = (after: number): number => {
    const frame = log.next(after)
    if (frame === null) {
      end('position_lost')
      return 0
    }
    reach(after + 1)
    return outlet.write(frame)
  }
  const sendHeartbeat = (): number => {
    const due = deps.heartbeat()
    if (due === null || due.beat === beat) return 0
    beat = due.beat
    subscriber.heartbeatAt = deps.now()
    return outlet.write(due.frame)
  }
  /** @returns bytes written; 0: nothing is due */
  const step = (): number => {
    if (parts !== null) return sendPart(parts)
    if (n === null) return 0
    if (n < log.head().n) return sendEntry(n)
    if (ending === null) return sendHeartbeat()
    end(ending)
    return 0
  }
  const end = (code: EndCode): void => {
    if (ended !== null) return
    ended = code
    const position = { epoch: log.head().epoch, n: n ?? 0 }
    outlet.end(encodeFrame({ type: 'end', position, at: deps.now(), code }))
  }

  return {
    ...{ subscriber, peer, own, start },
    pump: () => fill(outlet, () => (ended === null ? step() : 0)),
    send: (frame, at) => {
      if (ended !== null) return
      reach(at)
      if (frame !== null) outlet.write(frame)
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
    get ended() {
      return ended
    },
    stalledMs: outlet.stalledMs,
    destroy: outlet.destroy,
  }
}

/** @param step writes what is next, if anything is. @returns whether there may be more, and room for it */
const fill = (outlet: Outlet, step: () => number): boolean => {
  let written = 0
  outlet.together(() => {
    let bytes = 0
    do {
      written = outlet.full ? 0 : step()
      bytes += written
    } while (written > 0 && bytes < maxBytesPerTurn)
  })
  return written > 0 && !outlet.full
}

/** How the stream of a reader begins, before any event: how long to wait before it connects again. */
export const streamStart: Uint8Array = Buffer.from('retry: 1000\n\n')
