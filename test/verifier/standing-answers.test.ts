// Answers that go on for as long as anybody wants: each ends with what let its call in, alone where the protocol has a way to say so.
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2, constants } from 'node:http2'
import { get, type Server } from 'node:https'
import type { AddressInfo, Server as NetServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as grpc from '@grpc/grpc-js'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { AgentIdentity } from '../../src/agent/index.ts'
import { toBase64 } from '../../src/base/bytes.ts'
import { parsePem } from '../../src/pki/pem.ts'
import { servedPolicies } from '../../src/policy/cedar-served.ts'
import type { Handler, WithAgent } from '../../src/verifier/middleware.ts'
import { type AgentVerifier, agentVerifier } from '../../src/verifier/verifier.ts'
import { createTiming, type TestTiming } from '../agent/timing.ts'
import { trustDomain } from '../ca/authority.ts'
import { createFeedWorld, type Holder, type Serving, serveFeed, type World } from '../feed/world.ts'
import { evaluatorOf } from '../policy/cedar-world.ts'
import { createTestIdentity, type TestIdentity } from './backend.ts'

vi.setConfig({ testTimeout: 120_000 })

let world: World
let serving: Serving
let backend: TestIdentity
let caller: Holder
let edge: Holder
let timing: TestTiming
let verifier: AgentVerifier
let server: NetServer
/** Of the requests that were let in, by their paths. */
const signals = new Map<string, AbortSignal>()
const closing: (() => unknown)[] = []

const soon = new Date(Date.now() + 600_000).toISOString()
const policies = servedPolicies(
  { id: 1, hash: '' },
  evaluatorOf(`
    permit(principal, action == Action::"orders:read", resource) when { context.time < datetime("${soon}") };
    permit(principal in Role::"reader", action == Action::"orders:refund", resource) when { context has amount && context.amount == 7 };
  `).policies,
  'orders',
)

beforeAll(async () => {
  world = await createFeedWorld({ heartbeatSeconds: 1, leaseSeconds: 3600 })
  backend = await createTestIdentity(world, await world.holder('service', 'orders'))
  caller = await world.holder('agent', 'caller')
  edge = await world.holder('service', 'edge')
  serving = await serveFeed(world)
  backend.moveTo(serving.port)
}, 180_000)
afterAll(async () => {
  await serving?.[Symbol.asyncDispose]()
  await backend?.identity[Symbol.asyncDispose]()
  await world?.front[Symbol.asyncDispose]()
})

const open = async (): Promise<AgentVerifier> => {
  const { identity } = backend
  const fetch: AgentIdentity['fetch'] = async (url, init) =>
    String(url).endsWith('/v1/policies')
      ? (new Response(JSON.stringify(policies)) as never)
      : await identity.fetch(url, init)
  const made = await agentVerifier(
    {
      identity: { ...identity, fetch },
      trustedProxies: [`spiffe://${trustDomain}/service/edge`],
      onStale: 'refuse',
      maxStaleness: '5m',
      report: 'nothing',
      conditions: true,
    },
    { timing },
  )
  await made.ready()
  return made
}
/** Every answer begins and goes on: what its route demands is its path. */
const routes = (): Readonly<Record<string, Handler>> => ({
  '/anybody': verifier.express(),
  '/readers': verifier.requireRole('reader'),
  '/in-time': verifier.require('orders:read', () => ({})),
  '/page': verifier.require('orders:refund', () => ({ context: { amount: 7 } })),
})
beforeEach(async () => {
  timing = createTiming()
  verifier = await open()
  signals.clear()
  const byPath = routes()
  server = verifier.createSecureServer(((request: WithAgent, response: never) => {
    byPath[request.url!]!(request, response, () => {
      signals.set(request.url!, request.agent!.signal)
      const answer = response as import('node:http').ServerResponse
      answer.writeHead(200, { 'content-type': 'text/event-stream' })
      answer.write(': open\n\n')
    })
  }) as never)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  closing.push(() => server.close())
})
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
  await verifier[Symbol.asyncDispose]()
  await world.setRoles('caller', ['reader'])
})

const portOf = (): number => (server.address() as AddressInfo).port
const shown = ({ cert, key }: Holder) => ({
  cert,
  key,
  ca: backend.identity.current().bundlePem,
  host: '127.0.0.1',
  servername: 'localhost',
})

const session = async (holder: Holder): Promise<ClientHttp2Session> => {
  const made = connectHttp2(`https://localhost:${portOf()}`, shown(holder))
  made.on('error', () => {})
  await once(made, 'connect')
  closing.push(() => made.destroy())
  return made
}
interface Stream {
  readonly stream: ClientHttp2Stream
  /** The code it was reset with. */
  readonly ended: Promise<number>
}
const stream = async (over: ClientHttp2Session, path: string, headers = {}): Promise<Stream> => {
  const made = over.request({ ':path': path, ...headers })
  made.on('error', () => {})
  const ended = new Promise<number>(resolve => made.once('close', () => resolve(made.rstCode)))
  const [answer] = await once(made, 'response')
  expect(answer[':status']).toBe(200)
  await once(made, 'data')
  return { stream: made, ended }
}
const forwarded = (holder: Holder) => ({ 'client-cert': `:${toBase64(parsePem(holder.cert, 'CERTIFICATE')[0]!)}:` })
const pingsOf = (over: ClientHttp2Session): Promise<unknown> =>
  new Promise((resolve, reject) => over.ping(error => (error === null ? resolve(null) : reject(error))))

const reasonOf = (path: string): string | null => {
  const signal = signals.get(path)!
  return signal.aborted ? (signal.reason as { code: string }).code : null
}

describe('an answer that goes on', () => {
  it('over HTTP/1.1 ends with its connection once a role is gone that let it in, and its signal says why', async () => {
    const began = async (path: string) => {
      const request = get({ ...shown(caller), port: portOf(), path, agent: false })
      const [answer] = await once(request, 'response')
      await once(answer, 'data')
      const whole = new Promise<boolean>(resolve => {
        answer.once('end', () => resolve(true)).once('error', () => resolve(false))
      })
      closing.push(() => request.destroy())
      return { answer, whole }
    }
    const [demanded, free] = [await began('/readers'), await began('/anybody')]
    await world.setRoles('caller', [])
    expect(await demanded.whole).toBe(false)
    expect([reasonOf('/readers'), reasonOf('/anybody')]).toEqual(['role_missing', null])
    expect(free.answer.destroyed).toBe(false)
    expect(verifier.status().ended).toEqual({ answers: 1, connections: 0 })
  })

  it('over HTTP/2 ends alone, broken off, and its connection goes on', async () => {
    const over = await session(caller)
    const [demanded, free] = [await stream(over, '/readers'), await stream(over, '/anybody')]
    await world.setRoles('caller', [])
    expect(await demanded.ended).toBe(constants.NGHTTP2_INTERNAL_ERROR)
    await pingsOf(over)
    expect([free.stream.closed, over.destroyed]).toEqual([false, false])
    expect([reasonOf('/readers'), reasonOf('/anybody')]).toEqual(['role_missing', null])
    await world.setRoles('caller', ['reader'])
    await vi.waitFor(async () => expect(await stream(over, '/readers')).toBeTruthy(), { timeout: 60_000 })
  })

  it('through a trusted proxy ends with its caller, and the proxy’s connection and other callers go on', async () => {
    const [doomed, other] = [await world.holder('agent', 'doomed'), caller]
    const over = await session(edge)
    const ending = await stream(over, '/anybody', forwarded(doomed))
    const going = await stream(over, '/readers', forwarded(other))
    await world.revoke('agent', 'doomed')
    expect(await ending.ended).toBe(constants.NGHTTP2_INTERNAL_ERROR)
    expect(reasonOf('/anybody')).toBe('certificate_revoked')
    await pingsOf(over)
    expect([going.stream.closed, reasonOf('/readers')]).toEqual([false, null])
  })

  it('ends when the time is over in which conditions let it in, and one that they still let in goes on', async () => {
    const over = await session(caller)
    const [inTime, page] = [await stream(over, '/in-time'), await stream(over, '/page')]
    timing.moveWall(601_000)
    timing.advance(601_000)
    expect(await inTime.ended).toBe(constants.NGHTTP2_INTERNAL_ERROR)
    expect(reasonOf('/in-time')).toBe('condition_failed')
    await pingsOf(over)
    expect([page.stream.closed, reasonOf('/page')]).toEqual([false, null])
    await world.setRoles('caller', [])
    await page.ended
    expect(reasonOf('/page')).toBe('condition_failed')
  })
})

describe('a signal', () => {
  it('is one for all calls with the same demand, and outlives the answer; of a conditional call it is that call’s', async () => {
    const over = await session(caller)
    const signalFor = async (path: string): Promise<AbortSignal> => {
      const { stream: made } = await stream(over, path)
      made.close()
      return signals.get(path)!
    }
    const [anybody, reader, page] = [await signalFor('/anybody'), await signalFor('/readers'), await signalFor('/page')]
    expect([await signalFor('/anybody'), await signalFor('/readers')]).toEqual([anybody, reader])
    expect(anybody === reader).toBe(false)
    expect((await signalFor('/page')) === page).toBe(false)
    over.destroy()
    await world.setRoles('caller', [])
    await once(reader, 'abort')
    expect([anybody.aborted, page.aborted]).toEqual([false, false])
    await world.setState('agent', 'caller', 'held')
    await once(anybody, 'abort')
    expect(page.aborted).toBe(true)
    await world.setState('agent', 'caller', 'active')
  })
})

describe('a gRPC stream', () => {
  interface Named {
    readonly name: string
  }
  const method = (name: string): grpc.MethodDefinition<Named, Named> => ({
    path: `/test.Orders/${name}`,
    requestStream: false,
    responseStream: true,
    requestSerialize: value => Buffer.from(JSON.stringify(value)),
    requestDeserialize: bytes => JSON.parse(bytes.toString()) as Named,
    responseSerialize: value => Buffer.from(JSON.stringify(value)),
    responseDeserialize: bytes => JSON.parse(bytes.toString()) as Named,
  })
  const orders = { watch: method('Watch'), read: method('Read') }

  it.each(['a port', 'a socket in the file system'])(
    'over %s ends alone with PERMISSION_DENIED, its handler hears of it, and the others of its connection go on',
    async where => {
      const demandOf = (path: string) => (path.endsWith('/Read') ? { roles: ['reader'] } : {})
      const served = new grpc.Server({ interceptors: [verifier.grpcInterceptor(grpc, demandOf)] })
      const cancelled: string[] = []
      const going = (name: string) => (call: grpc.ServerWritableStream<Named, Named>) => {
        call.on('cancelled', () => cancelled.push(name))
        call.write({ name })
      }
      served.addService(orders, { watch: going('watch'), read: going('read') } as never)
      const listener = verifier.grpcListener(grpc, served) as Server
      const directory = mkdtempSync(join(tmpdir(), 'agentca-grpc-'))
      await once(
        where === 'a port' ? listener.listen(0, '127.0.0.1') : listener.listen(join(directory, 's')),
        'listening',
      )
      closing.push(
        () => rmSync(directory, { recursive: true, force: true }),
        () => listener.close(),
        () => served.forceShutdown(),
      )
      const { ca, cert, key } = shown(caller)
      const client = new grpc.Client(
        where === 'a port' ? `127.0.0.1:${(listener.address() as AddressInfo).port}` : `unix:${join(directory, 's')}`,
        grpc.credentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(cert)),
        { 'grpc.ssl_target_name_override': 'localhost' },
      )
      closing.push(() => client.close())
      const begun = async ({ path, requestSerialize, responseDeserialize }: grpc.MethodDefinition<Named, Named>) => {
        const call = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, { name: '' })
        const status = new Promise<grpc.StatusObject>(resolve => {
          call.on('error', () => {}).once('status', resolve)
        })
        await once(call, 'data')
        return { call, status }
      }
      const [watch, read] = [await begun(orders.watch), await begun(orders.read)]
      await world.setRoles('caller', [])
      expect((await read.status).code).toBe(grpc.status.PERMISSION_DENIED)
      expect(cancelled).toEqual(['read'])
      await world.setRoles('caller', ['reader'])
      // Over the connection of the other one, which has not ended.
      await vi.waitFor(() => begun(orders.read), { timeout: 60_000 })
      expect(watch.call.readable).toBe(true)
      expect(verifier.status().connections).toBe(1)
    },
  )
})
