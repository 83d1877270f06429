// The feed of one core, put together: streams, subscribers, and what is known of how far revocations have got.
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Metrics } from '../base/metrics.ts'
import type { AuditPort, CertificatesPort, FeedPort, RegistrationsPort } from '../store/ports.ts'
import type { Registration } from '../store/records.ts'
import type { FeedPosition } from '../verify/feed-event.ts'
import { type AppliedStatus, createApplied } from './applied.ts'
import { createHub, type Hub } from './hub.ts'
import { createReceipts } from './receipts.ts'
import { createSnapshots, type Snapshots } from './snapshot.ts'
import { createSubscribers, type Subscriber } from './subscribers.ts'

export interface FeedDeps {
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly feed: FeedPort
  readonly certificates: Pick<CertificatesPort, 'list'>
  readonly registrations: Pick<RegistrationsPort, 'find' | 'byId'>
  readonly audit: Pick<AuditPort, 'append'>
  readonly heartbeatSeconds: number
  readonly leaseSeconds: number
}

export interface SubscriberStatus {
  readonly subscriber: Subscriber
  /** `live` has applied everything, `lagging` hears and has not, `stale` does not hear. */
  readonly state: 'live' | 'lagging' | 'stale'
  /** Entries that it has not applied; null: it never said what it has. */
  readonly lag: number | null
  readonly coveredUntil: number
}

export interface FeedStatus {
  readonly head: FeedPosition
  /** Number of the oldest entry that is kept. */
  readonly oldest: number
  readonly heartbeatSeconds: number
  readonly leaseSeconds: number
  readonly subscribers: readonly SubscriberStatus[]
}

export interface Feed extends Omit<Hub, 'close'> {
  readonly snapshots: Snapshots
  status(): FeedStatus
  /** How far entry `n` has got once nobody is missing, or after so long. */
  applied(n: number, waitMs: number): Promise<AppliedStatus>
  /** Ends every stream; receipts that are due are written. */
  close(): Promise<void>
}

const statusOf = (subscriber: Subscriber, head: FeedPosition, coveredUntil: number): SubscriberStatus => {
  const { acked, disconnectedAt, sent, kind } = subscriber
  const lag = acked === null ? null : Math.max(0, head.n - acked)
  // Who only looks acknowledges nothing: what counts is what was sent.
  const behind = kind === 'service' ? lag !== 0 : sent < head.n
  const state = disconnectedAt !== null ? 'stale' : behind ? 'lagging' : 'live'
  return { subscriber, state, lag, coveredUntil }
}

const whoseIs = ({ certificates, registrations }: FeedDeps, serial: string): Registration | null => {
  const [row] = certificates.list({ serials: [serial], limit: 1 }).rows
  return row === undefined ? null : registrations.byId(row.registrationId)
}

export const createFeed = (deps: FeedDeps): Feed => {
  const { clock, log, metrics, feed, heartbeatSeconds, leaseSeconds } = deps
  const subscribers = createSubscribers({ clock, leaseSeconds })
  const snapshots = createSnapshots({ clock, feed })
  const receipts = createReceipts({ clock, log, audit: deps.audit, registrationOf: serial => whoseIs(deps, serial) })
  const applied = createApplied({ clock, metrics, subscribers, receipts })
  const hub = createHub({ ...deps, snapshots, subscribers, applied })

  const status = (): FeedStatus => ({
    head: hub.head(),
    oldest: feed.oldest(),
    heartbeatSeconds,
    leaseSeconds,
    subscribers: [...subscribers.all()].map(each => statusOf(each, hub.head(), subscribers.coveredUntil(each))),
  })
  metrics.gauge('agentca_feed_subscribers', () => {
    const states = status()
      .subscribers.filter(({ subscriber }) => subscriber.kind === 'service')
      .map(({ state }) => state)
    return (['live', 'lagging', 'stale'] as const).map(state => ({
      value: states.filter(each => each === state).length,
      labels: { state },
    }))
  })
  return {
    subscribe: hub.subscribe,
    acknowledge: hub.acknowledge,
    leave: hub.leave,
    head: hub.head,
    snapshots,
    status,
    applied: applied.wait,
    close: async () => {
      hub.close()
      await applied.close()
    },
  }
}
