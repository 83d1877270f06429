// All streams that are open: visited in turn, ended with a reason, cut when they do not take it.
import type { Writable } from 'node:stream'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { createRounds } from './rounds.ts'
import type { EndCode, Stream } from './stream.ts'
import { createStreamIndex, type StreamIndex } from './stream-index.ts'
import type { Subscriber } from './subscribers.ts'

export interface Streams {
  readonly open: Omit<StreamIndex, 'add' | 'remove'>
  /** The stream of a subscriber; one that it had before ends. Its place is free when the connection closes. */
  add(stream: Stream, out: Writable): void
  /** It has something to send, or may have. */
  visit(stream: Stream): void
  visitAll(): void
  end(stream: Stream, code: EndCode): void
  /** It hears what is due as far as its connection takes it at its next visit, and no later: nobody waits for this reader. */
  cut(stream: Stream, code: EndCode): void
  endAll(code: EndCode): void
  /** Cuts those who were told to end at the beat before, and tells those who have to end now. */
  beat(): void
}

export const createStreams = (deps: {
  readonly clock: Clock
  readonly log: Log
  readonly leaseSeconds: number
  readonly disconnected: (subscriber: Subscriber) => void
}): Streams => {
  const { clock, log } = deps
  // Owned by this closure, changed only synchronously.
  const open = createStreamIndex()
  const parting = new Set<Stream>()
  /** What is to be their last entry was not sent when it was looked for. */
  let late = new Set<Stream>()
  const cutting = new WeakMap<Stream, EndCode>()

  const drop = (stream: Stream): void => {
    rounds.remove(stream)
    if (open.remove(stream)) deps.disconnected(stream.subscriber)
  }
  const end = (stream: Stream, code: EndCode): void => {
    stream.end(code)
    parting.add(stream)
    drop(stream)
  }
  const rounds = createRounds(clock, stream => {
    try {
      const more = stream.pump()
      const cut = cutting.get(stream)
      if (stream.ended === null && cut !== undefined) {
        end(stream, cut)
        stream.destroy()
        return false
      }
      if (stream.ended !== null) end(stream, stream.ended)
      return more
    } catch (error) {
      log.error({ subscriber: stream.subscriber.label, reason: messageOf(error) }, 'a stream of the feed failed')
      end(stream, 'position_lost')
      return false
    }
  })
  return {
    open,
    add: (stream, out) => {
      const before = open.add(stream)
      if (before !== undefined) end(before, 'replaced')
      // A connection that breaks is no fault; `close` tells.
      out.on('error', () => {})
      out.once('close', () => {
        parting.delete(stream)
        drop(stream)
      })
    },
    visit: rounds.add,
    visitAll: () => rounds.addAll(open.all()),
    end,
    cut: (stream, code) => {
      cutting.set(stream, code)
      stream.endAfter(code)
      rounds.add(stream)
    },
    endAll: code => {
      for (const stream of open.all()) end(stream, code)
    },
    beat: () => {
      for (const stream of parting) stream.destroy()
      parting.clear()
      const before = late
      late = new Set()
      for (const stream of open.all()) {
        const code = overdue(stream, clock.now(), deps.leaseSeconds)
        if (code !== null) end(stream, code)
        else if (stream.ending === null) continue
        else if (before.has(stream)) end(stream, stream.ending)
        else late.add(stream)
      }
    },
  }
}

/** Why a stream has to end now, if it has to. */
const overdue = (stream: Stream, now: number, leaseSeconds: number): EndCode | null => {
  if (stream.peer.notAfter <= now) return 'certificate_expired'
  // Its lease is over by now: whoever it is, it does not hear us.
  return stream.stalledMs() >= leaseSeconds * 1000 ? 'slow_reader' : null
}
