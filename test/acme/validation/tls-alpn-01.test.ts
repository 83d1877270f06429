import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer, type TlsOptions } from 'node:tls'
import { describe, expect, it } from 'vitest'
import { type Challenge, type ValidationPolicy, validate } from '../../../src/acme/validation/validate.ts'
import { hosts, startDnsServer } from './dns-server.ts'
import {
  type AlpnCertificate,
  alpnCertificate,
  challengeOf,
  dns,
  ip,
  listening,
  loopbackPolicy,
} from './probe-world.ts'

const challenge = challengeOf('tls-alpn-01', dns('agent.example'))
const good: AlpnCertificate = { names: 'DNS:agent.example', keyAuthorization: challenge.keyAuthorization }

/** A responder for agent.example with that certificate, probed once. */
const probed = async (
  options: TlsOptions,
  {
    of = challenge,
    host = '127.0.0.1',
    ...changes
  }: Partial<ValidationPolicy> & { of?: Challenge; host?: string } = {},
) => {
  const asked: string[] = []
  const SNICallback: TlsOptions['SNICallback'] = (servername, done) => {
    asked.push(servername)
    done(null)
  }
  const server = createServer({ ALPNProtocols: ['acme-tls/1'], SNICallback, ...options }, socket => {
    socket.on('error', () => {})
  })
  server.on('tlsClientError', () => {})
  await using responder = await listening(server, host)
  await using names = await startDnsServer(hosts({ 'agent.example': ['127.0.0.1'] }))
  const policy = loopbackPolicy({ resolvers: [names.address], tlsPort: responder.port, ...changes })
  return { result: await validate(of, policy), asked }
}

describe('tls-alpn-01 (RFC 8737)', () => {
  it('is satisfied by a self-signed certificate with the one name and the digest in a critical acmeIdentifier', async () => {
    const { result, asked } = await probed(alpnCertificate(good))
    expect(result).toEqual({ ok: true })
    expect(asked).toEqual(['agent.example'])
  })

  it('compares the name without regard to case (RFC 8737 §3)', async () => {
    expect((await probed(alpnCertificate({ ...good, names: 'DNS:Agent.EXAMPLE' }))).result).toEqual({ ok: true })
  })

  it.each([
    ['another name', { names: 'DNS:other.example' }, /subjectAltName/],
    ['a second name', { names: 'DNS:agent.example,DNS:other.example' }, /subjectAltName/],
    ['the name twice', { names: 'DNS:agent.example,DNS:agent.example' }, /subjectAltName/],
    ['an address beside the name', { names: 'DNS:agent.example,IP:127.0.0.1' }, /subjectAltName/],
    ['the name as a URI', { names: 'URI:agent.example' }, /subjectAltName/],
    ['a wildcard', { names: 'DNS:*.example' }, /subjectAltName/],
    ['an acmeIdentifier that is not critical', { critical: false }, /acmeIdentifier/],
    ['the digest of something else', { keyAuthorization: `${challenge.keyAuthorization}x` }, /acmeIdentifier/],
    ['a digest that is cut off', { value: '0410000102030405060708090a0b0c0d0e0f' }, /acmeIdentifier/],
    ['bytes that are no OCTET STRING', { value: 'ff00' }, /cannot be read/],
  ] as const)('refuses %s', async (_, fault, detail) => {
    const { result } = await probed(alpnCertificate({ ...good, ...fault }))
    expect(result).toMatchObject({
      ok: false,
      problem: { type: 'incorrectResponse', detail: expect.stringMatching(detail) },
    })
  })

  it('refuses a certificate without acmeIdentifier, and one that somebody else signed', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'agentca-alpn-'))
    try {
      const run = (...args: readonly string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' })
      const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
      const name = ['-addext', 'subjectAltName=DNS:agent.example']
      const read = (file: string): string => readFileSync(join(folder, file), 'utf8')
      run('req', '-x509', ...key, '-subj', '/CN=acme', ...name, '-keyout', 'plain.key', '-out', 'plain.pem')
      const plain = await probed({ key: read('plain.key'), cert: read('plain.pem') })
      expect(plain.result).toMatchObject({ problem: { detail: expect.stringMatching(/acmeIdentifier/) } })

      const other = alpnCertificate(good)
      writeFileSync(join(folder, 'ca.pem'), other.cert)
      writeFileSync(join(folder, 'ca.key'), other.key)
      run('req', ...key, '-subj', '/CN=acme', '-keyout', 'leaf.key', '-out', 'leaf.csr')
      const digest = createHash('sha256').update(challenge.keyAuthorization).digest('hex')
      const extensions = ['subjectAltName=DNS:agent.example', `1.3.6.1.5.5.7.1.31=critical,DER:0420${digest}`]
      writeFileSync(join(folder, 'extensions'), extensions.join('\n'))
      // Issuer and subject are the same; the key is not the one that signed.
      const by = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-days', '1']
      run('x509', '-req', '-in', 'leaf.csr', ...by, '-extfile', 'extensions', '-out', 'signed.pem')
      const signed = await probed({ key: read('leaf.key'), cert: read('signed.pem') })
      expect(signed.result).toMatchObject({
        problem: { type: 'incorrectResponse', detail: expect.stringMatching(/not self-signed/) },
      })
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })

  it('is a tls problem where acme-tls/1 is not spoken', async () => {
    for (const ALPNProtocols of [['http/1.1'], []]) {
      const { result } = await probed({ ...alpnCertificate(good), ALPNProtocols })
      expect(result, String(ALPNProtocols)).toMatchObject({ ok: false, problem: { type: 'tls' } })
    }
  })

  it('is a tls problem where something else than TLS answers, and repeats nothing of it', async () => {
    await using other = await listening(
      createTcpServer(socket => {
        socket.on('error', () => {})
        socket.end('kept-inside\r\n')
      }),
    )
    const result = await validate(challengeOf('tls-alpn-01', ip('127.0.0.1')), loopbackPolicy({ tlsPort: other.port }))
    expect(result).toMatchObject({ ok: false, problem: { type: 'tls' } })
    expect(JSON.stringify(result)).not.toContain('kept-inside')
  })

  it('gives up where the handshake never ends', async () => {
    await using silent = await listening(createTcpServer(() => {}))
    const policy = loopbackPolicy({ tlsPort: silent.port, timeout: 1 })
    expect(await validate(challengeOf('tls-alpn-01', ip('127.0.0.1')), policy)).toEqual({
      ok: false,
      problem: { type: 'connection', detail: '127.0.0.1: no result within 1 s' },
    })
  })

  it('asks for an address under its reverse name, and wants it as an address (RFC 8738 §6)', async () => {
    for (const [address, servername] of [
      ['127.0.0.1', '1.0.0.127.in-addr.arpa'],
      ['::1', `1.${'0.'.repeat(31)}ip6.arpa`],
    ] as const) {
      const of = challengeOf('tls-alpn-01', ip(address))
      const certificate = { names: `IP:${address}`, keyAuthorization: of.keyAuthorization }
      const { result, asked } = await probed(alpnCertificate(certificate), { of, host: address })
      expect(result, address).toEqual({ ok: true })
      expect(asked).toEqual([servername])
      const asName = await probed(alpnCertificate({ ...certificate, names: `DNS:${servername}` }), {
        of,
        host: address,
      })
      expect(asName.result).toMatchObject({ problem: { type: 'incorrectResponse' } })
    }
  })

  it('connects to no address that is not allowed', async () => {
    const { result, asked } = await probed(alpnCertificate(good), { allowedNetworks: [] })
    expect(result).toMatchObject({ problem: { type: 'rejectedIdentifier' } })
    expect(asked).toEqual([])
  })
})
