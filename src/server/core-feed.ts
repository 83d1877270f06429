// The feed and the signed state of a core: what follows the ledger's changes for verifiers.
import { join } from 'node:path'
import { feedEpochChanged } from '../audit/events.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Metrics } from '../base/metrics.ts'
import { createFeed, type Feed } from '../feed/feed.ts'
import { openStateDirectory, type PublishedState } from '../feed/state-directory.ts'
import { createStatePublisher, type StatePublisher } from '../feed/state-publisher.ts'
import type { Config } from '../schema/config.ts'
import type { Ledger } from '../store/ports.ts'

export interface CoreFeedDeps {
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly ledger: Ledger
  readonly config: Config['feed']
  /** `status/` of the home. */
  readonly directory: string
  readonly caId: string
  readonly logKeySpki: Uint8Array
  readonly sign: (text: Uint8Array) => Promise<Uint8Array>
}

export interface CoreFeed {
  readonly feed: Feed
  readonly state: StatePublisher
}

/**
 * A ledger behind what was published is an older one that was put back: its next entries would have numbers that verifiers know as
 * something else.
 */
const beginEpochIfRestored = async ({ ledger, clock, log }: CoreFeedDeps, before: PublishedState | null) => {
  const { epoch, n } = ledger.feed.head()
  if (before === null || before.head.epoch !== epoch || before.head.n <= n) return
  const why = `entry ${before.head.n} was published, the ledger ends at ${n}`
  const now = await ledger.feed.newEpoch((from, to) =>
    feedEpochChanged({ at: clock.now(), who: 'system' }, { from: from.epoch, to: to.epoch, why }),
  )
  log.warn({ from: epoch, to: now.epoch, why }, 'an older ledger was restored: the feed begins a new epoch')
}

/** @throws StoreError; the error of the file system when the directory cannot be made */
export const openCoreFeed = async (deps: CoreFeedDeps): Promise<CoreFeed> => {
  const { ledger, config, caId, logKeySpki, sign } = deps
  const directory = await openStateDirectory(join(deps.directory, 'state'), deps.log)
  const before = await directory.load({ caId, logKeySpki })
  await beginEpochIfRestored(deps, before)
  const common = { clock: deps.clock, log: deps.log, feed: ledger.feed }
  const feed = createFeed({
    ...common,
    metrics: deps.metrics,
    certificates: ledger.certificates,
    registrations: ledger.registrations,
    audit: ledger.audit,
    heartbeatSeconds: config.heartbeat,
    leaseSeconds: config.lease,
  })
  const state = createStatePublisher({
    ...common,
    snapshots: feed.snapshots,
    caId,
    logKeySpki,
    sign,
    directory,
    before,
    everySeconds: config.stateEvery,
  })
  return { feed, state }
}
