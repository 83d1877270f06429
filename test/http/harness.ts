// The real front for tests: a real authority, the real application over it, on a loopback TLS server, and a client that shows what it
// is told to show.
import { execFileSync } from 'node:child_process'
import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { IncomingHttpHeaders } from 'node:http'
import { type Agent, request as httpsRequest, type RequestOptions } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CompactSign, exportJWK } from 'jose'
import { createSampler } from '../../src/audit/sampler.ts'
import { toHex } from '../../src/base/bytes.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import type { Labels, Metrics } from '../../src/base/metrics.ts'
import type { IssuancePace } from '../../src/ca/issuance-pace.ts'
import { createIssuers } from '../../src/ca/issuers.ts'
import { type AppDeps, type AppOptions, createApp } from '../../src/http/app.ts'
import { createInFlight, createLimits, type LimitRates } from '../../src/http/limits.ts'
import { type Credentials, createTlsServer } from '../../src/http/tls-server.ts'
import { createCsr } from '../../src/pki/csr.ts'
import type { GeneralName } from '../../src/pki/general-names.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { spkiHashHex } from '../../src/pki/spki.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import { caId, createTestAuthority, leaf } from '../ca/authority.ts'

export const publicUrl = 'https://ca.example:8443'

/** A server certificate that signs itself: who the server is, is not what these tests are about. */
export const selfSigned = (name: string): Credentials => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-http-'))
  const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')]
  try {
    const subject = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '30']
    const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', ...subject]
    execFileSync('openssl', [...args, '-keyout', key, '-out', cert], { stdio: 'ignore' })
    return { key: readFileSync(key, 'utf8'), chain: readFileSync(cert, 'utf8') }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

export interface AgentKey {
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
  readonly keyHash: string
  readonly csr: Uint8Array
  /** PEM. */
  readonly csrText: string
}

export const createKey = async (names: readonly GeneralName[] = [], subjectCn?: string): Promise<AgentKey> => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const spkiDer = new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }))
  const csr = await createCsr({
    spkiDer,
    subjectAltNames: names,
    ...(subjectCn === undefined ? {} : { subjectCn }),
    sign: data => new Uint8Array(sign('sha256', data, privateKey)),
  })
  const csrText = encodePem('CERTIFICATE REQUEST', csr)
  return { privateKey, publicKey, keyHash: spkiHashHex(spkiDer), csr, csrText }
}

/** A proof of possession as an agent makes it; `claims` and `header` to make it wrong. */
export const signProof = async (
  key: AgentKey,
  csr: Uint8Array,
  claims: Readonly<Record<string, unknown>> = {},
): Promise<string> => {
  const payload = {
    csrHash: createHash('sha256').update(csr).digest('base64url'),
    aud: `${publicUrl}/v1/recover`,
    iat: Math.floor(Date.now() / 1000),
    jti: randomBytes(16).toString('hex'),
    ...claims,
  }
  return new CompactSign(new TextEncoder().encode(JSON.stringify(payload)))
    .setProtectedHeader({ alg: 'ES256', jwk: await exportJWK(key.publicKey) })
    .sign(key.privateKey)
}

/** What a client shows: a certificate and its key, PEM. */
export interface Shown {
  readonly cert: string
  readonly key: string | KeyObject
}

export interface Reply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  // biome-ignore lint/suspicious/noExplicitAny: assertions look into it.
  readonly body: any
}

export interface Ask {
  readonly method?: string
  /** An object becomes JSON; text goes as it is. */
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
  readonly shown?: Shown | undefined
  /** Connections of its own, to keep one alive; default: one connection per request. */
  readonly agent?: Agent
}

const readReply = (options: RequestOptions, body: string | undefined): Promise<Reply> =>
  new Promise((resolve, reject) => {
    const request = httpsRequest(options, response => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8')
        const json = /json/.test(response.headers['content-type'] ?? '') && text !== ''
        const parsed: unknown = json ? JSON.parse(text) : undefined
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text, body: parsed })
      })
    })
    request.on('error', reject)
    request.end(body)
  })

export const ask = (port: number, path: string, options: Ask = {}): Promise<Reply> => {
  const { body, shown, agent } = options
  const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
  const headers = { ...(text === undefined ? {} : { 'Content-Type': 'application/json' }), ...options.headers }
  return readReply(
    {
      host: '127.0.0.1',
      port,
      path,
      method: options.method ?? (text === undefined ? 'GET' : 'POST'),
      headers: { ...(text === undefined ? {} : { 'Content-Length': Buffer.byteLength(text) }), ...headers },
      // The server signs itself; these clients believe anything.
      rejectUnauthorized: false,
      agent: agent ?? false,
      ...(shown === undefined ? {} : { cert: shown.cert, key: keyPem(shown.key) }),
    },
    text,
  )
}

const keyPem = (key: string | KeyObject): string =>
  typeof key === 'string' ? key : (key.export({ type: 'pkcs8', format: 'pem' }) as string)

export interface Counted {
  readonly name: string
  readonly labels: Labels
}

/** The metrics port as a list of what was counted and timed. */
export const createCountingMetrics = () => {
  const counted: Counted[] = []
  const metrics: Metrics = {
    count: (name, labels = {}) => counted.push({ name, labels }),
    observe: (name, _seconds, labels = {}) => counted.push({ name, labels }),
    gauge: () => {},
  }
  return { counted, metrics }
}

const generous: LimitRates = { anonymousPerMinute: 1_000_000, identityPerMinute: 1_000_000 }

export type TestFront = Awaited<ReturnType<typeof createTestFront>>

/** @param pace of issuance; default: none */
export const createTestFront = async (pace?: IssuancePace, more: readonly `issuing-${number}`[] = []) => {
  // Both the front and the issuance read this clock, so that a certificate can be looked at after its end.
  const time = { offset: 0 }
  const clock = { now: () => Date.now() + time.offset, monotonic: systemClock.monotonic }
  const ca = await createTestAuthority(path => openSqliteLedger(path, { clock, log: silentLog }), more, clock, pace)
  const { ledger } = ca
  const { metrics } = createCountingMetrics()
  const deps = {
    clock,
    log: silentLog,
    metrics,
    issuance: ca.issuance,
    issuers: createIssuers(ledger.issuers, null),
    certificates: ledger.certificates,
    registrations: ledger.registrations,
    instances: ledger.instances,
    status: ledger.status,
    tokens: ledger.tokens,
    audit: ledger.audit,
    sampler: createSampler(clock, { burst: 10_000, refillMs: 1, globalPerMinute: 100_000, maxBuckets: 100 }),
    limits: createLimits(clock, generous),
    inFlight: createInFlight(1000),
    random: () => 0.5,
    publicUrl,
  }
  const credentials = selfSigned('api')
  const app = createApp({ face: 'tls', deps, adminRouter: null })
  const server = createTlsServer({ credentials, handler: app })
  const port = await server.listen({ host: '127.0.0.1', port: 0 })
  const call = (path: string, asked: Ask = {}) => ask(port, path, asked)

  /** A join token's text, as an operator hands it out. */
  const createToken = async (agent: string, more: { uses?: number; expiresAt?: number; audience?: string } = {}) => {
    const registration = ledger.registrations.find('agent', agent) ?? (await ca.registerAgent(agent))
    const token = randomBytes(32).toString('base64url')
    await ledger.tokens.create(
      {
        id: randomBytes(8).toString('hex'),
        hash: toHex(createHash('sha256').update(token).digest()),
        registrationId: registration.id,
        audience: caId,
        uses: 1,
        boundKeyHash: null,
        expiresAt: clock.now() + 600_000,
        createdAt: clock.now(),
        createdBy: 'operator:test',
        ...more,
      },
      leaf('token_created'),
    )
    return token
  }
  const enrolBody = (token: string, csr: string) => ({ csr, evidence: { type: 'token', token } })

  const leavesOf = (reply: Pick<Reply, 'headers'>) =>
    ledger.audit
      .tail({ limit: 50 })
      .map(each => ({ subject: each.subject, ...JSON.parse(Buffer.from(each.bytes).toString('utf8')) }))
      .filter(content => content.req === reply.headers['x-request-id'])

  return {
    ca,
    ledger,
    deps,
    app,
    server,
    port,
    credentials,
    time,
    call,
    createToken,
    enrolBody,
    /** An enrolled agent, with what it shows from now on. */
    enrol: async (agent: string) => {
      const key = await createKey()
      const reply = await call('/v1/enroll', { body: enrolBody(await createToken(agent), key.csrText) })
      if (reply.status !== 201) throw new Error(`expected 201, got ${reply.status}: ${reply.text}`)
      return { key, identity: reply.body, shown: { cert: reply.body.certificate as string, key: key.privateKey } }
    },
    /** The audit leaves of one request, by the id that its answer carried. */
    leavesOf,
    /** The only leaf of a kind; two of them would be as wrong as none. */
    leafOf: (reply: Pick<Reply, 'headers'>, event: string) => {
      const found = leavesOf(reply).filter(leaf => leaf.event === event)
      if (found.length !== 1) throw new Error(`expected one leaf ${event}, got ${found.length}`)
      return found[0]
    },
    /** A second listener over the same authority, with other limits. */
    serve: async (changes: Partial<AppDeps>, more: Partial<AppOptions> = {}) => {
      const handler = createApp({ face: 'tls', deps: { ...deps, ...changes }, adminRouter: null, ...more })
      const other = createTlsServer({ credentials, handler })
      const otherPort = await other.listen({ host: '127.0.0.1', port: 0 })
      return {
        port: otherPort,
        call: (path: string, asked: Ask = {}) => ask(otherPort, path, asked),
        [Symbol.asyncDispose]: () => other.close(0),
      }
    },
    [Symbol.asyncDispose]: async () => {
      await server.close(0)
      await ca[Symbol.asyncDispose]()
    },
  }
}
