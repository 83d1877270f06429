// What the probes' tests share: a challenge, a policy that may reach loopback, responders on free ports, and certificates for
// tls-alpn-01, which OpenSSL makes.
import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer as createHttpServer, type RequestListener } from 'node:http'
import type { AddressInfo, Server, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Challenge, ChallengeType, Identifier, ValidationPolicy } from '../../../src/acme/validation/validate.ts'
import { type IpNetwork, parseIpNetwork } from '../../../src/pki/ip-networks.ts'

export const networks = (...texts: readonly string[]): readonly IpNetwork[] =>
  texts.map(text => {
    const network = parseIpNetwork(text)
    if (network === null) throw new Error(`no network: ${text}`)
    return network
  })

export const loopbackPolicy = (changes: Partial<ValidationPolicy> = {}): ValidationPolicy => ({
  allowedNetworks: networks('127.0.0.0/8', '::1/128'),
  resolvers: ['127.0.0.1:1'],
  httpPort: 1,
  tlsPort: 1,
  timeout: 30,
  ...changes,
})

export const challengeOf = (type: ChallengeType, identifier: Identifier): Challenge => {
  const token = randomBytes(32).toString('base64url')
  return { type, token, identifier, keyAuthorization: `${token}.${randomBytes(32).toString('base64url')}` }
}

export const dns = (value: string): Identifier => ({ type: 'dns', value })
export const ip = (value: string): Identifier => ({ type: 'ip', value })

export interface Listening extends AsyncDisposable {
  readonly port: number
}

export const listening = async (server: Server, host = '127.0.0.1', port = 0): Promise<Listening> => {
  const sockets = new Set<Socket>()
  server.on('connection', socket => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.listen(port, host)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      server.close()
      // Some are never read from, and would not see the other side end.
      for (const socket of sockets) socket.destroy()
      await once(server, 'close')
    },
  }
}

export const httpResponder = (listener: RequestListener, host?: string): Promise<Listening> =>
  listening(createHttpServer(listener), host)

export interface AlpnCertificate {
  /** As OpenSSL writes them: `DNS:agent.example`. */
  readonly names: string
  readonly keyAuthorization: string
  readonly critical?: boolean
  /** Instead of the digest in an OCTET STRING, hex. */
  readonly value?: string
}

/** Self-signed (RFC 8737 §3), or with faults that are asked for. */
export const alpnCertificate = (wanted: AlpnCertificate): { readonly key: string; readonly cert: string } => {
  const folder = mkdtempSync(join(tmpdir(), 'agentca-alpn-'))
  try {
    const digest = createHash('sha256').update(wanted.keyAuthorization).digest('hex')
    const extension = `${wanted.critical === false ? '' : 'critical,'}DER:${wanted.value ?? `0420${digest}`}`
    execFileSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1'],
        ...['-subj', '/CN=acme', '-keyout', 'key.pem', '-out', 'cert.pem'],
        ...['-addext', `subjectAltName=${wanted.names}`, '-addext', `1.3.6.1.5.5.7.1.31=${extension}`],
      ],
      { cwd: folder, stdio: 'pipe' },
    )
    return { key: readFileSync(join(folder, 'key.pem'), 'utf8'), cert: readFileSync(join(folder, 'cert.pem'), 'utf8') }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
