// A real OpenID provider on loopback: HTTPS under a certificate authority of its own, discovery, keys that roll over, and tokens signed by
// jose. What it answers can be changed, because providers are away, slow, wrong and large.
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { RequestListener, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'

export interface ProviderKey {
  readonly kid: string
  readonly alg: string
  readonly privateKey: CryptoKey
  readonly jwk: JWK
}

export const createProviderKey = async (kid: string, alg = 'ES256'): Promise<ProviderKey> => {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  return { kid, alg, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } }
}

export interface TokenChoices {
  readonly key?: ProviderKey
  /** Milliseconds since the epoch. */
  readonly now?: number
  readonly lifeSeconds?: number
  readonly header?: Readonly<Record<string, unknown>>
  /** `undefined` leaves a claim out. */
  readonly claims?: Readonly<Record<string, unknown>>
}

export interface Provider extends AsyncDisposable {
  readonly issuer: string
  /** PEM of the authority of its TLS server. */
  readonly caFile: string
  /** Those that it publishes. */
  keys: ProviderKey[]
  /** Requests that reached it, by path. */
  readonly asked: string[]
  /** Instead of its keys. */
  answerKeys: ((response: ServerResponse) => void) | null
  /** Instead of its discovery document. */
  answerDiscovery: ((response: ServerResponse) => void) | null
  token(choices?: TokenChoices): Promise<string>
}

const selfSigned = (directory: string): { readonly key: string; readonly cert: string; readonly file: string } => {
  const file = join(directory, 'provider.pem')
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...['-subj', '/CN=provider', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', 'provider.key', '-out', file],
    ],
    { cwd: directory, stdio: 'ignore' },
  )
  return { key: readFileSync(join(directory, 'provider.key'), 'utf8'), cert: readFileSync(file, 'utf8'), file }
}

const json = (response: ServerResponse, value: unknown): void => {
  response.writeHead(200, { 'content-type': 'application/json' })
  response.end(JSON.stringify(value))
}

export const startProvider = async (audience = 'https://ca.test'): Promise<Provider> => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-provider-'))
  const { key, cert, file } = selfSigned(directory)
  const handle: RequestListener = ({ url = '' }, response) => {
    provider.asked.push(url)
    if (url === '/.well-known/openid-configuration') {
      if (provider.answerDiscovery !== null) provider.answerDiscovery(response)
      else json(response, { issuer: provider.issuer, jwks_uri: `${provider.issuer}/keys` })
    } else if (url === '/keys') {
      if (provider.answerKeys !== null) provider.answerKeys(response)
      else json(response, { keys: provider.keys.map(({ jwk }) => jwk) })
    } else response.writeHead(404).end()
  }
  const server = createServer({ key, cert }, handle).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const first = await createProviderKey('k1')
  const provider: Provider = {
    issuer: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    caFile: file,
    keys: [first],
    asked: [],
    answerKeys: null,
    answerDiscovery: null,
    token: async ({ key: by = provider.keys[0]!, now = Date.now(), lifeSeconds = 300, header, claims } = {}) => {
      const at = Math.floor(now / 1000)
      const usual = {
        iss: provider.issuer,
        aud: audience,
        sub: 'job',
        iat: at,
        exp: at + lifeSeconds,
        jti: randomUUID(),
      }
      const payload = Object.fromEntries(
        Object.entries({ ...usual, ...claims }).filter(([, value]) => value !== undefined),
      )
      return new SignJWT(payload)
        .setProtectedHeader({ alg: by.alg, kid: by.kid, typ: 'JWT', ...header })
        .sign(by.privateKey)
    },
    [Symbol.asyncDispose]: async () => {
      server.close()
      server.closeAllConnections()
      rmSync(directory, { recursive: true, force: true })
    },
  }
  return provider
}
