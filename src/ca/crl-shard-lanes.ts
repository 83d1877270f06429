// The shards of issuing CAs' lists: one lane each, for the set that certificates name today and for every older set until the last
// certificate that names it has ended. A revocation touches the lane of its shard and no other.
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { createPublishedFile, preparePublicDirectory } from '../base/published-file.ts'
import { octetsOf, type Shard, shardName, shardsOf } from '../pki/crl-shards.ts'
import type { ShardKey, ShardRecord, ShardSet, ShardsPort } from '../store/shards-port.ts'
import type { CrlScope } from './crl.ts'
import type { CrlEntries } from './crl-entries.ts'
import { type CrlLane, type CrlLaneDeps, createCrlLane, type Lane } from './crl-lane.ts'
import type { OnlineIssuer } from './issuers.ts'
import type { CrlSource, PublishedCrl } from './status-answers.ts'

export interface ShardLanesDeps {
  readonly clock: Clock
  readonly log: Log
  /** Where complete lists lie: shards lie in a directory of their issuer's name below it. */
  readonly directory: string
  readonly entries: CrlEntries
  readonly shards: ShardsPort
  readonly lane: CrlLaneDeps
  readonly regularIntervalSeconds: number
}

export interface ShardLanes extends Pick<CrlSource, 'shardOf' | 'shardsOf'> {
  /** An issuing CA whose certificates may name shards from now on. Never throws. */
  add(issuer: OnlineIssuer): void
  /** Something may have been revoked. Never throws. */
  wake(): void
  /** Resolves when there is a list of each shard to go on with, or none could be made. */
  begin(): Promise<void>
  /** New lists of all, or of one issuer's. */
  publish(issuer?: string): Promise<readonly PublishedCrl[]>
  /** The earliest of those that are kept new; null: there is none. */
  nextUpdate(issuer: string): number | null
  close(): Promise<void>
}

/** Lists in work at once: enough for the ledger's group commit, and few enough that their bytes do not fill the memory. */
const atOnce = 8

/** Of one issuer. */
interface Family {
  readonly issuer: OnlineIssuer
  readonly lanes: Map<string, CrlLane>
  /** Resolves when its lanes are there, or could not be opened. */
  ready: Promise<void>
  state: 'opening' | 'open' | 'failed'
}

/** At most `limit` of these at a time; the others wait in order. */
const createTurns = (limit: number) => {
  let free = limit
  const waiting: (() => void)[] = []
  return async (work: () => Promise<void>): Promise<void> => {
    if (free > 0) free--
    else await new Promise<void>(resolve => waiting.push(resolve))
    try {
      await work()
    } finally {
      const next = waiting.shift()
      if (next === undefined) free++
      else next()
    }
  }
}

const scopeOf = (shards: ShardsPort, issuer: OnlineIssuer, shard: Shard, distributionPoint: string): CrlScope => {
  const key: ShardKey = { issuerId: issuer.id, ...shard }
  return {
    shard,
    octets: octetsOf(shard),
    distributionPoint,
    reserve: (now, seen) => {
      const floor = BigInt(now)
      return shards.reserveNumber(key, seen < floor ? floor : seen + 1n)
    },
    last: () => shards.latest(key),
    record: ({ der: _, ...facts }, leaf) => {
      const list: ShardRecord = { shard: key, issuerId: issuer.id, ...facts }
      return shards.record(list, leaf)
    },
  }
}

export const createShardLanes = async (deps: ShardLanesDeps): Promise<ShardLanes> => {
  const { clock, log, entries, shards, directory } = deps
  // Owned by this closure. Families are added, never removed.
  const families = new Map<string, Family>()
  const turn = createTurns(atOnce)
  /** Issuers whose last changes could not be followed: which of their lists they touch is not known. */
  const behind = new Set<number>()
  let closing = false

  const follow = async (issuerId: number): Promise<void> => {
    try {
      await entries.follow(issuerId)
      behind.delete(issuerId)
    } catch (error) {
      behind.add(issuerId)
      throw error
    }
  }

  const laneOf = (issuer: OnlineIssuer, set: ShardSet, scope: CrlScope, shard: Shard): CrlLane => {
    // RFC 5280 §3.3: what has ended stays for one regular list more, and so does the list.
    const until = set.until === null ? Number.POSITIVE_INFINITY : set.until + deps.regularIntervalSeconds * 1000
    const lane: Lane = {
      issuer,
      scope,
      file: createPublishedFile(join(directory, issuer.name, `${shardName(shard)}.crl`)),
      until: Math.min(until, issuer.certificate.notAfter),
      follow: () => follow(issuer.id),
      newest: () => (behind.has(issuer.id) ? Number.POSITIVE_INFINITY : entries.changedAt(issuer.id, scope.octets)),
      recorded: () => {
        const last = shards.latest({ issuerId: issuer.id, ...shard })
        return last === null ? null : { ...last, der: null }
      },
    }
    return createCrlLane({ ...deps.lane, turn }, lane)
  }
  const dropEnded = async (issuer: OnlineIssuer, set: ShardSet): Promise<boolean> => {
    if (set.until === null || clock.now() < set.until + 2 * deps.regularIntervalSeconds * 1000) return false
    await shards.drop(issuer.id, set.of)
    for (const shard of shardsOf(set.of))
      await rm(join(directory, issuer.name, `${shardName(shard)}.crl`), { force: true })
    log.info({ issuer: issuer.name, shards: set.of }, 'no certificate names these shards any more: they are gone')
    return true
  }
  const open = async (issuer: OnlineIssuer, lanes: Map<string, CrlLane>): Promise<void> => {
    if (issuer.crlShards === null) return
    const { of: inUse, url } = issuer.crlShards
    await shards.use(issuer.id, inUse)
    const sets = shards.sets(issuer.id)
    // All or, when the ledger or the disk fails in between, none.
    const opened = new Map<string, CrlLane>()
    if (sets.length > 0) await preparePublicDirectory(join(directory, issuer.name))
    for (const set of sets) {
      if (await dropEnded(issuer, set)) continue
      for (const shard of shardsOf(set.of))
        opened.set(shardName(shard), laneOf(issuer, set, scopeOf(shards, issuer, shard, url(shard)), shard))
    }
    for (const [name, lane] of opened) {
      lanes.set(name, lane)
      lane.wake()
    }
  }
  /** Never rejects: without the ledger it is tried again with the next change. */
  const begin = (family: Family): void => {
    const { issuer, lanes } = family
    family.state = 'opening'
    family.ready = open(issuer, lanes).then(
      () => {
        family.state = 'open'
      },
      error => {
        family.state = 'failed'
        log.error({ issuer: issuer.name, reason: messageOf(error) }, 'the shards of its lists are not published')
      },
    )
  }
  const lanesOf = (name: string): readonly CrlLane[] => [...(families.get(name)?.lanes.values() ?? [])]
  const ready = (): Promise<unknown> => Promise.all([...families.values()].map(family => family.ready))

  return {
    add: issuer => {
      const family: Family = { issuer, lanes: new Map(), ready: Promise.resolve(), state: 'opening' }
      families.set(issuer.name, family)
      begin(family)
    },
    wake: () => {
      for (const family of families.values()) {
        const { issuer, lanes } = family
        if (family.state === 'failed' && !closing) begin(family)
        if (lanes.size === 0) continue
        const wakeLanes = (): void => {
          for (const lane of lanes.values()) if (!closing) lane.wake()
        }
        // Where that fails each lane follows by itself, again and again, and says what is wrong.
        follow(issuer.id).then(wakeLanes, wakeLanes)
      }
    },
    begin: async () => {
      await ready()
      await Promise.all([...families.keys()].flatMap(lanesOf).map(lane => lane.begin()))
    },
    publish: async name => {
      await ready()
      const wanted = (name === undefined ? [...families.keys()] : [name]).flatMap(lanesOf)
      return Promise.all(wanted.filter(lane => !lane.ended()).map(lane => lane.publish()))
    },
    shardOf: (name, shard) => families.get(name)?.lanes.get(shardName(shard))?.current() ?? null,
    shardsOf: name => lanesOf(name).flatMap(lane => lane.current() ?? []),
    nextUpdate: name => {
      const kept = lanesOf(name).filter(lane => !lane.ended())
      return kept.length === 0 ? null : Math.min(...kept.map(lane => lane.current()?.nextUpdate ?? clock.now()))
    },
    close: async () => {
      closing = true
      await ready()
      await Promise.all([...families.keys()].flatMap(lanesOf).map(lane => lane.close()))
    },
  }
}
