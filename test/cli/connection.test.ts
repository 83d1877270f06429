// How a command reaches its server, and whom it trusts: the admin socket, or TLS 1.3 under the operator's own roots, with the server's
// SPIFFE ID checked.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createHttpsServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { homeDirectory, packageRoot } from '../../src/cli/home.ts'
import { assembleCertificate, encodeTbsCertificate } from '../../src/pki/certificate.ts'
import * as ext from '../../src/pki/extensions.ts'
import { dnsName, uriName } from '../../src/pki/general-names.ts'
import { encodeName } from '../../src/pki/names.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { createParty, type TestParty } from '../pki/crl-authority.ts'
import { createTestKey } from '../pki/keys.ts'
import { runCommand } from './command.ts'
import { startServer, type TestServer } from './server.ts'

const root = createParty({ name: 'connection root' })
const otherRoot = createParty({ name: 'another root' })

/** A leaf with its key, PEM. */
const identityOf = (issuer: TestParty, names: { readonly spiffeId?: string; readonly dns?: string }) => {
  const key = createTestKey('P-256')
  const san = [
    ...(names.spiffeId === undefined ? [] : [uriName(names.spiffeId)]),
    ...(names.dns === undefined ? [] : [dnsName(names.dns)]),
  ]
  const tbs = encodeTbsCertificate({
    serial: Uint8Array.of(1, 2, 3),
    signatureAlgorithm: issuer.algorithm,
    issuerDer: issuer.certificate.subjectDer,
    notBefore: Date.now() - 60_000,
    notAfter: Date.now() + 3_600_000,
    subjectDer: encodeName([['CN', 'tested']]),
    spkiDer: key.spki.der,
    extensions: [ext.keyUsage(['digitalSignature']), ext.subjectAltName(san)],
  })
  return {
    cert: encodePem('CERTIFICATE', assembleCertificate(tbs, issuer.algorithm, issuer.sign(tbs))),
    key: key.privateKey.export({ format: 'pem', type: 'pkcs8' }) as string,
  }
}

let server: TestServer
let directory: string
beforeAll(async () => {
  server = await startServer()
  directory = mkdtempSync(join(tmpdir(), 'agentca-credential-'))
  const { cert, key } = identityOf(root, { spiffeId: 'spiffe://example.org/operator/alice' })
  const write = (name: string, content: string): void => writeFileSync(join(directory, name), content)
  write('credential-bundle.pem', key + cert)
  write('ca.crt', encodePem('CERTIFICATE', root.certificate.der))
})
afterAll(async () => {
  rmSync(directory, { recursive: true, force: true })
  await server?.[Symbol.asyncDispose]()
})

/** The test server's routes over TLS; remembers who called. */
const startTls = async (identity: { readonly cert: string; readonly key: string }) => {
  const callers: (string | undefined)[] = []
  const tls: Server = createHttpsServer(
    { ...identity, requestCert: true, rejectUnauthorized: false, minVersion: 'TLSv1.3' },
    (request, response) => {
      callers.push((request.socket as TLSSocket).getPeerCertificate().subjectaltname)
      server.listener(request, response)
    },
  )
  await new Promise<void>(resolve => tls.listen(0, '127.0.0.1', resolve))
  const { port } = tls.address() as AddressInfo
  return {
    port,
    callers,
    [Symbol.asyncDispose]: async () => {
      tls.closeAllConnections()
      await new Promise(resolve => tls.close(resolve))
    },
  }
}

const status = (url: string, credential = directory) =>
  runCommand(['status', '-o', 'json', '--url', url, '--credential', credential])

describe('over TLS', () => {
  it('reaches service/agentca of its own trust domain at any address, and shows the operator’s certificate', async () => {
    await using tls = await startTls(identityOf(root, { spiffeId: 'spiffe://example.org/service/agentca' }))
    const { code, out } = await status(`https://127.0.0.1:${tls.port}`)
    expect([code, (JSON.parse(out) as { caId: string }).caId]).toEqual([0, 'ca-1'])
    expect(tls.callers).toEqual(['URI:spiffe://example.org/operator/alice'])
  })

  it('reaches a server without a SPIFFE ID by its host name', async () => {
    await using tls = await startTls(identityOf(root, { dns: 'localhost' }))
    expect((await status(`https://localhost:${tls.port}`)).code).toBe(0)
  })

  it.each([
    ['another service of the trust domain', root, { spiffeId: 'spiffe://example.org/service/orders' }],
    [
      'another service that has the host name',
      root,
      { spiffeId: 'spiffe://example.org/service/orders', dns: 'localhost' },
    ],
    ['service/agentca of another trust domain', root, { spiffeId: 'spiffe://other.org/service/agentca' }],
    ['an operator who is called agentca', root, { spiffeId: 'spiffe://example.org/operator/agentca' }],
    ['an agent', root, { spiffeId: 'spiffe://example.org/agent/billing/i/1' }],
    ['another host name', root, { dns: 'elsewhere.example' }],
    ['a certificate of another root', otherRoot, { spiffeId: 'spiffe://example.org/service/agentca' }],
  ] as const)('does not talk to %s', async (_, issuer, names) => {
    await using tls = await startTls(identityOf(issuer, names))
    const { code, out, err } = await status(`https://localhost:${tls.port}`)
    expect([code, out]).toEqual([9, ''])
    expect(JSON.parse(err)).toMatchObject({ code: 'server_not_trusted' })
    expect(tls.callers).toEqual([])
  })

  it('says with exit code 7 that nobody answers', async () => {
    const tls = await startTls(identityOf(root, { dns: 'localhost' }))
    await tls[Symbol.asyncDispose]()
    const { code, err } = await status(`https://localhost:${tls.port}`)
    expect([code, JSON.parse(err)]).toEqual([7, expect.objectContaining({ code: 'server_unreachable' })])
  })

  it.each([
    ['http://localhost:1', 'expected --url https://HOST:PORT'],
    ['https://user:secret@localhost', 'expected --url https://HOST:PORT'],
    ['localhost:8443', 'expected --url https://HOST:PORT'],
  ])('refuses the URL %s', async (url, says) => {
    const { code, err } = await status(url)
    expect([code, err]).toEqual([2, expect.stringContaining(says)])
  })

  it('needs a credential, and takes both from the environment as paths', async () => {
    expect((await runCommand(['status', '--url', 'https://localhost:1'])).err).toContain('--url needs --credential DIR')
    await using tls = await startTls(identityOf(root, { spiffeId: 'spiffe://example.org/service/agentca' }))
    const env = { AGENTCA_ADMIN_URL: `https://127.0.0.1:${tls.port}`, AGENTCA_ADMIN_CREDENTIAL: directory }
    expect((await runCommand(['status'], { env })).code).toBe(0)
  })

  it('names what is missing in a credential directory', async () => {
    const { code, err } = await status('https://localhost:1', join(directory, 'nowhere'))
    expect([code, JSON.parse(err)]).toEqual([2, expect.objectContaining({ code: 'file_unreadable' })])
  })
})

describe('over the admin socket', () => {
  it('says with exit code 7 that no server runs, and how to start one', async () => {
    const { code, out, err } = await runCommand(['agent', 'list'], { env: { AGENTCA_HOME: join(directory, 'empty') } })
    expect([code, out]).toEqual([7, ''])
    expect(err).toContain('no server is running here')
    expect(err).toContain('agentca serve')
  })

  it('prefers --home to AGENTCA_HOME, and finds the checkout’s own without both', async () => {
    const ran = await runCommand(['status', '--home', server.paths.home], { env: { AGENTCA_HOME: '/nowhere' } })
    expect(ran.code).toBe(0)
    expect(homeDirectory({ env: {}, cwd: '/' }, undefined)).toBe(join(packageRoot, '.agentca'))
  })

  it.each([
    ['text', 200, 'hello'],
    ['an array', 200, '[]'],
    ['an error that is no problem document', 500, '{"message":"x"}'],
  ])('does not take %s for an answer', async (_, code, body) => {
    const home = mkdtempSync(join(tmpdir(), 'agentca-odd-'))
    mkdirSync(join(home, 'run'))
    const odd = createServer((_request, response) => response.writeHead(code).end(body))
    await new Promise<void>(resolve => odd.listen(join(home, 'run', 'admin.sock'), resolve))
    try {
      const ran = await runCommand(['status', '-o', 'json'], { env: { AGENTCA_HOME: home } })
      expect([ran.code, JSON.parse(ran.err)]).toEqual([1, expect.objectContaining({ code: 'server_answer_malformed' })])
    } finally {
      await new Promise(resolve => odd.close(resolve))
      rmSync(home, { recursive: true, force: true })
    }
  })

  it('says with exit code 7 that the server broke off', async () => {
    const home = mkdtempSync(join(tmpdir(), 'agentca-odd-'))
    mkdirSync(join(home, 'run'))
    const odd = createServer((_request, response) => response.destroy())
    await new Promise<void>(resolve => odd.listen(join(home, 'run', 'admin.sock'), resolve))
    try {
      expect((await runCommand(['status'], { env: { AGENTCA_HOME: home } })).code).toBe(7)
    } finally {
      await new Promise(resolve => odd.close(resolve))
      rmSync(home, { recursive: true, force: true })
    }
  })
})
