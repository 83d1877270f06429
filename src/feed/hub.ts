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
import type { Snapshots } from './snapshot.ts'
import { createStream, type Stream, type StreamPeer, streamStart } from './stream.ts'
import { createStreams, type Streams } from './streams.ts'
import type { Subscriber, SubscriberIdentity, Subscribers } from './subscribers.ts'

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
  const { clock, log, subscribers, applied, leaseSeconds } = deps
  const entries = createEntryLog(deps.feed)
  const streams = createStreams({ clock, log, leaseSeconds, disconnected: subscribers.disconnect })
  const heartbeats = createHeartbeats({ clock, leaseSeconds, head: deps.feed.head, sent: entries.head })
  let closed = false

  /** @throws what reading the ledger throws; no heartbeat is sent then that was made before */
  const taken = (): readonly KnownFeedEvent[] => {
    try {
      return entries.advance()
    } catch (error) {
      heartbeats.next()
      throw error
    }
  }
  /** Takes what was committed, and has it sent. @throws as `taken`; it is tried again at the next beat */
  const follow = (): void => {
    const { epoch } = entries.head()
    const events = taken()
    if (entries.head().epoch !== epoch) streams.endAll('position_lost')
    for (const event of events) endConcerned(streams, event)
    for (const event of events) for (const subscriber of forgotten(subscribers, event)) applied.left(subscriber)
    applied.appended(events)
    for (const event of events) sendOwn(deps, streams, event)
    streams.visitAll()
  }
  const beat = (): void => {
    try {
      heartbeats.next()
      streams.beat()
      // Usually nothing: whatever kept an entry from being sent after its commit is over by now, or no heartbeat is sent.
      follow()
      subscribers.sweep()
      applied.sweep()
    } catch (error) {
      log.error({ reason: messageOf(error) }, 'the feed cannot be read: verifiers hear nothing')
    }
  }
  const begin = createBeginning(deps, streams, entries.head)
  const acknowledge: Hub['acknowledge'] = (identity, position) => {
    const { epoch } = entries.head()
    applied.acknowledged(subscribers.acknowledge(identity, position.epoch === epoch ? position.n : null))
  }

  const stopListening = deps.feed.onAppend(follow)
  const timer = setInterval(beat, deps.heartbeatSeconds * 1000).unref()
  return {
    subscribe: ({ peer, identity, since }, out) => {
      const own = peer.kind === 'agent'
      const position = since === null || own ? null : parsePosition(since)
      const start = position !== null && entries.reaches(position) ? position : null
      warnOfRestore(log, identity, position, entries.head())
      const subscriber = subscribers.connect(identity, start?.n ?? 0, peer.serial)
      const stream: Stream = createStream(
        { log: entries, now: clock.now, monotonic: clock.monotonic, heartbeat: heartbeats.current },
        { subscriber, peer, own, out, start, onDrain: () => streams.visit(stream) },
      )
      streams.add(stream, out)
      out.write(streamStart)
      if (closed) streams.end(stream, 'shutting_down')
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
      streams.endAll('shutting_down')
    },
  }
}

/** A position that this feed never gave out, or lost. Only a word to the operator: whoever connects may say anything. */
const warnOfRestore = (
  log: Log,
  { name }: SubscriberIdentity,
  known: FeedPosition | null,
  head: FeedPosition,
): void => {
  if (known === null || known.epoch !== head.epoch || known.n <= head.n) return
  log.warn(
    { subscriber: name, known: known.n, head: head.n },
    'a subscriber knows entries that the ledger does not have: after a restore, agentca feed new-epoch',
  )
}

/** What a stream gets before it is at the head. */
const createBeginning = (deps: HubDeps, streams: Streams, head: () => FeedPosition) => {
  const withSnapshot = async (stream: Stream): Promise<void> => {
    try {
      stream.begin(await deps.snapshots.recent(maxSnapshotAge))
      if (streams.open.has(stream)) streams.visit(stream)
    } catch (error) {
      deps.log.error({ reason: messageOf(error) }, 'no snapshot of the state for a subscriber')
      stream.destroy()
    }
  }
  return (stream: Stream): void => {
    if (stream.own) stream.send(encodeFrame(ownSnapshot(deps, stream.peer, head(), deps.clock.now())), head().n)
    else if (stream.start === null) void withSnapshot(stream)
    streams.visit(stream)
  }
}

/** The last it hears is the entry that ends it. */
const endConcerned = ({ open, cut }: Pick<Streams, 'open' | 'cut'>, event: KnownFeedEvent): void => {
  if (event.type === 'revoke')
    for (const { serial } of event.changes)
      for (const stream of open.bySerial(serial)) cut(stream, 'certificate_revoked')
  if (event.type === 'hold')
    for (const { serial } of event.changes)
      for (const stream of open.bySerial(serial)) stream.endAfter('certificate_revoked')
  if (event.type === 'agent' && event.principal.state !== 'active')
    for (const stream of open.byName(event.principal.kind, event.principal.name))
      stream.endAfter('registration_changed')
}

/**
 * For whom nobody waits any more, and whose places are free: who follows by a certificate that was revoked is in other hands, or should
 * not be there. Not who was superseded: its holder comes back with the successor.
 */
const forgotten = (subscribers: Subscribers, event: KnownFeedEvent): readonly Subscriber[] => {
  if (event.type === 'agent' && event.principal.state === 'retired')
    return subscribers.forgetRegistration(event.principal)
  if (event.type !== 'revoke' || event.reason === 'superseded') return []
  return subscribers.forgetCertificates(new Set(event.changes.map(({ serial }) => serial)))
}

const sendOwn = (deps: HubDeps, { open, end }: Pick<Streams, 'open' | 'end'>, event: KnownFeedEvent): void => {
  if (open.own().size === 0) return
  try {
    const instances = instancesOf(deps, event)
    for (const stream of open.own()) {
      const heard = ownEvent(event, stream.peer, instances)
      stream.send(heard === null ? null : encodeFrame(heard), event.position.n)
    }
  } catch (error) {
    // They begin again with what is theirs by then.
    deps.log.error({ reason: messageOf(error) }, 'agents are not told of an entry')
    for (const stream of open.own()) end(stream, 'position_lost')
  }
}
