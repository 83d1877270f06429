// What a running server does by itself, and how it says whether it can do its work.
import { profileReloaded } from '../audit/events.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Metrics } from '../base/metrics.ts'
import type { Lifecycle } from '../ca/lifecycle.ts'
import type { OrphanWatch } from '../ca/orphan-watch.ts'
import { createExpiredPruner } from '../ca/prune-expired.ts'
import { pruneRevocations } from '../ca/prune-revocations.ts'
import { pruneFeed } from '../feed/prune.ts'
import type { Check } from '../http/ops.ts'
import type { ProfileBook } from '../policy/profile-book.ts'
import type { LeafDraft } from '../store/records.ts'
import { createAnswersAhead } from './answers-ahead.ts'
import type { Core } from './core.ts'
import type { Jobs } from './jobs.ts'
import { createReconciler } from './reconcile.ts'

const seconds = 1000
const sweepEveryMs = 5 * seconds
const endDatesEveryMs = 10 * seconds
/** A grant ends at a second that somebody wrote down. */
const grantsEveryMs = 500
const confirmClockEveryMs = 600 * seconds
const renewEveryMs = 60 * seconds
const reconcileEveryMs = 60 * seconds
const answersEveryMs = seconds
const pruneFeedEveryMs = 300 * seconds
const pruneRevocationsEveryMs = 3600 * seconds
const pruneEvidenceEveryMs = 600 * seconds
const pruneExpiredEveryMs = seconds
/** Rows of one transaction. */
const evidenceStep = 250
/** Beyond its end, for clocks that differ: it must not be new again while anybody would take it. */
const evidenceMarginMs = 86_400_000

export interface RecurringWork {
  readonly clock: Clock
  readonly log: Log
  readonly core: Core
  readonly lifecycle: Pick<Lifecycle, 'retireEnded'>
  readonly orphans: Pick<OrphanWatch, 'round'>
  readonly orphansEveryMs: number
  readonly renewApiCertificate: () => Promise<void>
  /** Between two lists when nothing is revoked. */
  readonly regularCrlIntervalSeconds: number
  readonly keepExpiredSeconds: number
}

export const startJobs = (jobs: Jobs, work: RecurringWork): void => {
  const { clock, log, core } = work
  const reconciler = createReconciler({
    clock,
    log,
    signer: core.signer,
    issuers: core.issuers,
    issuance: core.ledger.issuance,
    audit: core.ledger.audit,
    meta: core.ledger.meta,
  })
  const signAhead = createAnswersAhead({
    clock,
    certificates: core.ledger.certificates,
    presign: core.ocsp.presign,
    canSign: () => core.supervisor.state().state === 'ready' && core.clockGuard.state().state !== 'refused',
  })
  jobs.every('sign OCSP answers ahead', answersEveryMs, signAhead)
  jobs.every('sweep intents', sweepEveryMs, core.issuance.sweep)
  // What ends by time and cannot be undone waits while nobody has confirmed the clock that this process began with.
  const whenConfirmed = (job: () => Promise<unknown>) => () => (core.clockGuard.mayEnd() ? job() : undefined)
  jobs.every('confirm the clock', confirmClockEveryMs, core.clockGuard.confirm)
  jobs.every(
    'retire what has ended',
    endDatesEveryMs,
    whenConfirmed(() => work.lifecycle.retireEnded(core.clockGuard.now())),
  )
  jobs.every('end grants by time', grantsEveryMs, core.policies.refreshIfDue)
  jobs.every('watch for orphans', work.orphansEveryMs, whenConfirmed(work.orphans.round))
  jobs.every('renew the API certificate', renewEveryMs, work.renewApiCertificate)
  jobs.every('reconcile signatures', reconcileEveryMs, reconciler.run)
  jobs.every(
    'prune ended revocations',
    pruneRevocationsEveryMs,
    whenConfirmed(() =>
      pruneRevocations({
        clock: { now: core.clockGuard.now },
        revocations: core.ledger.revocations,
        status: core.ledger.status,
        issuers: core.ledger.issuers.list,
        regularIntervalSeconds: work.regularCrlIntervalSeconds,
      }),
    ),
  )
  const expired = createExpiredPruner({
    clock: { now: core.clockGuard.now, monotonic: clock.monotonic },
    pruning: core.ledger.pruning,
    keepMs: work.keepExpiredSeconds * seconds,
  })
  jobs.every('prune what expired long ago', pruneExpiredEveryMs, whenConfirmed(expired.turn))
  jobs.every(
    'prune evidence that nobody used',
    pruneEvidenceEveryMs,
    whenConfirmed(async () => {
      const step = { before: core.clockGuard.now() - evidenceMarginMs, limit: evidenceStep }
      while ((await core.ledger.tokens.pruneEvidence(step)) === evidenceStep);
    }),
  )
  jobs.every(
    'prune the feed',
    pruneFeedEveryMs,
    whenConfirmed(() => pruneFeed(core.ledger.feed, { now: core.clockGuard.now })),
  )
}

/** For /readyz: everything that must hold before agents should come here. */
export const checksOf = (core: Core, clock: Clock): readonly Check[] => {
  const signer = core.supervisor.state()
  const guard = core.clockGuard.state()
  const now = clock.now()
  const problem = core.ledger.problem()
  return [
    { name: 'signer', ok: signer.state === 'ready', detail: `${signer.state}: ${signer.detail}` },
    { name: 'ledger', ok: problem === null, detail: problem ?? 'it can be written' },
    { name: 'clock', ok: guard.state !== 'refused', detail: guard.detail },
    ...core.issuers.online().map(({ name }) => {
      const end = core.crls.freshUntil(name)
      const left = end === null ? 0 : Math.floor((end - now) / 1000)
      return { name: `crl ${name}`, ok: left > 0, detail: end === null ? 'no list yet' : `fresh for ${left} s` }
    }),
  ]
}

export const registerGauges = (core: Core, metrics: Metrics, clock: Clock): void => {
  const ledger = core.ledger
  metrics.gauge('agentca_signer_ready', () => [{ value: core.supervisor.state().state === 'ready' ? 1 : 0 }])
  metrics.gauge('agentca_ledger_writable', () => [{ value: ledger.problem() === null ? 1 : 0 }])
  metrics.gauge('agentca_signer_starts', () => [{ value: core.supervisor.state().starts }])
  metrics.gauge('agentca_issuer_not_after_seconds', () =>
    core.issuers
      .all()
      .filter(({ record }) => record.state !== 'retired')
      .map(({ record }) => ({ value: (record.notAfter - clock.now()) / 1000, labels: { issuer: record.name } })),
  )
  metrics.gauge('agentca_audit_leaves', () => [{ value: ledger.audit.head().size }])
  metrics.gauge('agentca_audit_checkpoint_age_seconds', () => {
    const latest = core.checkpoints.latest()
    return latest === null ? [] : [{ value: (clock.now() - latest.at) / 1000 }]
  })
  metrics.gauge('agentca_certificates', () =>
    Object.entries(ledger.certificates.counts(clock.now())).map(([state, value]) => ({ value, labels: { state } })),
  )
  metrics.gauge('agentca_feed_head', () => [{ value: ledger.feed.head().n }])
}

/** One leaf for each profile that came, went or changed. */
export const profileChanges = (before: ProfileBook, after: ProfileBook, at: number): readonly LeafDraft[] => {
  const hashes = (book: ProfileBook) => new Map(book.list().map(profile => [profile.name, profile.hash]))
  const [old, now] = [hashes(before), hashes(after)]
  return [...new Set([...old.keys(), ...now.keys()])]
    .filter(name => old.get(name) !== now.get(name))
    .map(profile =>
      profileReloaded({ at, who: 'system' }, { profile, from: old.get(profile) ?? null, to: now.get(profile) ?? null }),
    )
}
