// The feed over a real ledger, with readers on streams in memory: for what is about entries and numbers, not about connections.
import { PassThrough, type Writable } from 'node:stream'
import { type Clock, systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { createFeed, type Feed, type FeedDeps } from '../../src/feed/feed.ts'
import type { StreamPeer } from '../../src/feed/stream.ts'
import type { Ledger } from '../../src/store/ports.ts'
import { encodePosition, type FeedEvent } from '../../src/verify/feed-event.ts'
import { createCountingMetrics } from '../http/harness.ts'
import { now as ledgerTime } from '../store/make-ledger.ts'
import { readEvents } from './world.ts'

/** Stands still until it is moved, both ways of counting. */
export const createTestClock = () => {
  let passed = 0
  const clock: Clock = { now: () => ledgerTime + passed, monotonic: () => passed }
  return {
    clock,
    pass: (ms: number) => {
      passed += ms
    },
  }
}

export const openFeed = (ledger: Ledger, changes: Partial<FeedDeps> = {}) => {
  const counting = createCountingMetrics()
  const feed = createFeed({
    clock: systemClock,
    log: silentLog,
    metrics: counting.metrics,
    feed: ledger.feed,
    certificates: ledger.certificates,
    registrations: ledger.registrations,
    audit: ledger.audit,
    // No beat but those that a test wants to see.
    heartbeatSeconds: 3600,
    leaseSeconds: 15,
    ...changes,
  })
  return { feed, counting }
}

export interface Listening {
  readonly events: readonly FeedEvent[]
  until(wanted: (event: FeedEvent) => boolean): Promise<FeedEvent>
  ended(): Promise<string | null>
  close(): void
}

let instances = 0

export const listen = (
  feed: Feed,
  options: Partial<StreamPeer> & {
    readonly replica?: string
    readonly maxStalenessSeconds?: number
    readonly since?: string
    readonly out?: PassThrough
  } = {},
): Listening => {
  const { replica, maxStalenessSeconds = 300, since = null, out = new PassThrough(), ...more } = options
  const peer: StreamPeer = {
    kind: 'service',
    name: 'billing',
    instanceId: `i-${++instances}`,
    serial: `0${instances}`.slice(-2),
    notAfter: Number.MAX_SAFE_INTEGER,
    ...more,
  }
  const { kind, name } = peer
  const reading = readEvents(out)
  feed.subscribe(
    { peer, identity: { kind, name, replica: replica ?? peer.instanceId, maxStalenessSeconds }, since },
    out as Writable,
  )
  return { ...reading, close: () => void out.destroy() }
}

export const idAt = (feed: Feed, n: number): string => encodePosition({ epoch: feed.head().epoch, n })

/** Acknowledges as `billing`. */
export const acknowledge = (feed: Feed, replica: string, n = feed.head().n): void =>
  feed.acknowledge({ kind: 'service', name: 'billing', replica }, { epoch: feed.head().epoch, n })
