// What is published of revocation: a CRL of each issuing CA (crl-lane.ts keeps it new) and its shards (crl-shard-lanes.ts), the roots' CRLs
// as ceremonies made them, and the bundle of all complete ones. Served from memory, which needs neither ledger nor signer; the files are for web servers and the next start.
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { crlPublished } from '../audit/events.ts'
import { toHex, utf8 } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { GaugeSample, Metrics } from '../base/metrics.ts'
import { joinPieces } from '../base/pieces.ts'
import { createPublishedFile, type PublishedFile, preparePublicDirectory } from '../base/published-file.ts'
import type { ReachedStep } from '../base/steps.ts'
import { shardName } from '../pki/crl-shards.ts'
import { encodePem, encodePemPieces } from '../pki/pem.ts'
import type { SignerPort } from '../signer/port.ts'
import type { RevocationsPort, ShardsPort, StatusPort } from '../store/ports.ts'
import type { Issuer } from '../store/records.ts'
import { completeScope } from './crl.ts'
import { type CrlEntries, createCrlEntries } from './crl-entries.ts'
import { type CrlLane, type CrlLaneDeps, createCrlLane, type Lane } from './crl-lane.ts'
import { createShardLanes, type ShardLanes } from './crl-shard-lanes.ts'
import { CaError } from './errors.ts'
import type { Issuers, IssuerView, OnlineIssuer } from './issuers.ts'
import { createRootCrls } from './root-crls.ts'
import type { CrlSource, PublishedCrl } from './status-answers.ts'

export interface CrlPublisherDeps {
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly issuers: Pick<Issuers, 'all' | 'byName'>
  readonly revocations: Pick<RevocationsPort, 'readRows' | 'rowsSince' | 'revision' | 'onChange'>
  readonly status: Pick<StatusPort, 'reserveCrlNumber' | 'recordCrl' | 'latestCrl'>
  readonly shards: ShardsPort
  readonly signer: SignerPort
  /** `status/` of the home: the files lie in `crl/` below it. */
  readonly directory: string
  readonly lifetimeSeconds: number
  /** A new list at the latest when this much of its life is left; less than the life. */
  readonly refreshBeforeSeconds: number
  readonly signDeadlineMs: number
  readonly reached: ReachedStep
}

export interface CrlPublisher extends CrlSource {
  /** When the first of this CA's lists ends, of those that are kept new; null: there is none. */
  freshUntil(issuer: string): number | null
  /**
   * A new list now: of this issuing CA, or of all of them; without a name roots' files that a ceremony replaced are read again too.
   * Also what makes a CA known that was added since.
   * @throws CaError `not_found`, `conflict`; what issuing throws
   */
  publish(issuer?: string): Promise<readonly PublishedCrl[]>
  /** A root's list from a ceremony. @throws as RootCrls.set */
  setRootCrl(name: string, der: Uint8Array): Promise<PublishedCrl>
  close(): Promise<void>
}

type Bundle = ReturnType<CrlSource['bundle']>

/** More than that is encoded as it is read: it takes milliseconds, and as much memory again. */
const maxEncodedBytes = 1 << 20

const pemOf = (lists: readonly PublishedCrl[]): Pick<Bundle, 'pem' | 'sha256'> => {
  const hash = createHash('sha256')
  if (lists.reduce((sum, { der }) => sum + der.length, 0) > maxEncodedBytes) {
    for (const { sha256 } of lists) hash.update(sha256)
    return { pem: joinPieces(lists.map(({ der }) => encodePemPieces('X509 CRL', der))), sha256: toHex(hash.digest()) }
  }
  const pem = utf8(lists.map(list => encodePem('X509 CRL', list.der)).join(''))
  return { pem, sha256: toHex(hash.update(pem).digest()) }
}

const bundleOf = (lists: readonly PublishedCrl[]): Bundle => {
  return {
    ...pemOf(lists),
    thisUpdate: Math.max(0, ...lists.map(list => list.thisUpdate)),
    nextUpdate: lists.length === 0 ? 0 : Math.min(...lists.map(list => list.nextUpdate)),
  }
}

const gaugeOf = (
  views: readonly IssuerView[],
  nextUpdate: (name: string) => number | null,
  now: number,
): readonly GaugeSample[] =>
  (['root', 'issuing'] as const).flatMap(kind => {
    const ends = views
      .filter(view => view.record.kind === kind && view.certificate.notAfter > now)
      .map(view => nextUpdate(view.record.name) ?? now)
    return ends.length === 0 ? [] : [{ value: (Math.min(...ends) - now) / 1000, labels: { kind } }]
  })

/** One published file a CA; names become file names. */
const createFiles = (directory: string) => {
  const files = new Map<string, PublishedFile>()
  return ({ name }: Issuer): PublishedFile => {
    if (!/^[a-z0-9][a-z0-9._-]*$/i.test(name)) throw new CaError('internal', `${name} cannot be the name of a file`)
    const file = files.get(name) ?? createPublishedFile(join(directory, `${name}.crl`))
    files.set(name, file)
    return file
  }
}

/** An HSM that hangs must not keep what there is from being served. */
const firstListsMs = 3000

/**
 * Resolves when a list of now was tried for every issuing CA, whatever came of it, or has taken too long: the last ones are there then.
 * @throws the error of the file system when the directory cannot be made
 */
export const createCrlPublisher = async (deps: CrlPublisherDeps): Promise<CrlPublisher> => {
  const { clock, log, issuers } = deps
  const directory = join(deps.directory, 'crl')
  await preparePublicDirectory(directory)

  // Owned by this closure. Lanes are added, never removed; the bundle is replaced whole.
  const lanes = new Map<string, CrlLane>()
  const bundleFile = createPublishedFile(join(directory, 'bundle.pem'))
  let bundled: readonly PublishedCrl[] = []
  let bundle = bundleOf(bundled)
  // Until every lane has loaded what it has, the bundle's file is better than what would replace it.
  let started = false

  const fileOf = createFiles(directory)
  const entries = createCrlEntries({ log, revocations: deps.revocations })
  const roots = createRootCrls({ log, issuers, fileOf })
  const byIssuer = (name: string): PublishedCrl | null => lanes.get(name)?.current() ?? roots.get(name)

  /** Every issuing CA has its lane, also one that was added since. */
  const allLanes = (): readonly CrlLane[] => {
    for (const { record, online } of issuers.all())
      if (online !== null && !lanes.has(record.name)) {
        const lane = createCrlLane(laneDeps, completeLane(deps, entries, online, fileOf(record)))
        lanes.set(record.name, lane)
        lane.wake()
        shards.add(online)
      }
    return [...lanes.values()]
  }
  const renewBundle = async (): Promise<void> => {
    allLanes()
    const lists = inChains(issuers.all(), clock.now())
      .map(view => byIssuer(view.record.name))
      .filter(list => list !== null)
    if (lists.length !== bundled.length || lists.some((list, i) => list !== bundled[i])) {
      bundled = lists
      bundle = bundleOf(lists)
    }
    if (started && lists.length > 0) await bundleFile.show(bundle.pem)
  }
  const laneDeps = laneDepsOf(deps, entries, renewBundle)
  const shards: ShardLanes = await createShardLanes({
    ...{ clock, log, directory, entries, shards: deps.shards },
    lane: { ...laneDeps, changed: async () => {} },
    regularIntervalSeconds: laneDeps.issue.regularIntervalSeconds,
  })
  const nextUpdateOf = (name: string): number | null => {
    const complete = byIssuer(name)
    return complete === null ? null : Math.min(complete.nextUpdate, shards.nextUpdate(name) ?? complete.nextUpdate)
  }

  await roots.read()
  const stopListening = deps.revocations.onChange(() => {
    for (const lane of allLanes()) lane.wake()
    shards.wake()
  })
  deps.metrics.gauge('agentca_crl_next_update_seconds', () => gaugeOf(issuers.all(), nextUpdateOf, clock.now()))
  const first = Promise.allSettled([...allLanes().map(lane => lane.begin()), shards.begin()])
  await Promise.race([first, sleep(firstListsMs, undefined, { ref: false })])
  started = true
  await renewBundle().catch(error => log.error({ reason: messageOf(error) }, 'the bundle of CRLs is not written'))

  return {
    byIssuer,
    freshUntil: nextUpdateOf,
    shardOf: shards.shardOf,
    shardsOf: shards.shardsOf,
    bundle: () => bundle,
    publish: async name => {
      const all = allLanes()
      if (name === undefined) {
        await roots.read()
        await renewBundle()
        const complete = await Promise.all(all.filter(lane => !lane.ended()).map(lane => lane.publish()))
        return [...complete, ...(await shards.publish())]
      }
      const lane = lanes.get(name)
      if (lane !== undefined) return [await lane.publish(), ...(await shards.publish(name))]
      if (issuers.byName(name) === null) throw new CaError('not_found', `there is no CA ${name}`)
      throw new CaError('conflict', `the key of ${name} is not online`, { hint: 'agentca ceremony crl' })
    },
    setRootCrl: async (name, der) => {
      const list = await roots.set(name, der)
      await renewBundle()
      return list
    },
    close: async () => {
      stopListening()
      await Promise.all([...[...lanes.values()].map(lane => lane.close()), shards.close()])
      await entries.close()
    },
  }
}

/** Leaves' issuers first. A CA whose certificate has ended is in no chain; its last list would make the bundle look stale for ever. */
const inChains = (all: readonly IssuerView[], now: number): readonly IssuerView[] => {
  const views = all.filter(({ certificate }) => certificate.notAfter > now)
  return [...views.filter(view => view.online !== null), ...views.filter(view => view.online === null)]
}

const completeLane = (
  { status, revocations }: CrlPublisherDeps,
  entries: CrlEntries,
  issuer: OnlineIssuer,
  file: PublishedFile,
): Lane => ({
  issuer,
  file,
  scope: completeScope(status, issuer.id),
  until: issuer.certificate.notAfter,
  follow: () => entries.follow(issuer.id),
  newest: () => revocations.revision(issuer.id),
  recorded: () => {
    const recorded = status.latestCrl(issuer.id)
    // The ledger does not say what it shows.
    return recorded === null ? null : { ...recorded, revision: null }
  },
})

const laneDepsOf = (deps: CrlPublisherDeps, entries: CrlEntries, changed: () => Promise<void>): CrlLaneDeps => ({
  issue: {
    clock: deps.clock,
    entries,
    signer: deps.signer,
    published: (issuer, { number, sha256, entries }, shard) =>
      crlPublished(
        { at: deps.clock.now(), who: 'system' },
        { issuer: issuer.name, number, sha256, entries, ...(shard === null ? {} : { shard: shardName(shard) }) },
      ),
    lifetimeSeconds: deps.lifetimeSeconds,
    regularIntervalSeconds: deps.lifetimeSeconds - deps.refreshBeforeSeconds,
    signDeadlineMs: deps.signDeadlineMs,
    reached: deps.reached,
  },
  clock: deps.clock,
  log: deps.log,
  metrics: deps.metrics,
  refreshBeforeSeconds: deps.refreshBeforeSeconds,
  changed,
})
