// One CA process: the core, its four listeners, its jobs. Status is up before the signer is, and stays up without it; `ready` means that
// every listener answers, not that the HSM does (that is /readyz).
import type { RequestListener } from 'node:http'
import { createSealer } from '../acme/eab-seal.ts'
import { pooledRandomBytes } from '../base/random.ts'
import { createAdmission } from '../enrol/admit.ts'
import { explainToken } from '../enrol/explain.ts'
import { createAdminRouter } from '../http/admin/router.ts'
import { createApp } from '../http/app.ts'
import { createInFlight, createLimits } from '../http/limits.ts'
import { createListener, createPlainServer, type Listener } from '../http/listener.ts'
import { createOpsHandler } from '../http/ops.ts'
import { encodePem } from '../pki/pem.ts'
import type { Address } from '../schema/config.ts'
import { createStatusServer } from '../status/listener.ts'
import type { RenderedMetrics } from '../telemetry/metrics.ts'
import { createCoreAcme, createCoreBindings } from './acme.ts'
import { createApiCertificate } from './api-certificate.ts'
import { createApiListener } from './api-listener.ts'
import { openAttestors } from './attestors.ts'
import { type Core, type CoreOptions, openCore } from './core.ts'
import { ServerError } from './errors.ts'
import { createCoreEvents } from './events.ts'
import { createJobs } from './jobs.ts'
import { openMonitoring, startMonitorJobs } from './monitoring.ts'
import { createOperations } from './operations.ts'
import { loadProfiles } from './profiles.ts'
import { checkProfilesInUse } from './profiles-in-use.ts'
import { withRates } from './rates.ts'
import { checksOf, profileChanges, registerGauges, startJobs } from './recurring.ts'
import { openWebhookSecret } from './webhook-secret.ts'

export interface ServerOptions extends Omit<CoreOptions, 'metrics' | 'profiles'> {
  readonly metrics: RenderedMetrics
  readonly profilesDirectory: string
  /** The monitor's rules; without it there are none. */
  readonly monitorFile?: string | null
  /** Whose evidence enrols, a file each; without it join tokens do. */
  readonly attestorsDirectory?: string | null
}

/** What `agentca serve` prints as one JSON line. */
export interface ReadyLine {
  readonly ready: true
  readonly api: string
  readonly status: string
  readonly ops: string
  readonly admin: string
  readonly pid: number
}

export interface RunningServer extends AsyncDisposable {
  readonly line: ReadyLine
  readonly core: Core
  /** What operators do, for programs that run the server in their own process. */
  readonly operations: Pick<ReturnType<typeof createOperations>, 'registry' | 'lifecycle' | 'tokens' | 'revoke'>
  /** Reads profiles and rules again. @throws SchemaError with every fault: the old ones stay in force */
  reload(): Promise<void>
  /** Takes no new work, lets what runs end for `graceMs`, then closes everything. */
  close(graceMs: number): Promise<void>
}

const signerStartMs = 10_000
const pruneAcmeEveryMs = 600_000
/** Clients of EST come back when they are told to; one that has waited for so long waits for a slow HSM. */
const estPatienceMs = 2_000

const listenOn = async (listener: Pick<Listener, 'listen'>, name: string, address: Address): Promise<number> => {
  try {
    return await listener.listen(address)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw cause
    throw new ServerError('address_in_use', `${name}: ${address.host}:${address.port} is taken by another program`, {
      cause,
      hint: `stop it, or choose another port: AGENTCA_${name.toUpperCase().replace('.', '_')}=${address.host}:PORT`,
    })
  }
}

/** Port 0 takes the free one that `init` found and certificates name, if it is still free, or else any. */
const listenNear = async (
  listener: Pick<Listener, 'listen'>,
  name: string,
  place: { address: Address; url: string },
): Promise<number> => {
  const { address, url } = place
  if (address.port !== 0) return listenOn(listener, name, address)
  const named = { ...address, port: Number(new URL(url).port) }
  return listener.listen(named).catch(() => listenOn(listener, name, address))
}

const urlOf = (scheme: string, { host }: Address, port: number): string =>
  `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`

/** @throws ServerError, SchemaError, StoreError, CaError; then nothing is left running */
export const startServer = async (options: ServerOptions): Promise<RunningServer> => {
  const metrics = withRates(options.metrics, options.clock)
  const core = await openCore({ ...options, metrics, profiles: loadProfiles(options.profilesDirectory) })
  const closing: (() => Promise<void>)[] = []
  try {
    return await composeServer({ ...options, metrics }, core, closing)
  } catch (error) {
    await Promise.all(closing.map(close => close()))
    await core.close()
    throw error
  }
}

type Composed = Omit<ServerOptions, 'metrics'> & { readonly metrics: ReturnType<typeof withRates<RenderedMetrics>> }

const composeServer = async (
  options: Composed,
  core: Core,
  closing: (() => Promise<void>)[],
): Promise<RunningServer> => {
  const { config, paths, clock, log, metrics, reached, version } = options
  const { ledger } = core
  const leaverSecret = openWebhookSecret(config.webhooks.in.secretFile)

  let graceMs = 0
  const opened = <L extends Pick<Listener, 'close'>>(listener: L): L => {
    closing.push(() => listener.close(graceMs))
    return listener
  }
  const logKeyPem = encodePem('PUBLIC KEY', core.logKeySpki)
  const { server: statusServer } = createStatusServer({
    clock,
    log,
    crls: core.crls,
    ocsp: core.ocsp,
    issuers: core.issuers,
    latestCheckpoint: () => core.checkpoints.latest()?.note ?? null,
    logKeyPem,
    stateFile: core.state.file,
  })
  const status = opened(createListener(statusServer))
  const statusPort = await listenNear(status, 'listen.status', {
    address: config.listen.status,
    url: core.publicUrls.status,
  })

  const apiCertificate = createApiCertificate({
    clock,
    log,
    issuance: core.issuance,
    issuers: core.issuers,
    certificates: ledger.certificates,
    directory: paths.api,
  })
  // With a certificate on disk a dead HSM keeps the API from nothing but signing: its first failure is enough to know.
  await core.supervisor
    .ready(signerStartMs, apiCertificate.isKept() ? 'one start' : 'every start')
    .catch(error => log.error({ err: error }, 'the signer is not ready; what needs no signature is served without it'))
  await core.ocsp.start()
  const credential = await apiCertificate.load()

  const operations = createOperations(core, {
    ...{ config, clock, log, metrics, reached, version, rates: metrics.rates },
    activityOf: (agent, since) => monitoring.monitor.activityOf(agent, since),
  })
  const monitoring = openMonitoring({
    ...{ clock, log: log.child({ part: 'monitor' }), metrics, core, ledger },
    ...{ lifecycle: operations.lifecycle, revoke: operations.revoke },
    rulesFile: options.monitorFile ?? null,
    activityFile: paths.activity,
  })
  closing.push(monitoring.close)
  const attestors = openAttestors(options.attestorsDirectory ?? null, {
    ...{ clock, log: log.child({ part: 'attestors' }), publicUrl: core.publicUrls.api },
  })
  closing.push(async () => attestors.close())
  const admission = createAdmission({
    ...{ clock, metrics, caId: core.caId, attestors: attestors.current, randomBytes: pooledRandomBytes },
    ...{ registrations: ledger.registrations, tokens: ledger.tokens, audit: ledger.audit, sampler: core.sampler },
    maintenance: core.maintenance,
  })
  const sealer = createSealer(paths.acmeKey)
  const bindings = createCoreBindings(core, sealer)
  const acme = createCoreAcme(core, {
    ...{ config: config.acme, clock, log: log.child({ part: 'acme' }), revoke: operations.revoke },
    sealer,
    reached,
  })
  closing.push(acme.close)
  const deps = {
    admission,
    acme,
    clock,
    log,
    metrics,
    audit: ledger.audit,
    registrations: ledger.registrations,
    certificates: ledger.certificates,
    instances: ledger.instances,
    status: ledger.status,
    tokens: ledger.tokens,
    issuance: core.issuance,
    released: core.released,
    issuers: core.issuers,
    sampler: core.sampler,
    random: Math.random,
    limits: createLimits(clock, config.limits),
    inFlight: createInFlight(config.issuance.maxInFlight),
    publicUrl: core.publicUrls.api,
    logIdentity: { caId: core.caId, logKey: logKeyPem },
    feed: core.feed,
    est: {
      keyAlgorithmsOf: (name: string) =>
        core
          .profiles()
          .list()
          .find(profile => profile.name === name)?.keyAlgorithms ?? null,
      patienceMs: estPatienceMs,
    },
    monitor: monitoring.monitor,
    policies: core.policies,
    leaver: {
      clock,
      metrics,
      audit: ledger.audit,
      lifecycle: operations.lifecycle,
      owners: ledger.owners,
      registrations: ledger.registrations,
      secret: leaverSecret.current,
      toleranceMs: config.webhooks.in.tolerance * 1000,
    },
  }
  // Streams would keep the listener from closing.
  closing.push(() => core.feed.close())
  const { monitor, rulesFile } = monitoring
  const events = createCoreEvents(core, { config, clock, log, metrics })
  closing.push(() => events.close())
  const adminRouter = createAdminRouter({
    ...{ ...operations, bindings, monitor, rulesFile, events },
    attestors: {
      list: attestors.list,
      explain: jwt =>
        explainToken({ ...ledger, maintenance: core.maintenance, attestors: attestors.current() }, jwt, clock.now()),
    },
  })
  const api = opened(
    createApiListener({
      ...{ workers: config.workers, socket: paths.frontSocket, rates: config.limits, credentials: credential },
      ...{ handler: createApp({ face: 'tls', deps, adminRouter }), clock, log, metrics },
    }),
  )
  const admin = opened(createPlainServer(createApp({ face: 'socket', deps, adminRouter }) as RequestListener))
  const ops = opened(
    createPlainServer(createOpsHandler({ log, checks: () => checksOf(core, clock), renderMetrics: metrics.render })),
  )
  const apiPort = await listenNear(api, 'listen.api', { address: config.listen.api, url: core.publicUrls.api })
  const opsPort = await listenOn(ops, 'listen.ops', config.listen.ops)
  await admin.listenOn(paths.adminSocket)

  const jobs = createJobs(log)
  closing.push(() => jobs.close())
  startJobs(jobs, {
    clock,
    log,
    core,
    lifecycle: operations.lifecycle,
    orphans: operations.orphans,
    orphansEveryMs: config.orphans.checkEvery * 1000,
    regularCrlIntervalSeconds: config.crl.lifetime - config.crl.refreshBefore,
    keepExpiredSeconds: config.ledger.keepExpired,
    renewApiCertificate: async () => {
      const renewed = await apiCertificate.renewIfDue()
      if (renewed !== null) api.setCredentials(renewed)
    },
  })
  startMonitorJobs(jobs, monitor)
  jobs.every('prune ended ACME orders', pruneAcmeEveryMs, () => (core.clockGuard.mayEnd() ? acme.prune() : undefined))
  registerGauges(core, metrics, clock)
  metrics.gauge('agentca_attestor_ready', () =>
    attestors.current().map(attestor => {
      const { name, state } = attestor.status()
      return { value: state === 'ready' ? 1 : 0, labels: { attestor: name } }
    }),
  )
  metrics.gauge('agentca_orphans', () =>
    [...operations.orphans.counts()].map(([reason, value]) => ({ value, labels: { reason } })),
  )

  let closed: Promise<void> | null = null
  const close = (grace: number): Promise<void> => {
    graceMs = grace
    closed ??= Promise.all(closing.map(each => each())).then(() => core.close())
    return closed
  }
  return {
    line: {
      ready: true,
      api: urlOf('https', config.listen.api, apiPort),
      status: urlOf('http', config.listen.status, statusPort),
      ops: urlOf('http', config.listen.ops, opsPort),
      admin: paths.adminSocket,
      pid: process.pid,
    },
    core,
    operations,
    reload: async () => {
      // A log that was moved away is left, whatever becomes of the profiles.
      events.reopen()
      leaverSecret.reload()
      const putRulesInForce = monitoring.prepareReload()
      const before = core.profiles()
      const after = loadProfiles(options.profilesDirectory)
      checkProfilesInUse(ledger.registrations, { before, after, source: options.profilesDirectory })
      // Last of what can refuse: new attestors fetch keys until they are closed.
      const nextAttestors = attestors.prepareReload()
      try {
        await ledger.audit.append(profileChanges(before, after, clock.now()))
      } catch (error) {
        nextAttestors.discard()
        throw error
      }
      core.setProfiles(after)
      putRulesInForce()
      nextAttestors.putInForce()
      log.info({ profiles: after.list().length }, 'profiles reloaded')
    },
    close,
    [Symbol.asyncDispose]: () => close(0),
  }
}
