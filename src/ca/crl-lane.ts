// Publication of one CRL, an issuing CA's complete one or one of its shards: a new one soon after a change, a new one well before the last one ends, again and again when
// it fails, and never one with a lower number. What is published lies in memory; the file follows.
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Metrics } from '../base/metrics.ts'
import type { PublishedFile } from '../base/published-file.ts'
import { createUpkeep } from '../base/upkeep.ts'
import { shardName } from '../pki/crl-shards.ts'
import type { CrlRecord } from '../store/records.ts'
import { type CrlDeps, type CrlScope, issueCrl } from './crl.ts'
import { CaError } from './errors.ts'
import type { OnlineIssuer } from './issuers.ts'
import { checkNumberGrows, isOf, readPublishedCrl } from './published-crl.ts'
import type { PublishedCrl } from './status-answers.ts'

/** Between the beginnings of two lists: a burst of revocations costs two signatures a second, and none waits longer. */
const minIntervalMs = 500
/** And so many times what the last one took: lists of a million entries are not all that the machine does. */
const restFor = 2
/** Of a longer one the file is not read again each time: a list that somebody puts there by hand is seen at the next start. */
const maxReadAgainBytes = 1 << 20
/** A list may be so much younger than now: less than relying parties' clocks differ. */
const aheadToleranceMs = 5_000

export interface CrlLaneDeps {
  readonly issue: CrlDeps
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly refreshBeforeSeconds: number
  /** Called with each new list, and now and then without: resolves when what is made of all lists is published too. */
  readonly changed: () => Promise<void>
  /** Where many lanes share what a list takes: its making waits for its turn. */
  readonly turn?: (work: () => Promise<void>) => Promise<void>
}

/** Which list, and what is known of it outside the lane. */
export interface Lane {
  readonly issuer: OnlineIssuer
  readonly scope: CrlScope
  readonly file: PublishedFile
  /** From then on nobody could use a list. */
  readonly until: number
  /** Before `newest` is asked. */
  readonly follow: () => Promise<unknown>
  /** Revision of the last change that a list of now would show. */
  readonly newest: () => number
  /** The list that the ledger has, with its bytes where they lie there too; `revision`: what it shows, where that is known. */
  readonly recorded: () => RecordedCrl | null
}

export type RecordedCrl = Omit<CrlRecord, 'issuerId'> & { readonly revision: number | null }

export interface CrlLane {
  current(): PublishedCrl | null
  /** With its certificate a CA ends, and a shard with the last certificate that names it: nobody needs a later list. */
  ended(): boolean
  /** Something may have changed. Never throws. */
  wake(): void
  /** Resolves when there is a list to go on with, or none could be made: of a long one the last, where it is still good. */
  begin(): Promise<void>
  /** Makes a list only if one is needed. @throws as `publish` */
  refresh(): Promise<void>
  /**
   * @returns a list that was begun after the call
   * @throws CaError `conflict` when the CA has ended, `shutting_down`; what issuing or the file system throws
   */
  publish(): Promise<PublishedCrl>
  /** Waits for what runs. */
  close(): Promise<void>
}

/** Sleeps until it is woken or asked for the first time. */
export const createCrlLane = (deps: CrlLaneDeps, lane: Lane): CrlLane => {
  const { clock, metrics, turn = (work: () => Promise<void>) => work() } = deps
  const { issuer, file } = lane
  const { shard } = lane.scope
  const log = deps.log.child({ issuer: issuer.name, ...(shard === null ? {} : { shard: shardName(shard) }) })
  // Changed only by the upkeep's work, which never runs twice at once.
  let last: LoadedCrl = { list: null, covered: null }
  let forced = false
  let tookMs = 0
  const begun = Promise.withResolvers<void>()

  const ended = (): boolean => clock.now() >= lane.until
  const dueAt = (): number => {
    if (ended()) return Number.POSITIVE_INFINITY
    // Made while the clock was ahead: relying parties take it for not valid yet, and what only seemed to have expired is not on it.
    if (last.list === null || last.list.thisUpdate > clock.now() + aheadToleranceMs) return 0
    return last.list.nextUpdate - deps.refreshBeforeSeconds * 1000
  }
  const needed = (): boolean =>
    clock.now() >= dueAt() || (!ended() && (last.covered === null || last.covered < lane.newest()))

  const issueNext = async (): Promise<void> => {
    const began = clock.monotonic()
    const { revision, ...facts } = await issueCrl(deps.issue, issuer, lane.scope, last.list?.number ?? 0n)
    const list: PublishedCrl = { issuer: issuer.name, shard, ...facts }
    checkNumberGrows(last.list, list)
    last = { list, covered: revision }
    tookMs = clock.monotonic() - began
    metrics.observe('agentca_crl_build_seconds', tookMs / 1000)
    metrics.count('agentca_crl_published_total')
  }
  const showLast = async (): Promise<void> => {
    const { list } = last
    if (list === null) return
    const behind = !file.shows(list.der)
    await Promise.all([deps.changed(), file.show(list.der)])
    if (!behind) return
    deps.issue.reached('crl 5')
    log.info({ number: list.number.toString(), entries: list.entries }, 'CRL published')
  }
  const work = async (): Promise<void> => {
    const asked = forced
    forced = false
    last = await load(last)
    if (last.list !== null && last.list.der.length > maxReadAgainBytes && clock.now() < dueAt()) begun.resolve()
    await lane.follow()
    try {
      if (asked && ended()) throw new CaError('conflict', `${nameOf(lane)} has ended, and its CRLs with it`)
      if (asked || needed()) await turn(issueNext)
    } finally {
      await showLast()
    }
  }
  const load = createLoad({ ...deps, log }, lane)

  const upkeep = createUpkeep({
    clock,
    work,
    dueInMs: () => (needed() ? 0 : dueAt() - clock.now()),
    get minIntervalMs() {
      return Math.max(minIntervalMs, restFor * tookMs)
    },
    failed: (error, failures) => log.error({ failures, reason: messageOf(error) }, 'no new CRL; the last one stays'),
  })
  return {
    current: () => last.list,
    ended,
    wake: upkeep.wake,
    begin: () => {
      upkeep.run().then(begun.resolve, begun.resolve)
      return begun.promise
    },
    refresh: upkeep.run,
    publish: async () => {
      forced = true
      await upkeep.run()
      return last.list!
    },
    close: upkeep.close,
  }
}

interface LoadedCrl {
  readonly list: PublishedCrl | null
  /** The ledger's revision that the list certainly shows; not known of one that was read from somewhere. */
  readonly covered: number | null
}

const nameOf = ({ issuer, scope: { shard } }: Lane): string =>
  shard === null
    ? `the certificate of ${issuer.name}`
    : `the last certificate of shard ${shardName(shard)} of ${issuer.name}`

/**
 * What was published, before anything new is: a crash may have left the file behind the ledger, a restore the ledger behind the file,
 * and the higher number is what relying parties may have seen. What cannot be read must not keep a new list from being made.
 */
const createLoad = ({ log }: CrlLaneDeps, lane: Lane) => {
  const { issuer, scope, file } = lane
  const { shard } = scope
  const { name } = issuer
  let recorded: RecordedCrl | null = null
  let ledgerAsked = false
  const believed = (where: string, der: Uint8Array): LoadedCrl | null => {
    try {
      // What the ledger has recorded was signed here.
      if (recorded !== null && isOf(recorded, der)) {
        const { number, thisUpdate, nextUpdate, entries, sha256, revision } = recorded
        return {
          list: { issuer: name, shard, number, der, thisUpdate, nextUpdate, entries, sha256 },
          covered: revision,
        }
      }
      const from = { name, ca: issuer.certificate, shard, distributionPoint: scope.distributionPoint }
      return { list: readPublishedCrl(from, der), covered: null }
    } catch (error) {
      log.error({ where, reason: messageOf(error) }, 'a CRL cannot be read or believed, and is left out')
      return null
    }
  }
  const inFile = async (): Promise<Uint8Array | null> => {
    try {
      return await file.read()
    } catch (error) {
      log.error({ where: 'file', reason: messageOf(error) }, 'a CRL cannot be read or believed, and is left out')
      return null
    }
  }

  return async (last: LoadedCrl): Promise<LoadedCrl> => {
    let newest = last
    if (!ledgerAsked) {
      ledgerAsked = true
      recorded = lane.recorded()
      if (recorded !== null && recorded.der !== null) newest = believed('ledger', recorded.der) ?? newest
    } else if (newest.list !== null && newest.list.der.length > maxReadAgainBytes) return newest
    const der = await inFile()
    if (der === null || (newest.list !== null && file.shows(newest.list.der))) return newest
    const found = believed('file', der)
    if (found?.list == null || (newest.list !== null && found.list.number <= newest.list.number)) return newest
    if (recorded === null || found.list.number > recorded.number) {
      const known = newest.list?.number.toString() ?? null
      const number = found.list.number.toString()
      log.warn({ number, known }, 'the published CRL is newer than the ledger: was it restored?')
    }
    return found
  }
}
