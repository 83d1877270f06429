// The feed for everybody who listens: entries are read once after their commit, encoded once, and written to each connection in turn.
// A stream ends with its peer's certificate. One timer beats for all.
import type { Writable } from 'node:stream'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { FeedPort } from '../store/ports.ts'
import { type FeedPosition, type KnownFeedEvent, parsePosition } from '../verify/feed-event.ts'
import type { Applied } from './applied.ts'
import { encodeFrame } from './entry.ts'
import { createEntryLog } from './entry-log.ts'
import { createHeartbeats } from './heartbeat.ts'
import { instancesOf, type OwnStateDeps, ownEvent, ownSnapshot } from './own-state.ts'
import { createRounds } from './rounds.ts'
import type { Snapshots } from './snapshot.ts'
import { createStream, type EndCode, type Stream, type StreamPeer, streamStart } from './stream.ts'
import { createStreamIndex, type StreamIndex } from './stream-index.ts'
import type { SubscriberIdentity, Subscribers } from './subscribers.ts'

export interface HubDeps extends OwnStateDeps {
  readonly clock: Clock
  readonly log: Log
  readonly feed: Pick<FeedPort, 'head' | 'oldest' | 'read' | 'onAppend'>
  readonly snapshots: Snapshots
  readonly subscribers: Subscribers
  readonly applied: Pick<Applied, 'appended' | 'acknowledged' | 'left' | 'sweep'>
  readonly heartbeatSeconds: number
  readonly leaseSeconds: number
}

export interface Subscription {
  readonly peer: StreamPeer
  readonly identity: SubscriberIdentity
  /** The id of the last event that it has; what is none, or of another epoch, leads to a snapshot. */
  readonly since: string | null
}

export interface Hub {
  /**
   * Writes to `out` until one of both ends it. To be called in the turn of the event loop in which the peer was checked: what is
   * committed afterwards is looked at here. @throws FeedError `too_many_subscribers`
   */
  subscribe(subscription: Subscription, out: Writable): void
  /** Applied up to there, and live connections cut. @throws FeedError `subscriber_unknown`, `position_unknown` */
  acknowledge(subscriber: Pick<SubscriberIdentity, 'kind' | 'name' | 'replica'>, position: FeedPosition): void
  /** The subscriber admits nobody any more: nobody waits for it. @throws as acknowledge */
  leave(subscriber: Pick<SubscriberIdentity, 'kind' | 'name' | 'replica'>, position: FeedPosition): void
  head(): FeedPosition
  /** Ends every stream. */
  close(): void
}

/** Behind the head: further back a snapshot of now is less to read than what happened since. */
const maxSnapshotAge = 2000

export const createHub = (deps: HubDeps): Hub => {
  const { clock, log, subscribers, applied } = deps
  const entries = createEntryLog(deps.feed)
  const heartbeats = createHeartbeats(clock, deps.leaseSeconds, entries.head)
  // Owned by this closure, changed only synchronously.
  const streams = createStreamIndex()
  /** Told why they end, and given a beat to take it. */
  const parting = new Set<Stream>()
  let closed = false

  const drop = (stream: Stream): void => {
    rounds.remove(stream)
    if (streams.remove(stream)) subscribers.disconnect(stream.subscriber)
  }
  const end = (stream: Stream, code: EndCode): void => {
    stream.end(code)
    parting.add(stream)
    drop(stream)
  }
  const rounds = createRounds(clock, stream => {
    try {
      const more = stream.pump()
      if (stream.ended !== null) end(stream, stream.ended)
      return more
    } catch (error) {
      log.error({ subscriber: stream.subscriber.label, reason: messageOf(error) }, 'a stream of the feed failed')
      end(stream, 'position_lost')
      return false
    }
  })

  const onAppend = (): void => {
    const { epoch } = entries.head()
    const events = entries.advance()
    if (entries.head().epoch !== epoch) for (const stream of streams.all()) end(stream, 'position_lost')
    for (const event of events) {
      endConcerned(streams, event)
      sendOwn(deps, streams, event)
    }
    applied.appended(events)
    rounds.addAll(streams.all())
  }
  const beat = (): void => {
    heartbeats.next()
    for (const stream of parting) stream.destroy()
    parting.clear()
    for (const stream of streams.all()) {
      const code = overdue(stream, clock.now(), deps.leaseSeconds)
      if (code !== null) end(stream, code)
    }
    rounds.addAll(streams.all())
    subscribers.sweep()
    applied.sweep()
  }
  const beginWithSnapshot = async (stream: Stream): Promise<void> => {
    try {
      stream.begin(await deps.snapshots.recent(maxSnapshotAge))
      if (streams.has(stream)) rounds.add(stream)
    } catch (error) {
      log.error({ reason: messageOf(error) }, 'no snapshot of the state for a subscriber')
      stream.destroy()
    }
  }
  const begin = (stream: Stream): void => {
    if (stream.own) {
      const snapshot = ownSnapshot(deps, stream.peer, entries.head(), clock.now())
      stream.send(encodeFrame(snapshot), entries.head().n)
    } else if (stream.start === null) void beginWithSnapshot(stream)
    rounds.add(stream)
  }

  const stopListening = deps.feed.onAppend(onAppend)
  const timer = setInterval(beat, deps.heartbeatSeconds * 1000).unref()
  const acknowledge: Hub['acknowledge'] = (identity, position) => {
    const { epoch } = entries.head()
    applied.acknowledged(subscribers.acknowledge(identity, position.epoch === epoch ? position.n : null))
  }

  return {
    subscribe: ({ peer, identity, since }, out) => {
      const own = peer.kind === 'agent'
      const position = since === null || own ? null : parsePosition(since)
      const start = position !== null && entries.reaches(position) ? position : null
      const subscriber = subscribers.connect(identity, start?.n ?? 0)
      const stream: Stream = createStream(
        { log: entries, now: clock.now, monotonic: clock.monotonic, heartbeat: heartbeats.current },
        { subscriber, peer, own, out, start, onDrain: () => rounds.add(stream) },
      )
      const before = streams.add(stream)
      if (before !== undefined) end(before, 'replaced')
      // A connection that breaks is no fault; `close` tells.
      out.on('error', () => {})
      out.once('close', () => {
        parting.delete(stream)
        drop(stream)
      })
      out.write(streamStart)
      if (closed) end(stream, 'shutting_down')
      else begin(stream)
    },
    acknowledge,
    leave: (identity, position) => {
      acknowledge(identity, position)
      const left = subscribers.forget(identity)
      if (left !== null) applied.left(left)
    },
    head: entries.head,
    close: () => {
      closed = true
      stopListening()
      clearInterval(timer)
      for (const stream of streams.all()) end(stream, 'shutting_down')
    },
  }
}

/** The last it hears is the entry that ends it. */
const endConcerned = (streams: StreamIndex, event: KnownFeedEvent): void => {
  if (event.type === 'revoke' || event.type === 'hold')
    for (const { serial } of event.changes)
      for (const stream of streams.bySerial(serial)) stream.endAfter('certificate_revoked')
  if (event.type === 'agent' && event.principal.state !== 'active')
    for (const stream of streams.byName(event.principal.kind, event.principal.name))
      stream.endAfter('registration_changed')
}

const sendOwn = (deps: OwnStateDeps, streams: StreamIndex, event: KnownFeedEvent): void => {
  if (streams.own().size === 0) return
  const instances = instancesOf(deps, event)
  for (const stream of streams.own()) {
    const heard = ownEvent(event, stream.peer, instances)
    stream.send(heard === null ? null : encodeFrame(heard), event.position.n)
  }
}

/** Why a stream has to end now, if it has to. */
const overdue = (stream: Stream, now: number, leaseSeconds: number): EndCode | null => {
  if (stream.ending !== null) return stream.ending
  if (stream.peer.notAfter <= now) return 'certificate_expired'
  // Its lease is over by now: whoever it is, it does not hear us.
  return stream.stalledMs() >= leaseSeconds * 1000 ? 'slow_reader' : null
}
