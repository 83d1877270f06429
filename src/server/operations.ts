// What operators do, wired to a running core: the dependencies of the admin API.
import { randomBytes } from 'node:crypto'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Metrics } from '../base/metrics.ts'
import type { ReachedStep } from '../base/steps.ts'
import { createPreviewIssuance } from '../ca/issue-preview.ts'
import { createIssuerRotation } from '../ca/issuer-rotation.ts'
import { createLifecycle, type Lifecycle } from '../ca/lifecycle.ts'
import { createOperatorRecovery } from '../ca/operator-recovery.ts'
import { createOrphanWatch, type OrphanWatch } from '../ca/orphan-watch.ts'
import type { ObservedCalls, OrphanRules } from '../ca/orphans.ts'
import { createOwnerOperations } from '../ca/owners.ts'
import { createRegistry } from '../ca/registry.ts'
import { createRevoke } from '../ca/revoke.ts'
import { createTokenOperations } from '../ca/tokens.ts'
import type { AdminDeps } from '../http/admin/deps.ts'
import type { Activity } from '../monitor/activity.ts'
import { encodePem } from '../pki/pem.ts'
import type { Config } from '../schema/config.ts'
import { hsmKeys, hsmServedKeys, hsmStatus, hsmTestSign, hsmUnlock } from '../signer/inspect.ts'
import type { Registration } from '../store/records.ts'
import type { Core } from './core.ts'

export interface OperationsOptions {
  readonly config: Config
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly reached: ReachedStep
  readonly version: string
  readonly rates: AdminDeps['rates']
  /** What verifiers report; left out: nothing is known of calls. */
  readonly activityOf?: Activity['activityOf'] | undefined
}

/** A grant is unused when calls are reported and none needed it, for as long as makes an agent idle. */
const observedCalls = (
  { name, scopes, createdAt }: Registration,
  activityOf: Activity['activityOf'] | undefined,
  since: number,
): ObservedCalls => {
  const uses = activityOf?.(name, since) ?? []
  const lastCallAt = uses.reduce<number | null>((last, use) => Math.max(last ?? 0, use.last), null)
  if (lastCallAt === null || createdAt > since) return { lastCallAt, unusedGrants: [] }
  const used = new Set(uses.filter(({ allowed }) => allowed > 0).map(({ action }) => action))
  return { lastCallAt, unusedGrants: scopes.filter(scope => !used.has(scope)) }
}

const orphanRulesOf = (config: Config['orphans']): OrphanRules => ({
  idleMs: config.idleAfter * 1000,
  tokenUnusedMs: config.tokenUnusedAfter * 1000,
  confirmMs: config.confirmWithin * 1000,
  attestMs: config.attestEvery === 'off' ? null : config.attestEvery * 1000,
  warnMs: config.warnBefore * 1000,
  graceMs: config.grace * 1000,
  retire: config.retire,
})

export const createOperations = (
  core: Core,
  options: OperationsOptions,
): Omit<AdminDeps, 'attestors' | 'monitor' | 'rulesFile' | 'events' | 'bindings'> & {
  readonly lifecycle: Lifecycle
  readonly orphans: OrphanWatch
} => {
  const { config, clock, log, metrics, reached } = options
  const { ledger, issuers, signer, clockGuard } = core
  // A retirement cannot be undone, and a revocation reaches only what has not expired: both go by the clock as far as it can be trusted.
  const trusted: Clock = { now: clockGuard.now, monotonic: () => clock.monotonic() }
  const registrations = ledger.registrations
  const lifecycle = createLifecycle({
    clock: trusted,
    log,
    registrations,
    owners: ledger.owners,
    instances: ledger.instances,
    audit: ledger.audit,
  })
  const tokens = createTokenOperations({
    clock: trusted,
    caId: core.caId,
    registrations,
    tokens: ledger.tokens,
    randomBytes,
  })
  const revoke = createRevoke({ clock: trusted, metrics, revocations: ledger.revocations, feed: ledger.feed, reached })
  const registry = createRegistry({
    clock,
    registrations,
    owners: ledger.owners,
    profileKind: name =>
      core
        .profiles()
        .list()
        .find(profile => profile.name === name)?.kind ?? null,
  })
  return {
    clock,
    mode: config.mode,
    trustDomain: core.trustDomain,
    ledger,
    registry,
    owners: createOwnerOperations({ clock, owners: ledger.owners }),
    lifecycle,
    tokens,
    recoverOperator: createOperatorRecovery({ clock, registrations, owners: ledger.owners, registry, tokens }),
    revoke,
    orphans: createOrphanWatch({
      clock: trusted,
      log,
      orphans: ledger.orphans,
      lifecycle,
      revoke,
      tokens,
      rules: orphanRulesOf(config.orphans),
      callsOf: registration =>
        observedCalls(registration, options.activityOf, trusted.now() - config.orphans.idleAfter * 1000),
    }),
    issuerRotation: createIssuerRotation({
      clock,
      issuers,
      ledger: ledger.issuers,
      certificates: ledger.certificates,
      onlineKeys: () => hsmKeys(signer),
      servedKeys: () => hsmServedKeys(signer),
      onIssuersChanged: core.issuersChanged,
    }),
    issuance: core.issuance,
    previewIssuance: createPreviewIssuance({
      clock,
      issuance: ledger.issuance,
      drafter: core.drafter,
      caId: core.caId,
    }),
    issuers,
    policies: core.policies,
    profiles: () => core.profiles().list(),
    feed: core.feed,
    crl: core.crls,
    crlUrl: ({ issuer, shard }) => (shard === null ? core.urls.crl(issuer) : core.urls.crlShard(issuer, shard)),
    hsm: {
      status: () => hsmStatus(signer),
      restarts: () => Math.max(0, core.supervisor.state().starts - 1),
      keys: () => hsmKeys(signer),
      testSign: key =>
        hsmTestSign(signer, { monotonic: () => clock.monotonic(), ...(key === undefined ? {} : { key }) }),
      unlock: pin => hsmUnlock(signer, pin),
    },
    checkpoints: { now: () => core.checkpoints.now(), publicKeyPem: encodePem('PUBLIC KEY', core.logKeySpki) },
    clockGuard,
    maintenance: core.maintenance,
    about: { caId: core.caId, version: options.version, urls: core.publicUrls, startedAt: clock.now() },
    rates: options.rates,
  }
}
