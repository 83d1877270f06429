// What the sidecar let in by a scope and goes on for long, a TCP connection, a WebSocket or an event stream, ends with that scope, or with the rule that
// let it in.
import { once } from 'node:events'
import type { Server as HttpsServer } from 'node:https'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { connect, type TLSSocket } from 'node:tls'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { silentLog } from '../../../src/base/log.ts'
import { createHttpProxy } from '../../../src/verifier/sidecar/http-proxy.ts'
import type { Requirement } from '../../../src/verifier/sidecar/requirements.ts'
import { createTcpProxy } from '../../../src/verifier/sidecar/tcp-proxy.ts'
import { type AgentVerifier, agentVerifier } from '../../../src/verifier/verifier.ts'
import { leaf } from '../../ca/authority.ts'
import { createFeedWorld, type Holder, type Serving, serveFeed, type World } from '../../feed/world.ts'
import { until } from '../../story/until.ts'
import { createTestIdentity, type TestIdentity } from '../backend.ts'

let world: World
let serving: Serving
let backend: TestIdentity
let caller: Holder
let verifier: AgentVerifier
let upstream: Server
let rules: readonly Requirement[]
const servers: (Server | HttpsServer)[] = []
const sockets = new Set<Socket>()

beforeAll(async () => {
  world = await createFeedWorld({ heartbeatSeconds: 1, leaseSeconds: 3600 })
  backend = await createTestIdentity(world, await world.holder('service', 'orders'))
  caller = await world.holder('agent', 'caller')
  serving = await serveFeed(world)
  backend.moveTo(serving.port)
  // Whatever comes goes back; what asks for an upgrade gets it first, what asks for events gets one.
  upstream = createServer(socket => {
    sockets.add(socket.on('error', () => {}))
    socket.on('data', data => {
      if (String(data).startsWith('GET /events')) {
        socket.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: open\n\n')
        return
      }
      const isHead = String(data).startsWith('GET ')
      socket.write(
        isHead ? 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n' : data,
      )
    })
  })
  await portOf(upstream)
}, 180_000)
afterAll(async () => {
  await serving?.[Symbol.asyncDispose]()
  await backend?.identity[Symbol.asyncDispose]()
  await world?.front[Symbol.asyncDispose]()
})

/** Policies that grant everybody these. */
const grant = async (...scopes: readonly string[]): Promise<void> => {
  const { policies } = world.ledger
  const version = { hash: scopes.join(), files: {}, author: 'root', why: null }
  const expected = policies.active()?.id ?? null
  const at = world.deps.clock.now()
  const leaves = { stepLeaf: () => leaf('scopes_changed'), leaf: () => leaf('policy_activated') }
  await policies.activate({ version, expected, resolve: () => scopes, at, ...leaves })
}
const rule = (scope: string): Requirement => ({ method: '*', path: '/', scope })

beforeEach(async () => {
  rules = [rule('orders:use')]
  await grant('orders:use')
  const options = { identity: backend.identity, onStale: 'refuse', maxStaleness: '5m', report: 'nothing' } as const
  verifier = await agentVerifier(options)
  await verifier.ready()
})
afterEach(async () => {
  for (const socket of sockets) socket.destroy()
  for (const server of servers.splice(0)) if (server !== upstream) server.close()
  await verifier[Symbol.asyncDispose]()
})
afterAll(() => upstream?.close())

const portOf = async (server: Server | HttpsServer): Promise<number> => {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  servers.push(server)
  return (server.address() as AddressInfo).port
}
const shared = () => ({
  verifier,
  upstream: { host: '127.0.0.1', port: (upstream.address() as AddressInfo).port },
  kinds: ['agent' as const],
  tell: () => {},
  log: silentLog,
})
const connected = async (proxy: Server | HttpsServer): Promise<TLSSocket> => {
  const { cert, key } = caller
  const socket = connect({ cert, key, rejectUnauthorized: false, host: '127.0.0.1', port: await portOf(proxy) })
  sockets.add(socket.on('error', () => {}))
  await once(socket, 'secureConnect')
  return socket
}
const answer = async (socket: TLSSocket, sent: string): Promise<string> => {
  socket.write(sent)
  return String((await once(socket, 'data'))[0])
}
const overTcp = (): Promise<TLSSocket> =>
  connected(createTcpProxy({ ...shared(), scopes: () => rules.map(({ scope }) => scope) }) as unknown as Server)
const proxy = () => {
  const more = { assert: async () => 'assertion', assertionHeader: 'Agentca-Assertion', now: Date.now }
  return createHttpProxy({ ...shared(), ...more, requirements: () => rules, otherwise: 'allow' })
}
const overWebSocket = async (): Promise<TLSSocket> => {
  const socket = await connected(proxy())
  const asked = 'GET /live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'
  expect(await answer(socket, asked)).toContain('101')
  return socket
}

describe.each([
  ['a TCP connection', overTcp],
  ['a WebSocket', overWebSocket],
])('%s', (_, opened) => {
  it('is cut when its caller loses the scope', async () => {
    const socket = await opened()
    expect(await answer(socket, 'here')).toBe('here')
    await grant()
    await until('the end', () => socket.destroyed)
  })

  it('is cut when the rules, read again, demand what its caller has not', async () => {
    const socket = await opened()
    // Judged by the rules of before.
    expect(await answer(socket, 'here')).toBe('here')
    rules = [rule('orders:use'), rule('orders:more')]
    await until('the end', () => socket.destroyed)
  })

  it('goes on while its caller has what is demanded', async () => {
    const socket = await opened()
    expect(await answer(socket, 'here')).toBe('here')
    await grant('orders:use', 'orders:more')
    const { epoch, n } = world.ledger.feed.head()
    await until('heard', () => verifier.status().position === `${epoch}.${n}`)
    rules = [rule('orders:more')]
    // Those that may not go on are cut within a second.
    await new Promise(resolve => setTimeout(resolve, 1200))
    expect(await answer(socket, 'here')).toBe('here')
  })
})

describe('an event stream', () => {
  it('is cut when its caller loses the scope, and not before', async () => {
    const socket = await connected(proxy())
    let heard = ''
    socket.on('data', data => {
      heard += data
    })
    socket.write('GET /events HTTP/1.1\r\nHost: x\r\n\r\n')
    await until('an event', () => heard.includes(': open'))
    await grant('orders:use', 'orders:more')
    const { epoch, n } = world.ledger.feed.head()
    await until('heard', () => verifier.status().position === `${epoch}.${n}`)
    expect(socket.destroyed).toBe(false)
    await grant()
    await until('the end', () => socket.destroyed)
    // Its last chunk never came.
    expect(heard).not.toContain('\r\n0\r\n')
  })
})
