// Publication of one issuing CA's CRL: a new one soon after a change, a new one well before the last one ends, again and again when
// it fails, and never one with a lower number. What is published lies in memory; the file follows.
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Metrics } from '../base/metrics.ts'
import type { PublishedFile } from '../base/published-file.ts'
import { createUpkeep } from '../base/upkeep.ts'
import { type CrlDeps, issueCrl } from './crl.ts'
import { CaError } from './errors.ts'
import type { OnlineIssuer } from './issuers.ts'
import { checkNumberGrows, readPublishedCrl } from './published-crl.ts'
import type { PublishedCrl } from './status-answers.ts'

/** Between the beginnings of two lists: a burst of revocations costs two signatures a second, and none waits longer. */
const minIntervalMs = 500
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
}

export interface CrlLane {
  current(): PublishedCrl | null
  /** With its certificate a CA ends: nobody could believe a later list. */
  ended(): boolean
  /** Something may have changed. Never throws. */
  wake(): void
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
export const createCrlLane = (deps: CrlLaneDeps, issuer: OnlineIssuer, file: PublishedFile): CrlLane => {
  const { clock, metrics } = deps
  const log = deps.log.child({ issuer: issuer.name })
  // Changed only by the upkeep's work, which never runs twice at once.
  let last: LoadedCrl = { list: null, covered: null }
  let forced = false

  const ended = (): boolean => clock.now() >= issuer.certificate.notAfter
  const dueAt = (): number => {
    if (ended()) return Number.POSITIVE_INFINITY
    // Made while the clock was ahead: relying parties take it for not valid yet, and what only seemed to have expired is not on it.
    if (last.list === null || last.list.thisUpdate > clock.now() + aheadToleranceMs) return 0
    return last.list.nextUpdate - deps.refreshBeforeSeconds * 1000
  }
  const needed = (): boolean =>
    clock.now() >= dueAt() || (!ended() && last.covered !== deps.issue.revocations.revision(issuer.id))

  const issueNext = async (): Promise<void> => {
    const began = clock.monotonic()
    const { crl, revision } = await issueCrl(deps.issue, issuer)
    const { issuerId: _, ...facts } = crl
    const list: PublishedCrl = { issuer: issuer.name, ...facts }
    checkNumberGrows(last.list, list)
    last = { list, covered: revision }
    metrics.observe('agentca_crl_build_seconds', (clock.monotonic() - began) / 1000)
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
    try {
      if (asked && ended())
        throw new CaError('conflict', `the certificate of ${issuer.name} has ended, and its CRLs with it`)
      if (asked || needed()) await issueNext()
    } finally {
      await showLast()
    }
  }
  const load = createLoad({ ...deps, log }, issuer, file)

  const upkeep = createUpkeep({
    clock,
    work,
    dueInMs: () => (needed() ? 0 : dueAt() - clock.now()),
    minIntervalMs,
    failed: (error, failures) => log.error({ failures, reason: messageOf(error) }, 'no new CRL; the last one stays'),
  })
  return {
    current: () => last.list,
    ended,
    wake: upkeep.wake,
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

/**
 * What was published, before anything new is: a crash may have left the file behind the ledger, a restore the ledger behind the file,
 * and the higher number is what relying parties may have seen. What cannot be read must not keep a new list from being made.
 */
const createLoad = (deps: CrlLaneDeps, issuer: OnlineIssuer, file: PublishedFile) => {
  const { log } = deps
  let ledgerAsked = false
  const read = async (where: string, bytes: () => Promise<Uint8Array | null>): Promise<PublishedCrl | null> => {
    try {
      const der = await bytes()
      return der === null ? null : readPublishedCrl(issuer.name, issuer.certificate, der)
    } catch (error) {
      log.error({ where, reason: messageOf(error) }, 'a CRL cannot be read or believed, and is left out')
      return null
    }
  }
  const recorded = async (): Promise<Uint8Array | null> => deps.issue.status.latestCrl(issuer.id)?.der ?? null

  return async (last: LoadedCrl): Promise<LoadedCrl> => {
    let newest = last
    if (!ledgerAsked) {
      ledgerAsked = true
      const list = await read('ledger', recorded)
      if (list !== null) newest = { list, covered: null }
    }
    const list = await read('file', async () => {
      const der = await file.read()
      return der === null || (newest.list !== null && file.shows(newest.list.der)) ? null : der
    })
    if (list === null || (newest.list !== null && list.number <= newest.list.number)) return newest
    const known = newest.list?.number.toString() ?? null
    log.warn({ number: list.number.toString(), known }, 'the published CRL is newer than the ledger: was it restored?')
    return { list, covered: null }
  }
}
