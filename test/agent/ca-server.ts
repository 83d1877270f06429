// The CA as an agent meets it: the real application over a real authority, on a TLS server whose certificate this very authority
// issued, behind a handler that can lose requests and answers on demand.
import { generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import {
  createServer as createPlainServer,
  type IncomingMessage,
  type RequestListener,
  type ServerResponse,
} from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { createApp } from '../../src/http/app.ts'
import { createTlsServer } from '../../src/http/tls-server.ts'
import { assembleCertificate } from '../../src/pki/certificate.ts'
import { createLeafTemplate } from '../../src/pki/leaf-template.ts'
import { commonNameFor } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { encodeSerial } from '../../src/pki/serial.ts'
import { serviceSpiffeId } from '../../src/pki/spiffe.ts'
import { type TestAuthority, trustDomain } from '../ca/authority.ts'
import { createTestFront } from '../http/harness.ts'

const hour = 3_600_000

export interface ServerCertificate {
  readonly key: string
  /** Leaf and intermediate. */
  readonly chain: string
}

const keyPem = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }) as string

/** A certificate of this authority for a service, as the server keeps one for itself; the ledger does not know it. */
export const issueForService = async (
  ca: TestAuthority,
  service: string,
  dnsNames: readonly string[] = [],
): Promise<ServerCertificate> => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const template = createLeafTemplate({
    issuerDer: ca.issuing.subjectDer,
    signatureAlgorithm: 'ecdsa-with-SHA256',
    authorityKeyId: ca.issuer.keyIdentifier,
    keyUsage: ['digitalSignature'],
    extendedKeyUsage: [oidOf.clientAuth, oidOf.serverAuth],
  })
  const now = Math.floor(Date.now() / 1000) * 1000
  const tbs = template.encode({
    serial: encodeSerial({ prefix: 1, nowMs: now, random10: randomBytes(10) }),
    notBefore: now - 60_000,
    notAfter: now + 24 * hour,
    subjectCn: commonNameFor('service', service),
    spkiDer: new Uint8Array(publicKey.export({ type: 'spki', format: 'der' })),
    spiffeId: serviceSpiffeId(trustDomain, service),
    dnsNames,
  })
  const request = { purpose: 'leaf', key: 'issuing-1', tbs, priority: 'enrol', deadlineMs: 5000 } as const
  const leaf = assembleCertificate(tbs, 'ecdsa-with-SHA256', await ca.signer.client.sign(request))
  return {
    key: keyPem(privateKey),
    chain: encodePem('CERTIFICATE', leaf) + encodePem('CERTIFICATE', ca.issuing.der),
  }
}

export interface Problem {
  readonly status: number
  readonly code: string
  readonly retryAfter: string
}

/** What happens to one request. */
export type Fate =
  | 'answer'
  /** The work is done and committed, the answer never leaves. */
  | 'lose-answer'
  /** The connection breaks before anything is done. */
  | 'lose-request'
  /** The connection stands, and no answer comes. */
  | 'hang'
  /** A problem document instead; nothing is done. */
  | { readonly problem: Problem }
  /** The work is done, and the answer changed on its way. */
  | { readonly change: (answer: Readonly<Record<string, unknown>>) => unknown }

const sendProblem = (response: ServerResponse, { status, code, retryAfter }: Problem): void => {
  response.writeHead(status, { 'content-type': 'application/problem+json', 'retry-after': retryAfter })
  response.end(JSON.stringify({ title: code, status, detail: code, code, requestId: 'r-1', hint: 'wait' }))
}

/** Replaces what the application's last write does; by then all its work is durable. */
const interceptEnd = (response: ServerResponse, instead: (body: string, end: (body: string) => void) => void): void => {
  const end = response.end.bind(response) as (body: string) => void
  response.end = ((body: string | Buffer) => {
    instead(body.toString(), changed => {
      response.setHeader('content-length', Buffer.byteLength(changed))
      end(changed)
    })
    return response
  }) as typeof response.end
}

export interface CaServer extends AsyncDisposable {
  readonly front: Awaited<ReturnType<typeof createTestFront>>
  readonly url: string
  /** File with the root, PEM. */
  readonly caFile: string
  readonly rootPem: string
  /** A directory of its own, gone at the end. */
  readonly scratch: (name: string) => string
  /** A new join token for this agent, as a file. */
  readonly tokenFile: (agent: string) => Promise<string>
  /** The next requests meet these, in this order; after that all are answered. */
  readonly fate: (...next: readonly Fate[]) => void
  /** What was said of the next requests is forgotten. */
  readonly forget: () => void
  /** What the status listener gives for the bundle of revocation lists. */
  readonly publish: (crls: () => Promise<string>) => void
  /** The same for the certificates of all CAs. */
  readonly publishCertificates: (pem: () => string) => void
  /** Method and path of every request so far. */
  readonly seen: string[]
}

/** Where certificates say that their revocation list is, and beside it the bundle of all lists. */
const createStatusServer = async (crls: () => Promise<string>, certificates: () => string) => {
  const server = createPlainServer((request, response) => {
    if (request.url === '/crl/bundle.pem') crls().then(pem => response.end(pem))
    else if (request.url === '/aia/bundle.pem') response.end(certificates())
    else response.writeHead(404).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

/** @param more issuing CAs that another one has taken over from, with keys that still sign lists */
export const createCaServer = async (more: readonly `issuing-${number}`[] = []): Promise<CaServer> => {
  const front = await createTestFront(undefined, more)
  let crls = async () => encodePem('X509 CRL', (await front.ca.publishCrl()).der)
  let allCas = (): string =>
    front.deps.issuers
      .all()
      .map(({ certificate }) => encodePem('CERTIFICATE', certificate.der))
      .join('')
  const status = await createStatusServer(
    () => crls(),
    () => allCas(),
  )
  // Before the first certificate: what all have in common is encoded once.
  ;(front.ca.issuer as { crlDistributionPoint: string | null }).crlDistributionPoint = `${status.url}/crl/issuing-1.crl`
  const directory = mkdtempSync(join(tmpdir(), 'agentca-agent-'))
  const fates: Fate[] = []
  const seen: string[] = []
  let app: RequestListener = () => {}
  const handler: RequestListener = (request, response) => {
    // What an identity asks about its own state comes when it likes: fates and counts are of what a test makes happen.
    if (request.url === '/v1/feed' || request.url === '/v1/self') {
      app(request, response)
      return
    }
    seen.push(`${request.method} ${request.url}`)
    const fate = fates.shift() ?? 'answer'
    if (fate === 'lose-request') {
      request.socket.destroy()
      return
    }
    if (fate === 'hang') return
    if (typeof fate === 'object' && 'problem' in fate) {
      request.resume().on('end', () => sendProblem(response, fate.problem))
      return
    }
    if (fate === 'lose-answer') interceptEnd(response, () => request.socket.destroy())
    if (typeof fate === 'object' && 'change' in fate)
      interceptEnd(response, (body, end) => end(JSON.stringify(fate.change(JSON.parse(body)))))
    app(request, response)
  }
  const server = createTlsServer({ credentials: await issueForService(front.ca, 'agentca', ['localhost']), handler })
  const port = await server.listen({ host: '127.0.0.1', port: 0 })
  const url = `https://127.0.0.1:${port}`
  app = createApp({ face: 'tls', deps: { ...front.deps, publicUrl: url }, adminRouter: null })
  const rootPem = encodePem('CERTIFICATE', front.ca.root.der)
  const file = (name: string, content: string): string => {
    writeFileSync(join(directory, name), content, { mode: 0o600 })
    return join(directory, name)
  }
  return {
    front,
    url,
    caFile: file('root.pem', rootPem),
    rootPem,
    scratch: name => join(directory, name),
    tokenFile: async agent => {
      const token = await front.createToken(agent)
      return file(`token-${randomBytes(4).toString('hex')}`, `${token}\n`)
    },
    fate: (...next) => {
      fates.push(...next)
    },
    forget: () => {
      fates.length = 0
    },
    publish: instead => {
      crls = instead
    },
    publishCertificates: instead => {
      allCas = instead
    },
    seen,
    [Symbol.asyncDispose]: async () => {
      await server.close(0)
      status.server.close()
      status.server.closeAllConnections()
      await front[Symbol.asyncDispose]()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

export interface BackendCaller {
  readonly caller: string | undefined
  readonly serial: string
}

type BackendHandler = (request: IncomingMessage, response: ServerResponse, caller: BackendCaller) => void

export interface Backend {
  readonly url: string
  readonly close: () => Promise<void>
}

/** A backend that demands a client certificate of this root and says who called. */
export const createBackend = async (
  rootPem: string,
  { key, chain }: ServerCertificate,
  handler: BackendHandler = (_, response, caller) => response.end(JSON.stringify(caller)),
): Promise<Backend> => {
  const server = createServer(
    { key, cert: chain, ca: rootPem, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.3' },
    (request, response) => {
      const certificate = (request.socket as TLSSocket).getPeerX509Certificate()
      const serial = certificate?.serialNumber.toLowerCase() ?? ''
      handler(request, response, { caller: certificate?.subjectAltName, serial })
    },
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: async () => {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}
