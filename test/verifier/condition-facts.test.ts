// What conditions are told of a call that the service does not say: where it came from, and when it is.
import { once } from 'node:events'
import { request as httpsRequest, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'

import type { AgentIdentity } from '../../src/agent/index.ts'
import { toBase64 } from '../../src/base/bytes.ts'
import { parsePem } from '../../src/pki/pem.ts'
import { servedPolicies } from '../../src/policy/cedar-served.ts'
import { type AgentVerifier, agentVerifier } from '../../src/verifier/verifier.ts'
import { createTiming, type TestTiming } from '../agent/timing.ts'
import { trustDomain } from '../ca/authority.ts'
import { createFeedWorld, type Holder, type Serving, serveFeed, type World } from '../feed/world.ts'
import { evaluatorOf } from '../policy/cedar-world.ts'
import { createTestIdentity, type TestIdentity } from './backend.ts'

let world: World
let serving: Serving
let backend: TestIdentity
let edge: Holder
let agent: Holder
let timing: TestTiming
let verifier: AgentVerifier
let server: Server
const reported: { readonly source: string }[] = []

const inAnHour = new Date(Date.now() + 3_600_000).toISOString()
const policies = servedPolicies(
  { id: 1, hash: '' },
  evaluatorOf(`
    permit(principal, action == Action::"orders:read", resource)
      when { context has source && context.source.isInRange(ip("127.0.0.0/8")) };
    permit(principal, action == Action::"orders:refund", resource) unless { context has source };
    permit(principal, action == Action::"orders:cancel", resource) when { context.time < datetime("${inAnHour}") };
  `).policies,
  'orders',
)

beforeAll(async () => {
  world = await createFeedWorld({ heartbeatSeconds: 1, leaseSeconds: 3600 })
  backend = await createTestIdentity(world, await world.holder('service', 'orders'))
  edge = await world.holder('service', 'edge')
  agent = await world.holder('agent', 'caller')
  serving = await serveFeed(world)
  backend.moveTo(serving.port)
  timing = createTiming()
  const { identity } = backend
  const fetch: AgentIdentity['fetch'] = async (url, init) => {
    if (String(url).endsWith('/v1/policies')) return new Response(JSON.stringify(policies)) as never
    if (!String(url).endsWith('/v1/decisions')) return identity.fetch(url, init)
    reported.push(...(JSON.parse(init.body as string) as { decisions: { source: string }[] }).decisions)
    return new Response(null, { status: 204 }) as never
  }
  verifier = await agentVerifier(
    {
      identity: { ...identity, fetch },
      kinds: ['agent'],
      trustedProxies: [`spiffe://${trustDomain}/service/edge`],
      onStale: 'refuse',
      maxStaleness: '5m',
      forwardedFor: 'x-forwarded-for',
      conditions: true,
    },
    { timing },
  )
  await verifier.ready()
  server = verifier.createServer((request, response) => {
    const action = `orders:${request.url?.slice(1)}`
    verifier.require(action, () => ({}))(request, response, () => response.end())
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
}, 180_000)
afterAll(async () => {
  server?.close()
  await verifier?.[Symbol.asyncDispose]()
  await serving?.[Symbol.asyncDispose]()
  await backend?.identity[Symbol.asyncDispose]()
  await world?.front[Symbol.asyncDispose]()
})

const ask = ({ cert, key }: Holder, path: string, headers: Readonly<Record<string, string>> = {}): Promise<number> =>
  new Promise((resolve, reject) => {
    const ca = backend.identity.current().bundlePem
    const to = { host: '127.0.0.1', servername: 'localhost', port: (server.address() as AddressInfo).port, path }
    const request = httpsRequest({ ...to, cert, key, ca, headers, agent: false })
    request.on('error', reject).on('response', response => {
      response.resume()
      resolve(response.statusCode as number)
    })
    request.end()
  })

describe('a condition', () => {
  it('on the source goes by the address of who calls, never by that of the proxy that speaks for it', async () => {
    const forwarded = { 'Client-Cert': `:${toBase64(parsePem(agent.cert, 'CERTIFICATE')[0]!)}:` }
    expect([await ask(agent, '/read'), await ask(agent, '/refund')]).toEqual([200, 403])
    expect([await ask(edge, '/read', forwarded), await ask(edge, '/refund', forwarded)]).toEqual([403, 200])
    // What the proxy says of it counts, in the configured header and as the last of its words; what the caller says does not.
    const said = { ...forwarded, 'X-Forwarded-For': '192.0.2.7, 127.0.0.9' }
    expect([await ask(edge, '/read', said), await ask(edge, '/refund', said)]).toEqual([200, 403])
    const forged = { ...forwarded, 'X-Forwarded-For': '127.0.0.9, 192.0.2.7', Forwarded: 'for=127.0.0.9' }
    expect(await ask(edge, '/read', forged)).toBe(403)
    expect(await ask(agent, '/read', { 'X-Forwarded-For': '192.0.2.7' })).toBe(200)
  })

  it('is reported with the source that is known: the caller’s, or the proxy’s as the proxy’s', async () => {
    const forwarded = { 'Client-Cert': `:${toBase64(parsePem(agent.cert, 'CERTIFICATE')[0]!)}:` }
    for (const [holder, headers] of [
      [agent, {}],
      [edge, forwarded],
      [edge, { ...forwarded, 'X-Forwarded-For': '192.0.2.7' }],
    ] as const)
      await ask(holder, '/refund', headers)
    const sources = () => new Set(reported.map(({ source }) => source))
    await vi.waitFor(
      () => expect(sources()).toEqual(new Set(['127.0.0.1', '127.0.0.1 (proxy)', '192.0.2.7', '127.0.0.9'])),
      { timeout: 60_000 },
    )
  })

  it('on the time goes by the time that certificates are judged by, whatever this machine’s clock says', async () => {
    timing.moveWall(2 * 3_600_000)
    expect(await ask(agent, '/cancel')).toBe(200)
  })
})
