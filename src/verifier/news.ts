// Where a verifier hears of changes: the feed, and published states while that is away. What is heard goes to the keeper, and whoever depends
// on it is told of what is different now.
import type { Timing } from '../agent/backoff.ts'
import type { AgentIdentity } from '../agent/identity.ts'
import type { Log } from '../base/log.ts'
import type { FeedEvent } from '../verify/feed-event.ts'
import type { Applied } from '../verify/revocation-state.ts'
import { startFeedClient } from './feed-client.ts'
import type { FollowedTrust } from './followed-trust.ts'
import type { Keeper } from './keeper.ts'
import type { VerifierSettings } from './options.ts'
import type { CallingIdentity, Outside } from './outside/calls.ts'
import { startPublishedStatePolling } from './published-state.ts'

export interface NewsDeps {
  readonly identity: CallingIdentity & Pick<AgentIdentity, 'onChange'>
  readonly calling: Pick<Outside, 'fetchPublic'>
  readonly timing: Timing
  readonly log: Log
  readonly keeper: Keeper
  readonly trust: Pick<FollowedTrust, 'heard'>
  readonly settings: Pick<VerifierSettings, 'maxStalenessMs' | 'statusUrl'>
  readonly subscriber: string
  /** Policies may be others: those that the state names. */
  readonly policiesHeard: () => void
  readonly anchorsChanged: () => void
  /** After what is known changed, and before it is acknowledged. */
  readonly changed: () => void
}

export interface News {
  /** Whether the feed's stream is open. */
  readonly connected: boolean
  /** Resolves once there is a verified state. */
  ready(): Promise<void>
  close(): Promise<void>
}

export const startNews = (deps: NewsDeps): News => {
  const { identity, keeper, trust, timing, log, settings } = deps
  // Owned by this closure.
  const waiting = new Set<() => void>()
  let heardPem = keeper.bundlePem()

  const changed = (): void => {
    deps.changed()
    if (keeper.position() === null) return
    for (const ready of waiting) ready()
    waiting.clear()
  }
  const take = (event: FeedEvent, asked: number): Applied => {
    const applied = keeper.take(event, asked)
    if (applied !== 'applied' || event.type === 'heartbeat') return applied
    if (event.type === 'policy' || event.type === 'snapshot') deps.policiesHeard()
    const bundlePem = keeper.bundlePem()
    if (bundlePem !== null && bundlePem !== heardPem) {
      heardPem = bundlePem
      if (trust.heard(bundlePem)) deps.anchorsChanged()
    }
    changed()
    return applied
  }
  const feed = startFeedClient({
    identity,
    log,
    subscriber: deps.subscriber,
    maxStalenessSeconds: Math.ceil(settings.maxStalenessMs / 1000),
    position: keeper.position,
    take,
    timing,
  })
  const published = startPublishedStatePolling({
    identity,
    fetch: deps.calling.fetchPublic,
    keeper,
    timing,
    log,
    statusUrl: settings.statusUrl,
    isLive: () => keeper.freshness().rung === 'live',
    changed: () => {
      deps.policiesHeard()
      changed()
    },
  })
  return {
    get connected() {
      return feed.connected
    },
    ready: async () => {
      if (keeper.position() === null) await new Promise<void>(resolve => waiting.add(resolve))
    },
    close: async () => {
      await Promise.all([feed.close(), published.close()])
    },
  }
}
