// The feed as operators see it: who follows it and how far each has got, and where a revocation is applied.
import { feedEpochChanged } from '../../audit/events.ts'
import { leafContextOf } from '../../ca/leaf-context.ts'
import type { AppliedStatus } from '../../feed/applied.ts'
import type { SubscriberStatus } from '../../feed/feed.ts'
import type { FeedAppliedAnswer, SubscriberAnswer } from '../../schema/admin-answers.ts'
import { time } from './answers.ts'
import type { AdminDeps } from './deps.ts'
import type { Handlers } from './handler.ts'

const timeOrNull = (ms: number | null): string | null => (ms === null ? null : time(ms))

const subscriberAnswer = ({ subscriber, state, lag, coveredUntil }: SubscriberStatus): SubscriberAnswer => ({
  subscriber: subscriber.label,
  kind: subscriber.kind,
  state,
  sent: subscriber.sent,
  acked: subscriber.acked,
  lag,
  connectedAt: time(subscriber.connectedAt),
  ackedAt: timeOrNull(subscriber.ackedAt),
  heartbeatAt: timeOrNull(subscriber.heartbeatAt),
  staleSince: timeOrNull(subscriber.disconnectedAt),
  coveredUntil: time(coveredUntil),
})

const appliedAnswer = (n: number, { of, afterMs, missing }: AppliedStatus): FeedAppliedAnswer => ({
  n,
  of,
  applied: of - missing.length,
  afterMs,
  missing: missing.map(({ subscriber, staleSince, coveredUntil }) => ({
    subscriber,
    staleSince: time(staleSince),
    coveredUntil: time(coveredUntil),
  })),
})

type Names = 'feedStatus' | 'feedApplied' | 'feedNewEpoch'

export const feedHandlers = ({ feed, ledger, clock }: AdminDeps): Pick<Handlers, Names> => ({
  feedStatus: () => {
    const { head, oldest, heartbeatSeconds, leaseSeconds, subscribers } = feed.status()
    return { ...head, oldest, heartbeatSeconds, leaseSeconds, subscribers: subscribers.map(subscriberAnswer) }
  },
  feedNewEpoch: async ({ body: { why = '', dryRun }, context }) => {
    const present = ledger.feed.head()
    if (dryRun) return { from: present.epoch, ...present }
    let ended = ''
    const head = await ledger.feed.newEpoch((from, to) => {
      ended = from.epoch
      return feedEpochChanged(leafContextOf(context, clock.now()), { from: from.epoch, to: to.epoch, why })
    })
    return { from: ended, ...head }
  },
  feedApplied: async ({ query: { n, waitMs } }) => appliedAnswer(n, await feed.applied(n, waitMs)),
})
