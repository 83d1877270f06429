// Who follows the feed, how far each has got, and until when it may act on what it knew. In memory: after a restart all come back.
import type { Clock } from '../base/clock.ts'
import type { PrincipalKind } from '../verify/feed-event.ts'
import { FeedError } from './errors.ts'

export interface SubscriberIdentity {
  readonly kind: PrincipalKind
  /** Of the registration. */
  readonly name: string
  /** One process of it. Processes that share an identity choose different ones. */
  readonly replica: string
  /** How long beyond its lease it goes on with what it knows. */
  readonly maxStalenessSeconds: number
}

/** Changed here and by the stream that serves it; everybody else reads. */
export interface Subscriber extends SubscriberIdentity {
  /** `name/replica`; unique together with the kind. */
  readonly label: string
  connectedAt: number
  /** Of the certificate that it connected with. */
  serial: string
  /** null: connected. */
  disconnectedAt: number | null
  /** Number of the last entry that was sent, or covered by a snapshot. */
  sent: number
  /** Highest number that it said it applied; null: none yet. */
  acked: number | null
  ackedAt: number | null
  /** Its lease began then: what it knew was current. */
  heartbeatAt: number | null
}

export interface Subscribers {
  /** Known from before: what it acknowledged still holds. @throws FeedError `too_many_subscribers` */
  connect(identity: SubscriberIdentity, sent: number, serial: string): Subscriber
  disconnect(subscriber: Subscriber): void
  /** @param n null: a position of another epoch. @throws FeedError `subscriber_unknown`, `position_unknown` */
  acknowledge(subscriber: Pick<SubscriberIdentity, 'kind' | 'name' | 'replica'>, n: number | null): Subscriber
  /** @returns null when it was not known */
  forget(subscriber: Pick<SubscriberIdentity, 'kind' | 'name' | 'replica'>): Subscriber | null
  /** It is retired: none of its processes is waited for, and their places are free. @returns those who were known */
  forgetRegistration(registration: Pick<SubscriberIdentity, 'kind' | 'name'>): readonly Subscriber[]
  /** These were revoked: who connected with one is not waited for, and its place is free. @returns those who were known */
  forgetCertificates(serials: ReadonlySet<string>): readonly Subscriber[]
  /** Forgets who is gone for so long that it refuses everybody by itself. */
  sweep(): void
  /** Until when it may still admit a caller by what it knew; milliseconds since the epoch. */
  coveredUntil(subscriber: Subscriber): number
  all(): Iterable<Subscriber>
  /** Those who refuse callers by what they hear: services. Others only look. */
  enforcing(): readonly Subscriber[]
}

/** As many as the listener takes connections: each is some hundred bytes here. Agents have as many of their own. */
const maxInPool = 10_000
/** Of one service or operator: a key that leaks takes a part of the places, and never all. An agent has one for each instance. */
const maxOfRegistration = 2000

type Pool = 'agents' | 'others'

/** Owned by createSubscribers: how many places are taken, in all and by each registration. */
const createPlaces = () => {
  const pools: Record<Pool, number> = { agents: 0, others: 0 }
  const registrations = new Map<string, number>()
  const poolOf = ({ kind }: Pick<SubscriberIdentity, 'kind'>): Pool => (kind === 'agent' ? 'agents' : 'others')
  const keyOf = ({ kind, name }: Pick<SubscriberIdentity, 'kind' | 'name'>): string => `${kind} ${name}`
  const count = (identity: SubscriberIdentity, change: 1 | -1): void => {
    pools[poolOf(identity)] += change
    const of = (registrations.get(keyOf(identity)) ?? 0) + change
    if (of === 0) registrations.delete(keyOf(identity))
    else registrations.set(keyOf(identity), of)
  }
  return {
    /** @throws FeedError `too_many_subscribers` */
    take: (identity: SubscriberIdentity): void => {
      const pool = poolOf(identity)
      if (pool === 'others' && (registrations.get(keyOf(identity)) ?? 0) >= maxOfRegistration)
        throw new FeedError(
          'too_many_subscribers',
          `${maxOfRegistration} of ${keyOf(identity)} follow the feed already`,
          {
            hint: 'let processes keep their `subscriber` name over restarts: names that are gone keep their places until they refuse everybody',
          },
        )
      if (pools[pool] >= maxInPool)
        throw new FeedError('too_many_subscribers', `${maxInPool} subscribers follow the feed already`)
      count(identity, 1)
    },
    free: (identity: SubscriberIdentity): void => count(identity, -1),
  }
}

export const createSubscribers = (deps: { readonly clock: Clock; readonly leaseSeconds: number }): Subscribers => {
  const { clock, leaseSeconds } = deps
  const known = new Map<string, Subscriber>()
  const places = createPlaces()
  const keyOf = ({ kind, name, replica }: Pick<SubscriberIdentity, 'kind' | 'name' | 'replica'>): string =>
    `${kind} ${name}/${replica}`
  const drop = (key: string, subscriber: Subscriber): void => {
    if (known.delete(key)) places.free(subscriber)
  }
  const dropAll = (isMeant: (subscriber: Subscriber) => boolean): readonly Subscriber[] => {
    const those = [...known].filter(([, each]) => isMeant(each))
    for (const [key, subscriber] of those) drop(key, subscriber)
    return those.map(([, subscriber]) => subscriber)
  }
  const coveredUntil = ({ heartbeatAt, connectedAt, maxStalenessSeconds }: Subscriber): number =>
    (heartbeatAt ?? connectedAt) + (leaseSeconds + maxStalenessSeconds) * 1000

  return {
    connect: (identity, sent, serial) => {
      const key = keyOf(identity)
      const before = known.get(key)
      if (before === undefined) places.take(identity)
      // The same object through all its connections: others wait for its acknowledgement.
      const subscriber: Subscriber = Object.assign(
        before ?? { label: `${identity.name}/${identity.replica}`, acked: null, ackedAt: null, heartbeatAt: null },
        { ...identity, connectedAt: clock.now(), disconnectedAt: null, sent, serial },
      )
      known.set(key, subscriber)
      return subscriber
    },
    disconnect: subscriber => {
      subscriber.disconnectedAt ??= clock.now()
    },
    acknowledge: (identity, n) => {
      const subscriber = known.get(keyOf(identity))
      if (subscriber === undefined)
        throw new FeedError('subscriber_unknown', `${identity.name}/${identity.replica} does not follow the feed`, {
          hint: 'GET /v1/feed with the same subscriber first',
        })
      if (n === null || n > subscriber.sent)
        throw new FeedError('position_unknown', 'expected a position that was sent to this subscriber', {
          facts: { sent: subscriber.sent },
        })
      if (subscriber.acked === null || n > subscriber.acked) {
        subscriber.acked = n
        subscriber.ackedAt = clock.now()
      }
      return subscriber
    },
    forget: identity => {
      const subscriber = known.get(keyOf(identity))
      if (subscriber === undefined) return null
      drop(keyOf(identity), subscriber)
      return subscriber
    },
    forgetRegistration: ({ kind, name }) => dropAll(each => each.kind === kind && each.name === name),
    forgetCertificates: serials => dropAll(each => serials.has(each.serial)),
    sweep: () => {
      const now = clock.now()
      for (const [key, subscriber] of known)
        if (subscriber.disconnectedAt !== null && coveredUntil(subscriber) <= now) drop(key, subscriber)
    },
    coveredUntil,
    all: () => known.values(),
    enforcing: () => [...known.values()].filter(({ kind }) => kind === 'service'),
  }
}
