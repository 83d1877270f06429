// A backend behind `agentca/verifier`, a real CA with its feed, real agents: who may call is let in, and a caller that is revoked or held
// is cut off while it is connected, whatever it speaks.
import { once } from 'node:events'
import { type ClientHttp2Session, connect } from 'node:http2'
import { type AddressInfo, connect as connectTcp, createServer as createTcpServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type AgentIdentity, agentIdentity, tlsMaterialOf } from '../../src/agent/index.ts'
import { type AgentVerifier, agentVerifier, type WithAgent } from '../../src/verifier/index.ts'
import { type ServedCa, startServedCa } from './served-ca.ts'

let ca: ServedCa
let backend: AgentIdentity
let verifier: AgentVerifier
let url: string
let h2: string
const rules: string[] = []
/** Agents whose work was told to end, and why. */
const ended: string[] = []
const closing: (() => unknown)[] = []

const anchors = () => ({ url: ca.urls.api, caFingerprint: ca.rootFingerprint })
const orders = 'spiffe://agentca.local/service/orders'

const agentOf = async (name: string, ...create: string[]): Promise<AgentIdentity> => {
  await ca.agentcaJson('agent', 'create', name, '--owner', 'finance', ...create)
  await ca.agentcaJson('token', 'create', '--agent', name, '--file', `${name}.token`)
  // Agents that do not stop by themselves: the backend is what is tried here.
  const tokenFile = join(ca.directory, `${name}.token`)
  const identity = await agentIdentity({ ...anchors(), tokenFile, watch: 'none' })
  closing.unshift(() => identity[Symbol.asyncDispose]())
  return identity
}

const call = async (agent: AgentIdentity, path = '/'): Promise<string> => {
  const answer = await agent.fetch(`${url}${path}`, { peer: orders })
  return `${answer.status} ${await answer.text()}`
}

/** Resolves when the other side has ended the connection; never by itself. */
const cut = (socket: TLSSocket): Promise<void> =>
  new Promise(resolve => {
    socket.on('error', () => {})
    socket.once('close', () => resolve())
  })

const connected = (agent: AgentIdentity, port: number): Promise<TLSSocket> =>
  new Promise((resolve, reject) => {
    const socket = tlsConnect({
      ...tlsMaterialOf(agent.current()),
      host: '127.0.0.1',
      port,
      servername: 'localhost',
      minVersion: 'TLSv1.3',
    })
    socket.once('secureConnect', () => resolve(socket)).once('error', reject)
  })

const firstLine = (socket: TLSSocket): Promise<string> =>
  new Promise(resolve => socket.once('data', (chunk: Buffer) => resolve(chunk.toString().split('\r\n')[0] as string)))

beforeAll(async () => {
  ca = await startServedCa()
  await ca.agentcaJson('service', 'create', 'orders', '--dns', 'localhost')
  await ca.agentcaJson('token', 'create', '--service', 'orders', '--file', 'orders.token')
  backend = await agentIdentity({ ...anchors(), tokenFile: join(ca.directory, 'orders.token'), service: 'orders' })
  verifier = await agentVerifier({
    identity: backend,
    onStale: 'refuse',
    maxStaleness: '5m',
    stateDirectory: join(ca.directory, 'state'),
    onRefused: ({ rule }) => rules.push(rule),
  })
  await verifier.ready()
  const [anybody, readers] = [verifier.express(), verifier.requireRole('reader')]
  const server = verifier.createServer((request, response) => {
    const handler = request.url === '/readers' ? readers : anybody
    handler(request, response, () => {
      const { agent } = request as WithAgent
      if (request.url === '/events') {
        agent!.signal.addEventListener('abort', () => ended.push(`${agent!.agent} ${agent!.signal.reason.code}`))
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        response.write(': open\n\n')
      } else response.end((request as WithAgent).agent?.agent)
    })
  })
  server.on('upgrade', (request, socket) => {
    verifier.verifyRequest(request)
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: test\r\nConnection: Upgrade\r\n\r\n')
  })
  const server2 = verifier.createSecureServer((request, response) => {
    anybody(request as WithAgent, response, () => (response as { end(text?: string): void }).end('h2'))
  })
  await Promise.all([server, server2].map(each => new Promise<void>(done => each.listen(0, '127.0.0.1', done))))
  url = `https://localhost:${(server.address() as AddressInfo).port}`
  h2 = `https://localhost:${(server2.address() as AddressInfo).port}`
  closing.push(
    () => server.close(),
    () => server2.close(),
    () => server.closeAllConnections(),
  )
}, 180_000)

afterAll(async () => {
  await Promise.all(closing.map(close => close()))
  await verifier?.[Symbol.asyncDispose]()
  await backend?.[Symbol.asyncDispose]()
  await ca?.[Symbol.asyncDispose]()
})

describe('a backend behind the verifier', () => {
  it('lets an agent in under its name, by its roles', async () => {
    const billing = await agentOf('billing', '--role', 'reader')
    const crawler = await agentOf('crawler')
    expect(await call(billing)).toBe('200 billing')
    expect(await call(billing, '/readers')).toBe('200 billing')
    expect(await call(crawler, '/readers')).toMatch(/^403 .*forbidden/)
    expect(rules.at(-1)).toBe('role_missing')
  })

  it('refuses whoever shows no certificate, and says nothing about why', async () => {
    const socket = tlsConnect({
      ca: backend.current().bundlePem,
      host: '127.0.0.1',
      port: Number(new URL(url).port),
      servername: 'localhost',
    })
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
    expect(await firstLine(socket)).toBe('HTTP/1.1 401 Unauthorized')
    expect(rules.at(-1)).toBe('identity_missing')
    socket.destroy()
  })

  it('cuts a revoked agent off: kept-alive, event stream, upgraded socket and HTTP/2, and refuses its next call', async () => {
    const rogue = await agentOf('rogue')
    const honest = await agentOf('honest')
    expect(await call(rogue)).toBe('200 rogue')
    const port = Number(new URL(url).port)
    const events = await connected(rogue, port)
    events.write('GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n')
    const upgraded = await connected(rogue, port)
    upgraded.write('GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: test\r\nConnection: Upgrade\r\n\r\n')
    const kept = await connected(honest, port)
    kept.write('GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n')
    expect(await Promise.all([events, upgraded, kept].map(firstLine))).toEqual([
      'HTTP/1.1 200 OK',
      'HTTP/1.1 101 Switching Protocols',
      'HTTP/1.1 200 OK',
    ])
    const session: ClientHttp2Session = connect(h2, { ...tlsMaterialOf(rogue.current()), servername: 'localhost' })
    session.on('error', () => {})
    const stream = session.request({ ':path': '/' })
    const status = await new Promise(resolve => stream.once('response', headers => resolve(headers[':status'])))
    expect(status).toBe(200)
    const ends = [cut(events), cut(upgraded), new Promise<void>(resolve => session.once('close', () => resolve()))]

    await ca.agentcaJson('revoke', '--agent', 'rogue', '--reason', 'keyCompromise', '--yes', '--confirm', '1')
    await Promise.all(ends)
    expect(await call(rogue)).toMatch(/^403 .*forbidden/)
    expect(rules.at(-1)).toBe('certificate_revoked')
    expect(ended).toEqual(['rogue certificate_revoked'])
    expect(kept.destroyed).toBe(false)
    expect(await call(honest)).toBe('200 honest')
    kept.destroy()
  })

  it('tells a handler that its caller was revoked, although the caller had hung up before', async () => {
    const hasty = await agentOf('hasty')
    const events = await connected(hasty, Number(new URL(url).port))
    events.write('GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n')
    expect(await firstLine(events)).toBe('HTTP/1.1 200 OK')
    events.destroy()
    await until(() => Promise.resolve(verifier.status().connections === 0))
    await ca.agentcaJson('revoke', '--agent', 'hasty', '--reason', 'keyCompromise', '--yes', '--confirm', '1')
    await until(() => Promise.resolve(ended.includes('hasty certificate_revoked')))
  })

  it('refuses a held agent and lets it in again after its release', async () => {
    const pausing = await agentOf('pausing')
    expect(await call(pausing)).toBe('200 pausing')
    await ca.agentcaJson('agent', 'hold', 'pausing')
    await until(async () => (await call(pausing)).startsWith('403'))
    await ca.agentcaJson('agent', 'release', 'pausing')
    await until(async () => (await call(pausing)) === '200 pausing')
  })

  it('learns of a role without a new certificate', async () => {
    const learner = await agentOf('learner')
    expect(await call(learner, '/readers')).toMatch(/^403/)
    await ca.agentcaJson('agent', 'update', 'learner', '--role', 'reader')
    await until(async () => (await call(learner, '/readers')) === '200 learner')
  })

  it('stays fresh by the published state while its feed is blocked, and learns of a revocation by it', async () => {
    const api = await openDoor(Number(new URL(ca.urls.api).port))
    const direct = backend.current()
    // The backend's own identity on a way to the CA that can be closed.
    const identity: AgentIdentity = {
      ...backend,
      current: () => ({ ...direct, url: `https://127.0.0.1:${api.port}` }),
    }
    const blocked = await agentVerifier({ identity, subscriber: 'blocked', onStale: 'refuse', maxStaleness: '1s' })
    await blocked.ready()
    await until(async () => blocked.status().freshness.rung === 'live')
    const before = blocked.status().entries
    api.close()
    await until(async () => !blocked.status().connected)
    const caught = await agentOf('caught')
    await ca.agentcaJson('revoke', '--serial', caught.current().facts.serial, '--reason', 'keyCompromise', '--yes')
    await until(async () => blocked.status().entries === before + 1, 60_000)
    await until(async () => blocked.status().freshness.rung === 'published', 60_000)
    expect(blocked.status().connected).toBe(false)
    await blocked[Symbol.asyncDispose]()
  }, 180_000)

  it('goes on without the CA within its bound, and a new verifier starts from the last state', async () => {
    const survivor = await agentOf('survivor')
    expect(await call(survivor)).toBe('200 survivor')
    process.kill(ca.line.pid, 'SIGKILL')
    await until(async () => !verifier.status().connected)
    expect(await call(survivor)).toBe('200 survivor')
    await verifier[Symbol.asyncDispose]()
    const next = await agentVerifier({
      identity: backend,
      onStale: 'refuse',
      maxStaleness: '5m',
      stateDirectory: join(ca.directory, 'state'),
    })
    expect(next.status()).toMatchObject({ position: verifier.status().position, freshness: { trusted: true } })
    expect(next.status().entries).toBe(verifier.status().entries)
    await next[Symbol.asyncDispose]()
    const without = await agentVerifier({ identity: backend, onStale: 'allow', maxStaleness: '5m' })
    expect(without.status()).toMatchObject({ position: null, freshness: { rung: 'unknown', trusted: false } })
    await without[Symbol.asyncDispose]()
  })
})

const until = async (holds: () => Promise<boolean>, withinMs = 90_000): Promise<void> => {
  for (let i = 0; i < withinMs / 20; i++) {
    if (await holds().catch(() => false)) return
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  throw new Error('it never held')
}

/** A way to a port of this machine that closes for good, with whoever is on it. */
const openDoor = async (target: number): Promise<{ readonly port: number; close(): void }> => {
  const sockets = new Set<Socket>()
  const server = createTcpServer(socket => {
    const onward = connectTcp(target, '127.0.0.1')
    for (const each of [socket, onward]) sockets.add(each.on('error', () => {}))
    socket.pipe(onward).pipe(socket)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}
