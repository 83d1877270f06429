// A whole CA inside a test: the server that `agentca serve` runs, over a ledger in memory and keys in software, on free ports of this
// machine. Agents and services that it gives are the SDK's own identities: they enrol, renew and are refused for real.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type AgentIdentity, type AgentIdentityOptions, agentIdentity } from '../agent/index.ts'
import { type Clock, systemClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { noSteps } from '../base/steps.ts'
import { encodePem } from '../pki/pem.ts'
import { parseTrustDomain } from '../pki/spiffe.ts'
import { parseConfig } from '../schema/config.ts'
import { homePaths } from '../server/home.ts'
import { findFreePort } from '../server/init-inputs.ts'
import { rootCrlFile, rootName } from '../server/init-places.ts'
import { makeRunDirectory } from '../server/run-directory.ts'
import { type RunningServer, startServer } from '../server/serve.ts'
import { openSqliteLedger } from '../store/sqlite/open.ts'
import { createMetrics } from '../telemetry/metrics.ts'
import { checkSurroundings, warnOnce } from './guard.ts'
import { beginLedger, makeAuthority } from './made-authority.ts'
import { createSoftwareSigning } from './software-signer.ts'

export interface TestAuthorityOptions {
  /** Default: test-only.invalid. */
  readonly trustDomain?: string
  /** Directory of profiles; default: those of a new CA. */
  readonly profiles?: string
}

export interface RegistrationOptions {
  readonly owner?: string
  readonly roles?: readonly string[]
  readonly attributes?: Readonly<Record<string, string>>
  /** How the identity is kept and made; where the CA is and what proves the caller is known here. */
  readonly identity?: Pick<AgentIdentityOptions, 'dir' | 'keyAlgorithm' | 'watch'>
}

export interface ServiceOptions extends RegistrationOptions {
  /** Host names of its server certificate; default: localhost and 127.0.0.1. */
  readonly dns?: readonly string[]
}

export interface RevokeOptions {
  /** By its RFC 5280 name; default: keyCompromise. */
  readonly reason?: string
  /** How long to wait until every verifier that follows has applied it; default: 5000. */
  readonly waitMs?: number
}

export interface Applied {
  /** Services that follow the feed and are concerned, and how many of them applied it. */
  readonly of: number
  readonly applied: number
}

/** An agent by its name, or one thing of it. */
export type RevocationTarget =
  | string
  | { readonly agent: string }
  | { readonly service: string }
  | { readonly instance: string }
  | { readonly serial: string }
  | { readonly owner: string }

export interface TestAuthority extends AsyncDisposable {
  /** The API, for `AGENTCA_URL` and anything else that talks to a CA. */
  readonly url: string
  /** CRL, OCSP, bundles. */
  readonly statusUrl: string
  readonly trustDomain: string
  /** The roots, PEM. */
  readonly bundlePem: string
  /** A file of them, for `AGENTCA_CA_FILE`. */
  readonly caFile: string
  /** Where `agentca --home` finds its admin socket. */
  readonly home: string
  /** Registers an agent, unless it is, and enrols one instance of it. */
  agent(name: string, options?: RegistrationOptions): Promise<AgentIdentity>
  /** The same for a service: the identity that `agentca/verifier` is given. */
  service(name: string, options?: ServiceOptions): Promise<AgentIdentity>
  /** A file with a join token for one more instance: for programs that enrol themselves. */
  token(kind: 'agent' | 'service', name: string): Promise<string>
  /** For good. @returns once every verifier that follows has applied it, or `waitMs` have passed */
  revoke(target: RevocationTarget, options?: RevokeOptions): Promise<Applied>
  hold(agent: string, options?: Pick<RevokeOptions, 'waitMs'>): Promise<Applied>
  release(agent: string, options?: Pick<RevokeOptions, 'waitMs'>): Promise<Applied>
  /** The audit log from its beginning: event, subject, and what the leaf says. */
  audit(): readonly {
    readonly event: string
    readonly subject: string | null
    readonly facts: Readonly<Record<string, unknown>>
  }[]
}

/** Those of the package, in a checkout and compiled alike. */
const ownProfiles = (): string => fileURLToPath(new URL('../../ca-config/profiles', import.meta.url))

const context = { requestId: 'test', who: 'operator:test', source: 'local' }
const change = { context, dryRun: false }

interface Place {
  readonly directory: string
  readonly caFile: string
  readonly urls: { readonly api: string; readonly status: string }
}

const preparePlace = async (bundlePem: string): Promise<Place> => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-testing-'))
  const caFile = join(directory, 'ca.pem')
  writeFileSync(caFile, bundlePem)
  mkdirSync(join(directory, 'home', 'ceremonies'), { recursive: true, mode: 0o700 })
  const [api, status] = [await findFreePort('127.0.0.1'), await findFreePort('127.0.0.1')]
  return { directory, caFile, urls: { api: `https://127.0.0.1:${api}`, status: `http://127.0.0.1:${status}` } }
}

const start = async (options: TestAuthorityOptions, clock: Clock) => {
  const now = clock.now()
  const trustDomain = parseTrustDomain(options.trustDomain ?? 'test-only.invalid')
  const made = await makeAuthority(now)
  const place = await preparePlace(encodePem('CERTIFICATE', made.root.der))
  const ledger = openSqliteLedger(':memory:', { clock, log: silentLog })
  const paths = homePaths(join(place.directory, 'home'))
  makeRunDirectory(paths.run)
  try {
    const rootCrl = rootCrlFile(paths, rootName)
    mkdirSync(dirname(rootCrl), { recursive: true })
    writeFileSync(rootCrl, made.rootCrl)
    await beginLedger(ledger, made, {
      trustDomain,
      urls: place.urls,
      ceremonies: paths.ceremonies,
      now,
      log: silentLog,
    })
    const free = '127.0.0.1:0'
    const settings = {
      trustDomain,
      listen: { api: free, status: free, ops: free },
      feed: { heartbeat: '1s', lease: '5s' },
    }
    const server = await startServer({
      config: parseConfig({ text: JSON.stringify(settings), source: 'testing', env: {} }),
      paths,
      profilesDirectory: options.profiles ?? ownProfiles(),
      clock,
      log: silentLog,
      metrics: createMetrics(),
      reached: noSteps,
      version: 'testing',
      ledger,
      openSigning: facts => createSoftwareSigning({ clock, trustDomain: facts.trustDomain, keys: made.keys }),
    })
    return { server, ledger, place, paths, trustDomain }
  } catch (error) {
    await ledger.close()
    rmSync(place.directory, { recursive: true, force: true })
    throw error
  }
}

type Started = Awaited<ReturnType<typeof start>>

const createRegistrar = ({ server, ledger, place }: Started) => {
  const { registry, tokens } = server.operations
  let files = 0
  const register = async (kind: 'agent' | 'service', name: string, options: ServiceOptions): Promise<void> => {
    if (ledger.registrations.find(kind, name) !== null) return
    const { owner = 'test', roles = [], attributes = {}, dns = ['localhost', '127.0.0.1'] } = options
    await registry.create(
      {
        ...{ kind, name, roles, attributes },
        owner: kind === 'agent' ? owner : (options.owner ?? null),
        purpose: 'a test',
        profile: null,
        dnsNames: kind === 'service' ? dns : [],
        instanceLimit: null,
        operatorRole: null,
        until: null,
      },
      change,
    )
  }
  const tokenFile = async (kind: 'agent' | 'service', name: string): Promise<string> => {
    const { text } = await tokens.create({ kind, name, ttlSeconds: 600, uses: 1, boundKeyHash: null }, change)
    const file = join(place.directory, `${files++}.token`)
    writeFileSync(file, `${text}\n`, { mode: 0o600 })
    return file
  }
  return { register, tokenFile }
}

const selectorOf = (target: RevocationTarget) => {
  const [by, value] = Object.entries(typeof target === 'string' ? { agent: target } : target)[0] as [
    'agent' | 'service' | 'instance' | 'serial' | 'owner',
    string,
  ]
  return { by, value }
}

const appliedOf = async (server: RunningServer, waitMs: number): Promise<Applied> => {
  const { of, missing } = await server.core.feed.applied(server.core.ledger.feed.head().n, waitMs)
  return { of, applied: of - missing.length }
}

/**
 * @throws TestingError `testing_refused` with NODE_ENV=production, or where AGENTCA_HOME is a real CA's
 */
export const testAuthority = async (options: TestAuthorityOptions = {}): Promise<TestAuthority> => {
  checkSurroundings(process.env)
  warnOnce(text => process.stderr.write(text))
  const started = await start(options, systemClock)
  const { server, ledger, place, paths, trustDomain } = started
  const { register, tokenFile } = createRegistrar(started)
  const { lifecycle, revoke } = server.operations
  // Ended with the authority, where the test did not end them itself.
  const identities = new Set<AgentIdentity>()
  const identify = async (kind: 'agent' | 'service', name: string, given: ServiceOptions): Promise<AgentIdentity> => {
    await register(kind, name, given)
    const identity = await agentIdentity({
      ...given.identity,
      url: server.line.api,
      caFile: place.caFile,
      tokenFile: await tokenFile(kind, name),
      ...(kind === 'service' ? { service: name } : {}),
    })
    identities.add(identity)
    return identity
  }
  const close = async (): Promise<void> => {
    for (const identity of identities) await identity[Symbol.asyncDispose]()
    identities.clear()
    await server.close(0)
    // Sockets lie elsewhere where the path would be too long.
    for (const path of [place.directory, paths.run]) rmSync(path, { recursive: true, force: true })
  }
  return {
    url: server.line.api,
    statusUrl: server.line.status,
    trustDomain,
    bundlePem: server.core.issuers.bundlePem(),
    caFile: place.caFile,
    home: paths.home,
    agent: (name, given = {}) => identify('agent', name, given),
    service: (name, given = {}) => identify('service', name, given),
    token: async (kind, name) => {
      await register(kind, name, {})
      return tokenFile(kind, name)
    },
    revoke: async (target, { reason = 'keyCompromise', waitMs = 5000 } = {}) => {
      await revoke(selectorOf(target), reason, change)
      return appliedOf(server, waitMs)
    },
    hold: async (name, { waitMs = 5000 } = {}) => {
      await lifecycle.hold({ kind: 'agent', name }, change)
      return appliedOf(server, waitMs)
    },
    release: async (name, { waitMs = 5000 } = {}) => {
      await lifecycle.release({ kind: 'agent', name }, change)
      return appliedOf(server, waitMs)
    },
    audit: () =>
      ledger.audit
        .read(0, Number.MAX_SAFE_INTEGER)
        .map(({ event, subject, bytes }) => ({ event, subject, facts: JSON.parse(Buffer.from(bytes).toString()) })),
    [Symbol.asyncDispose]: close,
  }
}
