// RFC 9440 on real TLS servers: a certificate that a trusted proxy forwards is judged as its caller's; from anybody else, and under any
// name that a later hop might take for it, it is gone before a handler sees it.
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { type ClientHttp2Session, connect as connectHttp2, type ServerHttp2Stream } from 'node:http2'
import { createServer, request as httpsRequest, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { toBase64 } from '../../src/base/bytes.ts'
import { parsePem } from '../../src/pki/pem.ts'
import { readForwardedChain } from '../../src/verifier/forwarded.ts'
import { type AgentVerifier, agentVerifier, type WithAgent } from '../../src/verifier/index.ts'
import { trustDomain } from '../ca/authority.ts'
import { createFeedWorld, type Holder, type Serving, serveFeed, type World } from '../feed/world.ts'
import { selfSigned } from '../http/harness.ts'
import { until } from '../story/until.ts'
import { createTestIdentity, type TestIdentity } from './backend.ts'

let world: World
let serving: Serving
let backend: TestIdentity
let edge: Holder
let other: Holder
let agent: Holder
let verifier: AgentVerifier
let server: Server
let rules: string[]
/** Headers as the handler saw them. */
let seen: string[]

beforeAll(async () => {
  world = await createFeedWorld({ heartbeatSeconds: 1, leaseSeconds: 3600 })
  backend = await createTestIdentity(world, await world.holder('service', 'orders'))
  edge = await world.holder('service', 'edge')
  other = await world.holder('service', 'edge-2')
  agent = await world.holder('agent', 'caller')
  serving = await serveFeed(world)
  backend.moveTo(serving.port)
}, 180_000)
afterAll(async () => {
  await serving?.[Symbol.asyncDispose]()
  await backend?.identity[Symbol.asyncDispose]()
  await world?.front[Symbol.asyncDispose]()
})

const note = ({ rawHeaders, headers }: IncomingMessage): void => {
  const names = [...rawHeaders.filter((_, i) => i % 2 === 0), ...Object.keys(headers)].map(name => name.toLowerCase())
  seen.push(...new Set(names.filter(name => /client.cert/.test(name))))
}
beforeEach(async () => {
  rules = []
  seen = []
  verifier = await agentVerifier({
    identity: backend.identity,
    kinds: ['agent'],
    trustedProxies: [`spiffe://${trustDomain}/service/edge`],
    onStale: 'refuse',
    maxStaleness: '5m',
    onRefused: ({ rule }) => rules.push(rule),
  })
  await verifier.ready()
  const judge = verifier.express()
  server = verifier.createServer((request, response) => {
    note(request)
    judge(request, response, () => response.end((request as WithAgent).agent?.spiffeId))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
})
afterEach(async () => {
  server.closeAllConnections()
  server.close()
  await verifier[Symbol.asyncDispose]()
})

const forwarded = (der: Uint8Array): string => `:${toBase64(der)}:`
const leafOf = ({ cert }: { readonly cert: string }): Uint8Array => parsePem(cert, 'CERTIFICATE')[0]!
const shown = () => forwarded(leafOf(agent))

const ask = (by: Holder, headers: Readonly<Record<string, string | string[]>>): Promise<string> =>
  new Promise((resolve, reject) => {
    const { port } = server.address() as AddressInfo
    const { cert, key } = by
    const ca = backend.identity.current().bundlePem
    const request = httpsRequest({
      port,
      host: '127.0.0.1',
      servername: 'localhost',
      cert,
      key,
      ca,
      headers,
      agent: false,
    })
    request.on('error', reject).on('response', async response => {
      let body = ''
      for await (const chunk of response) body += chunk
      resolve(`${response.statusCode} ${response.statusCode === 200 ? body : ''}`.trim())
    })
    request.end()
  })
const idOf = ({ name, instance }: Holder): string => `spiffe://${trustDomain}/agent/${name}/i/${instance}`

describe('a proxy that is trusted', () => {
  it('speaks for whoever it forwards, with a chain and without', async () => {
    expect(await ask(edge, { 'Client-Cert': shown() })).toBe(`200 ${idOf(agent)}`)
    const issuer = forwarded(parsePem(agent.cert, 'CERTIFICATE')[1] ?? world.front.ca.issuer.certificate.der)
    expect(await ask(edge, { 'client-cert': shown(), 'Client-Cert-Chain': `${issuer}, ${issuer}` })).toMatch(/^200 /)
    expect(seen).toEqual(['client-cert', 'client-cert', 'client-cert-chain'])
  })

  it.each([
    ['nothing', () => ({}), 'identity_missing'],
    ['a chain alone', () => ({ 'client-cert-chain': shown() }), 'forwarded_malformed'],
    ['two', () => ({ 'client-cert': [shown(), shown()] }), 'forwarded_malformed'],
    ['two in one', () => ({ 'client-cert': `${shown()}, ${shown()}` }), 'forwarded_malformed'],
    ['parameters', () => ({ 'client-cert': `${shown()};a=1` }), 'forwarded_malformed'],
    ['no byte sequence', () => ({ 'client-cert': toBase64(leafOf(agent)) }), 'forwarded_malformed'],
    ['an empty one', () => ({ 'client-cert': '::' }), 'forwarded_malformed'],
    ['base64 with rubbish', () => ({ 'client-cert': `:${toBase64(leafOf(agent))}\t!:` }), 'forwarded_malformed'],
    [
      'a long chain',
      () => ({ 'client-cert': shown(), 'client-cert-chain': Array(9).fill(':AAAA:').join() }),
      'forwarded_malformed',
    ],
    ['rubbish as a chain', () => ({ 'client-cert': shown(), 'client-cert-chain': ':AAAA:,,' }), 'forwarded_malformed'],
    ['no certificate', () => ({ 'client-cert': ':AAAA:' }), undefined],
    [
      'one of nobody',
      () => ({ 'client-cert': forwarded(parsePem(selfSigned('agent-x').chain, 'CERTIFICATE')[0]!) }),
      'issuer_unknown',
    ],
    ['a service where agents may call', () => ({ 'client-cert': forwarded(leafOf(other)) }), 'kind_not_accepted'],
    ['an alias alone', () => ({ client_cert: shown() }), 'identity_missing'],
  ])('that forwards %s is refused', async (_, headers, rule) => {
    const answer = await ask(edge, headers() as Record<string, string>)
    expect(answer).toBe(rule === 'kind_not_accepted' ? '403' : '401')
    if (rule !== undefined) expect(rules).toEqual([rule])
    expect(rules[0]).not.toBe('internal')
    expect(seen.every(name => /^client-cert(-chain)?$/.test(name))).toBe(true)
  })

  it('speaks no more for an agent that is revoked, and not for itself once it is revoked', async () => {
    const rogue = await world.holder('agent', 'caller')
    const headers = { 'client-cert': forwarded(leafOf(rogue)) }
    expect(await ask(edge, headers)).toBe(`200 ${idOf(rogue)}`)
    await world.revoke('serial', rogue.serial)
    await until('refused', () => verifier.status().position === `${serving.feed.head().epoch}.${serving.feed.head().n}`)
    expect(await ask(edge, headers)).toBe('403')
    expect(rules).toEqual(['certificate_revoked'])
    expect(await ask(edge, { 'client-cert': shown() })).toMatch(/^200/)

    const leaving = await world.holder('service', 'edge')
    expect(await ask(leaving, { 'client-cert': shown() })).toMatch(/^200/)
    await world.revoke('serial', leaving.serial)
    await until('refused', () => verifier.status().position === `${serving.feed.head().epoch}.${serving.feed.head().n}`)
    expect(await ask(leaving, { 'client-cert': shown() })).toBe('403')
    expect(rules.at(-1)).toBe('certificate_revoked')
  })
})

describe('anybody else', () => {
  const names = [
    'Client-Cert',
    'client_cert',
    'CLIENT.CERT',
    'Client_Cert-Chain',
    'client-cert-chain',
    'client.cert_chain',
  ]

  it.each(names)('is judged by its own certificate, and no handler sees its %s', async name => {
    expect(await ask(agent, { [name]: forwarded(leafOf(other)), 'client-certs': 'x' })).toBe(`200 ${idOf(agent)}`)
    expect(await ask(other, { [name]: shown() })).toBe('403')
    expect(rules).toEqual(['kind_not_accepted'])
    expect(seen).toEqual(['client-certs'])
  })

  it('is not helped by another spelling of a trusted name', async () => {
    const made = agentVerifier({
      identity: backend.identity,
      onStale: 'refuse',
      maxStaleness: '5m',
      trustedProxies: ['edge'],
    })
    await expect(made).rejects.toMatchObject({
      code: 'option_invalid',
      message: expect.stringContaining('trustedProxies'),
    })
  })

  it('sends nothing to upgrades and HTTP/2 streams either, and a handshake is needed first', async () => {
    const server2 = verifier.createSecureServer((request, response) => {
      note(request as IncomingMessage)
      ;(response as { end(): void }).end()
    })
    const streamed: string[] = []
    server2.on('stream', (_: ServerHttp2Stream, headers: object) => streamed.push(...Object.keys(headers)))
    await once(server2.listen(0, '127.0.0.1'), 'listening')
    const session: ClientHttp2Session = connectHttp2(`https://localhost:${(server2.address() as AddressInfo).port}`, {
      ca: backend.identity.current().bundlePem,
      cert: agent.cert,
      key: agent.key,
    })
    const stream = session.request({ ':path': '/', 'client-cert': shown(), client_cert: shown(), kept: 'x' })
    await once(stream.resume(), 'response')
    session.destroy()
    server2.close()
    expect(streamed).toContain('kept')
    expect([...seen, ...streamed.filter(name => /client/.test(name))]).toEqual([])

    const plain = createServer({ key: edge.key, cert: edge.cert, requestCert: true, rejectUnauthorized: false })
    plain.close()
    expect(() => verifier.verifyRequest({ socket: {}, headers: { 'client-cert': shown() } } as never)).toThrow(
      /connection/,
    )
  })
})

it('the field is read as RFC 9440 writes it (§2.2), and only so', () => {
  const der = leafOf(agent)
  expect(readForwardedChain({ 'client-cert': shown() })).toEqual([der])
  expect(() => readForwardedChain({ 'client-cert': `${shown()}=` })).toThrow(/one byte sequence/)
})
