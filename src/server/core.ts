// The core of one CA, put together in one straight line: ledger, signer, decisions, issuance, status, audit. Everything but its
// listeners, so that `serve`, `init` and the tests have the same one. Exactly one a home: the ledger's lock sees to it.
import { randomBytes } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { originOf } from '../audit/checkpoint.ts'
import { type Checkpointer, createCheckpointer } from '../audit/checkpointer.ts'
import { coreStarted, coreStopped } from '../audit/events.ts'
import { createSampler, type Sampler } from '../audit/sampler.ts'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Metrics } from '../base/metrics.ts'
import { pooledRandomBytes } from '../base/random.ts'
import type { ReachedStep } from '../base/steps.ts'
import { timeOrderedId } from '../base/time-ordered-id.ts'
import { type ClockGuard, createClockGuard } from '../ca/clock-guard.ts'
import { type CrlPublisher, createCrlPublisher } from '../ca/crl-publisher.ts'
import { createDrafter } from '../ca/draft.ts'
import { CaError } from '../ca/errors.ts'
import type { Drafter, Issuance } from '../ca/issuance.ts'
import { createIssuanceEvents } from '../ca/issuance-events.ts'
import { createIssuancePace } from '../ca/issuance-pace.ts'
import { createIssuance } from '../ca/issue.ts'
import { createIssuers, type Issuers, type StatusUrls, statusUrls } from '../ca/issuers.ts'
import { createMaintenance, type Maintenance } from '../ca/maintenance.ts'
import { createOcspResponder, type OcspResponder } from '../ca/ocsp-responder.ts'
import { createReleased, type Released } from '../ca/released.ts'
import { openPolicyAuthority, type PolicyAuthority } from '../ca/scopes.ts'
import { createIssuancePolicy } from '../ca/scopes-issuance.ts'
import type { Feed } from '../feed/feed.ts'
import type { StatePublisher } from '../feed/state-publisher.ts'
import { parseTrustDomain, type TrustDomain } from '../pki/spiffe.ts'
import type { ProfileBook } from '../policy/profile-book.ts'
import type { Config } from '../schema/config.ts'
import { SchemaError } from '../schema/errors.ts'
import type { SignerClient } from '../signer/client.ts'
import type { SignerSupervisor } from '../signer/supervisor.ts'
import type { Ledger } from '../store/ports.ts'
import { openSqliteLedger } from '../store/sqlite/open.ts'
import { openCoreFeed } from './core-feed.ts'
import { openHsmSigning, type Signing, type SigningFacts } from './core-signing.ts'
import { ServerError } from './errors.ts'
import type { HomePaths } from './home.ts'
import { checkListeners } from './listener-rules.ts'
import { observeIssuance } from './observed-issuance.ts'
import { recoverPublished } from './recover-published.ts'
import { createResponderCertificates } from './responder-certificates.ts'
import { logKeyLabel, responderKeyLabel } from './signer-config.ts'

export interface CoreOptions {
  readonly config: Config
  readonly paths: HomePaths
  readonly profiles: ProfileBook
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly reached: ReachedStep
  readonly version: string
  /** Instead of the one in the home; closed with the core. */
  readonly ledger?: Ledger
  /** Instead of a signer process over the configured HSM. */
  readonly openSigning?: (facts: SigningFacts) => Signing
}

/** A list of a million entries takes the HSM no longer, but its way there does. */
const crlSignDeadlineMs = 30_000
const maxCachedAnswers = 100_000
const signerStartMs = 15_000

export interface Core extends AsyncDisposable {
  readonly caId: string
  readonly trustDomain: TrustDomain
  readonly publicUrls: { readonly api: string; readonly status: string }
  readonly urls: StatusUrls
  readonly epoch: number
  readonly ledger: Ledger
  readonly issuers: Issuers
  readonly signer: SignerClient
  readonly supervisor: SignerSupervisor
  readonly clockGuard: ClockGuard
  readonly maintenance: Maintenance
  readonly sampler: Sampler
  readonly drafter: Drafter
  readonly issuance: Issuance
  readonly released: Released
  readonly crls: CrlPublisher
  readonly ocsp: OcspResponder
  readonly checkpoints: Checkpointer
  readonly feed: Feed
  readonly state: StatePublisher
  readonly policies: PolicyAuthority
  /** SHA-256 of the log key's SubjectPublicKeyInfo goes with every checkpoint; this is the key itself, DER. */
  readonly logKeySpki: Uint8Array
  profiles(): ProfileBook
  setProfiles(book: ProfileBook): void
  /** The issuers changed in the ledger: view, signer and publications follow. */
  issuersChanged(): Promise<void>
  close(): Promise<void>
}

const metaOf = (ledger: Ledger, key: 'ca_id' | 'trust_domain' | 'public_url_api' | 'public_url_status'): string => {
  const value = ledger.meta.get(key)
  if (value !== null) return value
  throw new ServerError('not_initialised', `this home's ledger has no ${key}`, { hint: 'agentca init' })
}

/** What was written into certificates cannot be changed by a file. */
const checkUnchanged = (config: Config, facts: { trustDomain: string; api: string; status: string }): void => {
  const given: readonly (readonly [string, string | undefined, string])[] = [
    ['trustDomain', config.trustDomain, facts.trustDomain],
    ['publicUrl.api', config.publicUrl.api, facts.api],
    ['publicUrl.status', config.publicUrl.status, facts.status],
  ]
  const faults = given
    .filter(([, now, then]) => now !== undefined && now !== then)
    .map(([path, now, then]) => ({ path, problem: `was ${then} at init, and certificates say so; got ${now}` }))
  if (faults.length > 0) throw new SchemaError('configuration', faults)
}

/** @throws StoreError, SchemaError, ServerError; a signer that is down is no error: status goes on without it */
export const openCore = async (options: CoreOptions): Promise<Core> => {
  const { paths, clock, log } = options
  const ledger = options.ledger ?? openSqliteLedger(paths.database, { clock, log })
  const begun: (() => Promise<void>)[] = []
  try {
    return await composeCore(options, ledger, begun)
  } catch (error) {
    // What runs by itself, the signer's process first, would keep a program alive that serves nobody and never ends.
    for (const end of begun.toReversed()) await end()
    await ledger.close()
    throw error
  }
}

const composeCore = async (options: CoreOptions, ledger: Ledger, begun: (() => Promise<void>)[]): Promise<Core> => {
  const { config, paths, clock, log, metrics, reached } = options
  mkdirSync(paths.log, { recursive: true, mode: 0o700 })
  const caId = metaOf(ledger, 'ca_id')
  const trustDomain = parseTrustDomain(metaOf(ledger, 'trust_domain'))
  const publicUrls = { api: metaOf(ledger, 'public_url_api'), status: metaOf(ledger, 'public_url_status') }
  checkUnchanged(config, { trustDomain, ...publicUrls })
  checkListeners(config, publicUrls)
  const urls = statusUrls(publicUrls.status)
  const issuers = createIssuers(ledger.issuers, urls, config.crl.shards)
  const epoch = await ledger.meta.nextEpoch()
  const signDeadlineMs = config.issuance.signDeadline * 1000
  await ledger.audit.append([coreStarted({ at: clock.now(), who: 'system' }, { version: options.version, epoch })])

  // Before anything changes a registration: its scopes follow from what is in force.
  const policies = await openPolicyAuthority({
    clock,
    log,
    policies: ledger.policies,
    registrations: ledger.registrations,
  })

  const openSigning = options.openSigning ?? openHsmSigning
  const signing = openSigning({ config, paths, trustDomain, issuers, clock, log })
  const { signer, supervisor } = signing
  begun.push(signer.close, supervisor.close)

  let book = options.profiles
  const clockGuard = createClockGuard({ clock, log, meta: ledger.meta, audit: ledger.audit })
  const logKeySpki = signing.onlineKey(logKeyLabel).der
  await recoverPublished({ ledger, paths, clock, log, caId, logKeySpki })
  const maintenance = createMaintenance({ clock, meta: ledger.meta, audit: ledger.audit })
  const sampler = createSampler(clock)
  const drafter = createDrafter({
    trustDomain,
    activeIssuer: issuers.active,
    issuerOf: id => {
      const { online } = issuers.byId(id)
      if (online === null) throw new CaError('internal', `CA ${id} issues nothing`)
      return online
    },
    profile: name => book.get(name),
    serialPrefix: config.issuance.serialPrefix,
    randomBytes: pooledRandomBytes,
  })
  const unobserved = createIssuance({
    clock,
    log,
    issuance: ledger.issuance,
    certificates: ledger.certificates,
    tokens: ledger.tokens,
    // Known to be down also while the process answers and its HSM does not: an intent would only become void, or an orphan.
    signer: { ...signer, isConnected: () => signer.isConnected() && supervisor.state().state === 'ready' },
    drafter,
    events: createIssuanceEvents(sampler.admit),
    policy: createIssuancePolicy(policies.active),
    caId,
    epoch,
    newInstanceId: () => timeOrderedId(clock.now(), pooledRandomBytes(10)),
    signDeadlineMs,
    pace: createIssuancePace(clock, config.issuance),
    checkClock: clockGuard.check,
    maintenance,
    reached,
  })
  // What an earlier life left behind is decided before anybody asks again, and is on the first list.
  await unobserved.sweep()
  const crls = await createCrlPublisher({
    clock,
    log,
    metrics,
    issuers,
    revocations: ledger.revocations,
    status: ledger.status,
    shards: ledger.shards,
    signer,
    directory: paths.status,
    lifetimeSeconds: config.crl.lifetime,
    refreshBeforeSeconds: config.crl.refreshBefore,
    signDeadlineMs: crlSignDeadlineMs,
    reached,
  })
  begun.push(crls.close)
  const ocsp = createOcspResponder({
    clock,
    log,
    metrics,
    issuers,
    status: ledger.status,
    revocations: ledger.revocations,
    audit: ledger.audit,
    signer,
    responderKey: { label: responderKeyLabel, spki: signing.onlineKey(responderKeyLabel) },
    responderId: 'byKey',
    certificates: createResponderCertificates(join(paths.status, 'ocsp')),
    checkClock: clockGuard.check,
    randomBytes,
    serialPrefix: config.issuance.serialPrefix,
    responderLifetimeSeconds: config.ocsp.responderLifetime,
    lifetimeSeconds: config.ocsp.lifetime,
    signDeadlineMs,
    maxCached: maxCachedAnswers,
    nonce: config.ocsp.nonce,
    nonceBudget: config.ocsp.nonceBudget,
    unknownBudget: config.ocsp.unknownBudget,
  })
  const released = createReleased()
  const issuance = observeIssuance({ issuance: unobserved, metrics, released, presign: ocsp.presign })
  const signNote = (tbs: Uint8Array): Promise<Uint8Array> =>
    signer.sign({ purpose: 'checkpoint', key: logKeyLabel, tbs, priority: 'status', deadlineMs: signDeadlineMs })
  const checkpoints = createCheckpointer({
    clock,
    log,
    metrics,
    audit: ledger.audit,
    sampler,
    logKey: { origin: originOf(caId), spki: logKeySpki },
    sign: signNote,
    everySeconds: config.audit.checkpointEvery,
    file: config.audit.checkpointFile ?? join(paths.log, 'checkpoints'),
  })

  const { feed, state } = await openCoreFeed({
    // Neither receipts nor states are to be dated ahead.
    clock: { now: clockGuard.now, monotonic: () => clock.monotonic() },
    log,
    metrics,
    ledger,
    config: config.feed,
    directory: paths.status,
    caId,
    logKeySpki,
    sign: signNote,
  })

  const close = async (): Promise<void> => {
    await feed.close()
    await checkpoints.close()
    await Promise.all([crls.close(), ocsp.close(), state.close()])
    await clockGuard.close()
    // What was only counted is written with the end: nobody would ever know of it.
    const summary = sampler.flush()
    await ledger.audit
      .append([...(summary === null ? [] : [summary]), coreStopped({ at: clock.now(), who: 'system' }, { epoch })])
      .catch(error => log.error({ reason: messageOf(error) }, 'the end could not be recorded'))
    await supervisor.close()
    await signer.close()
    await ledger.close()
  }
  return {
    caId,
    trustDomain,
    publicUrls,
    urls,
    epoch,
    ledger,
    issuers,
    signer,
    supervisor,
    clockGuard,
    maintenance,
    sampler,
    drafter,
    issuance,
    released,
    crls,
    ocsp,
    checkpoints,
    feed,
    state,
    policies,
    logKeySpki,
    profiles: () => book,
    setProfiles: next => {
      book = next
    },
    issuersChanged: async () => {
      issuers.reload()
      try {
        // Only a CA that was added brings a key: that another one is active, or retired, is nothing to the signer.
        if (signing.follow()) await supervisor.restart()
        await supervisor.ready(signerStartMs)
        await ocsp.maintain()
        await crls.publish()
      } catch (error) {
        // The change stands. What cannot follow now is tried again by those who keep signer, lists and answers; doctor shows it.
        log.error({ err: error }, 'signer and publications do not follow the change of the issuers yet')
      }
    },
    close,
    [Symbol.asyncDispose]: close,
  }
}
