// One revocation or hold and how far it has got, over however many entries of the feed it goes.
import type { KnownFeedEvent } from '../verify/feed-event.ts'
import type { Subscriber } from './subscribers.ts'

export type StatusEvent = Extract<KnownFeedEvent, { readonly changes: unknown }> & { readonly type: 'revoke' | 'hold' }

/** Those who have not applied it, and until when they are covered: by then they refuse everybody of their own accord. */
export type Waiting = Map<Subscriber, number>

export interface Deed {
  /** The first. */
  readonly event: StatusEvent
  /** Number of its last entry. */
  n: number
  /** Monotonic. */
  readonly startedAt: number
  /** Subscribers that it concerns. */
  readonly of: number
  readonly waiting: Waiting
  /** Milliseconds by subscriber. */
  readonly applied: Map<string, number>
  slowestMs: number
  receipted: boolean
}

export interface Missing {
  /** `name/replica` */
  readonly subscriber: string
  /** Since when it does not hear, or ought to have applied it; milliseconds since the epoch. */
  readonly staleSince: number
  readonly coveredUntil: number
}

/** Releases only open what was closed: nobody is harmed by one that is late. */
export const isDeed = (event: KnownFeedEvent): event is StatusEvent =>
  (event.type === 'revoke' || event.type === 'hold') && event.changes.length > 0

export const isPartOf = ({ event }: Deed, other: StatusEvent): boolean =>
  event.type === other.type && event.at === other.at && event.by === other.by && event.value === other.value

export const covers = ({ event, n: last }: Deed, n: number): boolean => event.position.n <= n && n <= last

export const markApplied = (deed: Deed, { label }: Subscriber, ms: number): void => {
  deed.applied.set(label, Math.round(ms))
  deed.slowestMs = Math.max(deed.slowestMs, Math.round(ms))
}

/** @param dueSince for those who are connected */
export const missingOf = (waiting: Waiting, dueSince: number): readonly Missing[] =>
  [...waiting].map(([{ label, disconnectedAt }, coveredUntil]) => ({
    subscriber: label,
    staleSince: disconnectedAt ?? dueSince,
    coveredUntil,
  }))
