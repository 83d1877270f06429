// An ACME client (RFC 8555) of small steps, each of which a story can spoil: it signs what it is told with node:crypto, sends it, and
// shows the answer as it came. Nothing is tried again and nothing is checked here.
import { createHash, createHmac, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { Agent } from 'node:https'
import { setTimeout as delay } from 'node:timers/promises'
import { dnsName } from '../../src/pki/general-names.ts'
import { parsePem } from '../../src/pki/pem.ts'
import { type AgentKey, type Ask, ask, createKey, type Reply } from '../http/harness.ts'

const algorithms = {
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
} as const
export type AccountAlgorithm = keyof typeof algorithms

export interface AccountKey {
  readonly alg: string
  readonly privateKey: KeyObject
  readonly jwk: Readonly<Record<string, string>>
}

export const accountKey = (privateKey: KeyObject, publicKey: KeyObject, alg: string): AccountKey => ({
  alg,
  privateKey,
  jwk: publicKey.export({ format: 'jwk' }) as Record<string, string>,
})

export const createAccountKey = (alg: AccountAlgorithm = 'ES256'): AccountKey => {
  const { privateKey, publicKey } = algorithms[alg]()
  return accountKey(privateKey, publicKey, alg)
}

export const thumbprintOf = ({ jwk }: AccountKey): string => {
  const members = Object.entries(jwk).sort(([a], [b]) => (a < b ? -1 : 1))
  return createHash('sha256')
    .update(JSON.stringify(Object.fromEntries(members)))
    .digest('base64url')
}

/** As it is sent; a story may put anything in its place. */
export interface Jws {
  readonly protected: string
  readonly payload: string
  readonly signature: string
}

export type Header = Readonly<Record<string, unknown>>

export const encoded = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')

const signatureOf = (input: string, { alg, privateKey }: AccountKey): string => {
  const hash = alg === 'EdDSA' ? null : alg === 'ES384' ? 'sha384' : 'sha256'
  return sign(hash, Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')
}

/** @param payload undefined: POST-as-GET */
export const signed = (header: Header, payload: unknown, key: AccountKey): Jws => {
  const parts = { protected: encoded(header), payload: payload === undefined ? '' : encoded(payload) }
  return { ...parts, signature: signatureOf(`${parts.protected}.${parts.payload}`, key) }
}

export interface Binding {
  readonly kid: string
  /** base64url */
  readonly hmacKey: string
}

export const macced = (header: Header & { readonly alg: string }, payload: unknown, secret: Uint8Array): Jws => {
  const parts = { protected: encoded(header), payload: encoded(payload) }
  const mac = createHmac(`sha${header.alg.slice(2)}`, secret)
  return { ...parts, signature: mac.update(`${parts.protected}.${parts.payload}`).digest('base64url') }
}

/** RFC 8555 §7.3.4. */
export const bound = ({ kid, hmacKey }: Binding, key: AccountKey, url: string, alg = 'HS256'): Jws =>
  macced({ alg, kid, url }, key.jwk, Buffer.from(hmacKey, 'base64url'))

export interface Account {
  readonly key: AccountKey
  /** The account's URL. */
  readonly kid: string
}

export interface Directory {
  readonly newNonce: string
  readonly newAccount: string
  readonly newOrder: string
  readonly revokeCert: string
  readonly keyChange: string
  readonly renewalInfo?: string
}

/** What of a request a story may spoil before it is signed, and after. */
export interface Spoilt {
  readonly header?: Header
  readonly signed?: (jws: Jws) => unknown
  readonly headers?: Readonly<Record<string, string>>
}

export type Names = readonly string[]

export const identifiers = (names: Names) => names.map(value => ({ type: 'dns', value }))

export interface OrderedCertificate {
  readonly order: Reply
  readonly key: AgentKey
  /** PEM chain. */
  readonly pem: string
}

export const derOf = (key: AgentKey): string => Buffer.from(key.csr).toString('base64url')

/** For names: a key of its own and its request. */
export const requestFor = (names: Names): Promise<AgentKey> => createKey(names.map(dnsName))

export class AcmeRequests {
  readonly directory: Directory
  readonly #agent: Agent
  #nonce: string | undefined

  private constructor(directory: Directory, agent: Agent) {
    this.directory = directory
    this.#agent = agent
  }

  static async at(api: string): Promise<AcmeRequests> {
    const agent = new Agent({ keepAlive: true, rejectUnauthorized: false })
    const { body } = await ask(Number(new URL(api).port), '/acme/directory', { agent })
    return new AcmeRequests(body as Directory, agent)
  }

  close(): void {
    this.#agent.destroy()
  }

  async send(url: string, asked: Ask = {}): Promise<Reply> {
    const { port, pathname, search } = new URL(url)
    const reply = await ask(Number(port), pathname + search, { ...asked, agent: this.#agent })
    this.#nonce = (reply.headers['replay-nonce'] as string | undefined) ?? this.#nonce
    return reply
  }

  async nonce(): Promise<string> {
    if (this.#nonce === undefined) await this.send(this.directory.newNonce, { method: 'HEAD' })
    const nonce = this.#nonce as string
    this.#nonce = undefined
    return nonce
  }

  /** What is posted is a JWS, or what a story makes of it. */
  sendJws(url: string, jws: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Reply> {
    const body = typeof jws === 'string' ? jws : JSON.stringify(jws)
    return this.send(url, { body, headers: { 'Content-Type': 'application/jose+json', ...headers } })
  }

  /** @param payload undefined: POST-as-GET */
  async post(url: string, payload: unknown, by: Account | AccountKey, spoilt: Spoilt = {}): Promise<Reply> {
    const [key, who] = 'kid' in by ? [by.key, { kid: by.kid }] : [by, { jwk: by.jwk }]
    const header = { alg: key.alg, ...who, nonce: await this.nonce(), url, ...spoilt.header }
    const jws = signed(header, payload, key)
    return this.sendJws(url, spoilt.signed === undefined ? jws : spoilt.signed(jws), spoilt.headers)
  }

  newAccount(key: AccountKey, binding: Binding | null, more: object = {}): Promise<Reply> {
    const url = this.directory.newAccount
    const externalAccountBinding = binding === null ? {} : { externalAccountBinding: bound(binding, key, url) }
    return this.post(url, { termsOfServiceAgreed: true, ...externalAccountBinding, ...more }, key)
  }

  /** @throws Error with the answer where it is no new account */
  async account(binding: Binding, key: AccountKey = createAccountKey()): Promise<Account> {
    const reply = must(await this.newAccount(key, binding), 201)
    return { key, kid: reply.headers.location as string }
  }

  newOrder(account: Account, names: Names, more: object = {}): Promise<Reply> {
    return this.post(this.directory.newOrder, { identifiers: identifiers(names), ...more }, account)
  }

  /** Asked for again while it is pending or being signed. @returns the order in a state that lasts */
  async settled(account: Account, url: string, while_: readonly string[] = ['processing']): Promise<Reply> {
    for (const end = performance.now() + 60_000; ; ) {
      const reply = must(await this.post(url, undefined, account), 200)
      if (!while_.includes(reply.body.status)) return reply
      if (performance.now() > end) throw new Error(`still ${reply.body.status}: ${url}`)
      await delay(20)
    }
  }

  /** Names that are granted, from the order to the certificate. @throws Error with the answer that is not as it should be */
  async certificate(account: Account, names: Names, more: object = {}): Promise<OrderedCertificate> {
    const order = must(await this.newOrder(account, names, more), 201)
    const key = await requestFor(names)
    must(await this.post(order.body.finalize, { csr: derOf(key) }, account), 200)
    const done = await this.settled(account, order.headers.location as string)
    if (done.body.status !== 'valid') throw new Error(`an order that is ${done.text}`)
    return { order: done, key, pem: must(await this.post(done.body.certificate, undefined, account), 200).text }
  }
}

/** @throws Error with the answer where it has another status */
export const must = (reply: Reply, status: number): Reply => {
  if (reply.status !== status) throw new Error(`expected ${status}, got ${reply.status}: ${reply.text}`)
  return reply
}

export const leafOf = (pem: string): Uint8Array => parsePem(pem, 'CERTIFICATE')[0] as Uint8Array

/** Another signature of the same length: one bit of it is flipped. */
export const flipped = (jws: Jws): Jws => {
  const bytes = Buffer.from(jws.signature, 'base64url')
  bytes[bytes.length >> 1]! ^= 1
  return { ...jws, signature: bytes.toString('base64url') }
}

export const someNonce = (): string => randomBytes(16).toString('base64url')

/** RFC 8555 §7.3.5: the new key signs that it is to take the old one's place. */
export const keyChange = (
  { directory }: AcmeRequests,
  of: Account,
  key: AccountKey,
  oldKey: AccountKey = of.key,
): Jws => {
  const url = directory.keyChange
  return signed({ alg: key.alg, jwk: key.jwk, url }, { account: of.kid, oldKey: oldKey.jwk }, key)
}

/** RFC 8555 §7.6. */
export const revocationOf = ({ pem }: Pick<OrderedCertificate, 'pem'>): object => ({
  certificate: Buffer.from(leafOf(pem)).toString('base64url'),
})
