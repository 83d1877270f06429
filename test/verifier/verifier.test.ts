// The verifier on a TLS server, without a CA's processes: who is refused, what a refusal says, and when a connection is cut.
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { createServer as createHttpsServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { connect, type TLSSocket } from 'node:tls'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { tlsMaterialOf } from '../../src/agent/credential.ts'
import { encodePem } from '../../src/pki/pem.ts'
import type { Demand } from '../../src/verifier/judgement.ts'
import type { AgentVerifierOptions } from '../../src/verifier/options.ts'
import { type AgentVerifier, agentVerifier } from '../../src/verifier/verifier.ts'
import { createTiming, type TestTiming } from '../agent/timing.ts'
import { leaf } from '../ca/authority.ts'
import { createFeedWorld, type Holder, type Serving, serveFeed, type World } from '../feed/world.ts'
import { selfSigned } from '../http/harness.ts'
import { until } from '../story/until.ts'
import { createTestIdentity, type TestIdentity } from './backend.ts'

let world: World
let foreign: World
let serving: Serving
let backend: TestIdentity
let caller: Holder
let timing: TestTiming
let verifier: AgentVerifier
let server: Server
const rules: string[] = []

beforeAll(async () => {
  // One after the other: a token is initialized by one at a time in a process.
  world = await createFeedWorld({ heartbeatSeconds: 1, leaseSeconds: 3600 })
  foreign = await createFeedWorld()
  backend = await createTestIdentity(world, await world.holder('service', 'orders'))
  caller = await world.holder('agent', 'caller')
  serving = await serveFeed(world)
  backend.moveTo(serving.port)
}, 180_000)
afterAll(async () => {
  await serving?.[Symbol.asyncDispose]()
  await backend?.identity[Symbol.asyncDispose]()
  await world?.front[Symbol.asyncDispose]()
  await foreign?.front[Symbol.asyncDispose]()
})

const options = (): AgentVerifierOptions => ({
  identity: backend.identity,
  onStale: 'refuse',
  maxStaleness: '5m',
  maxConnectionAge: '10m',
  onRefused: ({ rule }) => rules.push(rule),
})
const listen = async (listening: Server): Promise<Server> => {
  listening.listen(0, '127.0.0.1')
  await once(listening, 'listening')
  return listening
}
beforeEach(async () => {
  rules.length = 0
  timing = createTiming()
  verifier = await agentVerifier(options(), { timing })
  await verifier.ready()
  const anybody = verifier.express()
  server = await listen(
    verifier.createServer((request, response) => anybody(request, response, () => response.end('in'))),
  )
})
afterEach(async () => {
  server.closeAllConnections()
  server.close()
  await verifier[Symbol.asyncDispose]()
})

const open = async (shown: { cert: string; key: string } | null, to = server, session?: Buffer): Promise<TLSSocket> => {
  const socket = connect({
    ...(shown === null ? {} : { cert: shown.cert, key: shown.key }),
    ...(session === undefined ? {} : { session }),
    ca: backend.identity.current().bundlePem,
    host: '127.0.0.1',
    servername: 'localhost',
    port: (to.address() as AddressInfo).port,
  })
  await once(socket, 'secureConnect')
  return socket
}
/** On a connection that stays open. @returns status and body */
const ask = (socket: TLSSocket): Promise<string> =>
  new Promise((resolve, reject) => {
    let text = ''
    const take = (chunk: Buffer): void => {
      text += chunk
      const end = text.indexOf('\r\n\r\n')
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1])
      if (end < 0 || text.length < end + 4 + length) return
      socket.off('data', take)
      resolve(`${text.slice(9, 12)} ${text.slice(end + 4)}`)
    }
    socket.on('data', take).once('close', () => reject(new Error(`the connection ended: ${text}`)))
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
  })
const closed = (socket: TLSSocket): Promise<unknown> =>
  new Promise(resolve => socket.on('error', () => {}).once('close', resolve))

const unauthorized =
  '401 {"type":"urn:agentca:problem:unauthorized","title":"A valid client certificate is needed","status":401}'

describe('a caller', () => {
  it('is let in with a certificate of this CA', async () => {
    expect(await ask(await open(caller))).toBe('200 in')
  })

  it('without a certificate is refused, and hears nothing of why', async () => {
    expect(await ask(await open(null))).toBe(unauthorized)
    expect(rules).toEqual(['identity_missing'])
  })

  it('whose certificate nobody issued is refused, and hears the same', async () => {
    const { key, chain } = selfSigned('agent-caller')
    expect(await ask(await open({ key, cert: chain }))).toBe(unauthorized)
    expect(rules).toEqual(['issuer_unknown'])
  })

  it('of another CA that calls itself the same is refused', async () => {
    const stranger = await foreign.holder('agent', 'caller')
    expect(await ask(await open(stranger))).toBe(unauthorized)
    expect(rules).toHaveLength(1)
    expect(rules[0]).not.toBe('internal')
  })

  it('is refused once its certificate has ended, on the connection that stands', async () => {
    const socket = await open(caller)
    expect(await ask(socket)).toBe('200 in')
    const left = caller.notAfter + 10_000 - Date.now()
    timing.moveWall(left)
    timing.advance(left)
    await closed(socket)
    expect(await ask(await open(caller))).toBe(unauthorized)
    expect(rules).toEqual(['certificate_expired'])
  })

  it('is neither refused nor let in for longer by a step of this machine’s clock', async () => {
    const socket = await open(caller)
    for (const step of [365 * 86_400_000, -730 * 86_400_000]) {
      timing.moveWall(step)
      expect(await ask(socket)).toBe('200 in')
      expect(await ask(await open(caller))).toBe('200 in')
    }
    const left = caller.notAfter + 10_000 - Date.now()
    timing.advance(left)
    await closed(socket)
    expect(await ask(await open(caller))).toBe(unauthorized)
    expect(rules).toEqual(['certificate_expired'])
  })

  it('is cut off when its connection is too old, and comes back on another one', async () => {
    const socket = await open(caller)
    expect(await ask(socket)).toBe('200 in')
    timing.moveWall(600_001)
    timing.advance(600_001)
    await closed(socket)
    expect(await ask(await open(caller))).toBe('200 in')
  })
})

describe('a connection that carries one call', () => {
  /** Upgraded to a protocol that echoes. */
  const upgraded = async (demand: Demand, lasting?: () => Demand): Promise<TLSSocket> => {
    server.once('upgrade', (request: IncomingMessage, socket: Duplex) => {
      verifier.verifyRequest(request, demand, lasting)
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n')
      socket.on('error', () => {}).pipe(socket)
    })
    const socket = await open(caller)
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n')
    expect(String((await once(socket, 'data'))[0])).toContain('101')
    return socket
  }
  const echo = async (socket: TLSSocket): Promise<string> => {
    socket.write('here')
    return String((await once(socket, 'data'))[0])
  }
  afterEach(() => world.setRoles('caller', ['reader']))

  it('is cut once its caller lacks what it was demanded, and one that was demanded nothing is not', async () => {
    const [demanded, free] = [await upgraded({ roles: ['reader'] }), await upgraded({})]
    const kept = await open(caller)
    expect(await ask(kept)).toBe('200 in')
    expect(await echo(demanded)).toBe('here')
    await world.setRoles('caller', [])
    await closed(demanded)
    expect([await echo(free), await ask(kept)]).toEqual(['here', '200 in'])
    free.destroy()
  })

  it('is cut once more is demanded than its caller has', async () => {
    let demand: Demand = { roles: ['reader'] }
    const socket = await upgraded(demand, () => demand)
    expect(await echo(socket)).toBe('here')
    demand = { roles: ['reader', 'clerk'] }
    await closed(socket)
  })
})

describe('trust anchors', () => {
  it('follow the roots of the CA while it runs: who leads to an added one is let in, to one that is gone refused and cut', async () => {
    const { root, issuer } = foreign.front.ca
    const holder = await foreign.holder('agent', 'caller')
    const stranger = { key: holder.key, cert: holder.cert + encodePem('CERTIFICATE', issuer.certificate.der) }
    const waiting = await open(stranger)
    expect(await ask(waiting)).toBe(unauthorized)
    const added = await world.ledger.issuers.add(
      {
        name: 'root-2',
        kind: 'root',
        state: 'active',
        parentId: null,
        keyLabel: null,
        certificate: root.der,
        spkiHash: root.spkiHashHex,
        notBefore: root.notBefore,
        notAfter: root.notAfter,
        createdAt: Date.now(),
      },
      leaf('issuer_added'),
    )
    await until('let in', async () => (await ask(waiting)) === '200 in')
    expect(await ask(await open(stranger))).toBe('200 in')
    const ours = await open(caller)
    expect(await ask(ours)).toBe('200 in')
    // Who comes now begins with a snapshot, which says the same.
    await using late = await agentVerifier({ ...options(), subscriber: 'late' }, { timing })
    await late.ready()
    expect(late.peerState().trust.anchors).toHaveLength(2)

    await world.ledger.issuers.setState(added.id, 'retired', Date.now(), leaf('issuer_state_changed'), null)
    await closed(waiting)
    expect(await ask(await open(stranger))).toBe(unauthorized)
    expect(await ask(ours)).toBe('200 in')
    await until('heard', () => late.peerState().trust.anchors.length === 1)
  })
})

describe('TLS sessions', () => {
  const sessionOf = (socket: TLSSocket): Promise<Buffer> =>
    new Promise(resolve => socket.once('session', (session: Buffer) => resolve(session)))

  it('are not resumed by servers of the verifier: who comes back proves the key again', async () => {
    const first = await open(caller)
    const session = sessionOf(first)
    expect(await ask(first)).toBe('200 in')
    const second = await open(caller, server, await session)
    expect(second.isSessionReused()).toBe(false)
    expect(await ask(second)).toBe('200 in')
  })

  it('do not help whoever comes back after its certificate has ended', async () => {
    const first = await open(caller)
    const session = sessionOf(first)
    expect(await ask(first)).toBe('200 in')
    const left = caller.notAfter + 10_000 - Date.now()
    timing.moveWall(left)
    timing.advance(left)
    const second = await open(caller, server, await session)
    expect(second.isSessionReused()).toBe(false)
    expect(await ask(second)).toBe(unauthorized)
    expect(rules).toEqual(['certificate_expired'])
  })

  it('prove nothing on a server of other making, where they are', async () => {
    const { key, cert, ca } = tlsMaterialOf(backend.identity.current())
    const listener = (request: IncomingMessage, response: Parameters<ReturnType<AgentVerifier['express']>>[1]) =>
      verifier.express()(request, response, () => response.end('in'))
    const other = createHttpsServer({ key, cert, ca, requestCert: true, rejectUnauthorized: false }, listener)
    verifier.attach(other)
    await listen(other)
    const first = await open(caller, other)
    const session = sessionOf(first)
    expect(await ask(first)).toBe('200 in')
    const kept = await session
    const resumed = await open(caller, other, kept)
    expect(resumed.isSessionReused()).toBe(true)
    expect(await ask(resumed)).toBe(unauthorized)
    // A next certificate changes nothing: a resumed session shows none.
    const renewed = await open(await world.renew(caller), other, kept)
    expect(renewed.isSessionReused()).toBe(true)
    expect(await ask(renewed)).toBe(unauthorized)
    expect(rules).toEqual(['identity_missing', 'identity_missing'])
    other.closeAllConnections()
    other.close()
  })
})

describe('options', () => {
  it.each([
    ['onStale', { onStale: 'ignore' }],
    ['maxStaleness', { maxStaleness: '5 minutes' }],
    ['maxStaleness', { maxStaleness: '0s' }],
    ['maxConnectionAge', { maxConnectionAge: '1w' }],
    ['statusUrl', { statusUrl: 'file:///etc/passwd' }],
    ['forwardedFor', { forwardedFor: 'x-real-ip' }],
  ])('that are wrong are refused by name: %s', async (name, wrong) => {
    const made = agentVerifier({ ...options(), ...wrong } as AgentVerifierOptions)
    await expect(made).rejects.toMatchObject({ code: 'option_invalid', message: expect.stringContaining(name) })
  })
})
