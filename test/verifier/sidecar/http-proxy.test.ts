// The proxy's own part of HTTP: what of a request goes on to the backend, by the bytes that arrive there. Who calls is given here; that the
// verifier is asked and cuts is shown with a real CA in test/story/forward-auth-sidecar.test.ts.
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { Server } from 'node:https'
import { type AddressInfo, createServer as createTcpServer, type Socket, type Server as TcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type TLSSocket } from 'node:tls'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { silentLog } from '../../../src/base/log.ts'
import { createJudging, type Judgement } from '../../../src/verifier/judgement.ts'
import { createHttpProxy, type HttpProxyDeps } from '../../../src/verifier/sidecar/http-proxy.ts'
import { createTcpProxy } from '../../../src/verifier/sidecar/tcp-proxy.ts'
import type { VerifiedPeer } from '../../../src/verify/decision.ts'

let directory: string
let tls: { key: Buffer; cert: Buffer }
const ending: (() => void)[] = []

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-http-proxy-'))
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'key', '-out', 'cert']
  execFileSync('openssl', ['req', '-x509', ...key, '-subj', '/CN=x'], { cwd: directory, stdio: 'ignore' })
  tls = { key: readFileSync(join(directory, 'key')), cert: readFileSync(join(directory, 'cert')) }
})
afterEach(() => {
  for (const end of ending.splice(0)) end()
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const caller = {
  ...{ kind: 'agent', name: 'billing', spiffeId: 'spiffe://x/agent/billing/i/1', instance: '1', serial: '01' },
  ...{ roles: [], scopes: [] },
} as unknown as VerifiedPeer

const portOf = async (server: TcpServer | Server): Promise<number> => {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  ending.push(() => server.close())
  return (server.address() as AddressInfo).port
}

interface Backend {
  readonly port: number
  /** Whatever arrived on all connections. */
  seen(): string
}

/** Answers each piece that begins a request. */
const backendWith = async (answer: string): Promise<Backend> => {
  let seen = ''
  const open = new Set<Socket>()
  const server = createTcpServer(socket => {
    open.add(socket)
    socket.on('error', () => {})
    socket.on('data', chunk => {
      seen += chunk.toString('latin1')
      if (/^[A-Z]+ \//.test(chunk.toString('latin1'))) socket.write(answer)
    })
  })
  ending.push(() => {
    for (const socket of open) socket.destroy()
  })
  return { port: await portOf(server), seen: () => seen }
}

const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

const proxyTo = async (port: number, changes: Partial<HttpProxyDeps> = {}): Promise<number> => {
  const server = createHttpProxy({
    verifier: { tlsOptions: () => tls, attach: () => {}, verifyRequest: () => caller },
    assert: async () => 'assertion',
    assertionHeader: 'Agentca-Assertion',
    kinds: ['agent'],
    requirements: () => [],
    otherwise: 'allow',
    now: () => 0,
    upstream: { host: '127.0.0.1', port },
    tell: () => {},
    log: silentLog,
    ...changes,
  })
  ending.push(() => server.closeAllConnections())
  return portOf(server)
}

const connectTo = async (port: number): Promise<TLSSocket> => {
  const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false })
  socket.on('error', () => {})
  ending.push(() => socket.destroy())
  await once(socket, 'secureConnect')
  return socket
}

/** Until a text is there, or the other side has ended. */
const heard = async (socket: TLSSocket, wanted: RegExp): Promise<string> => {
  let text = ''
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    text += (chunk as Buffer).toString('latin1')
    if (wanted.test(text)) break
  }
  return text
}

const asked = async (port: number, head: readonly string[], body = ''): Promise<string> => {
  const socket = await connectTo(port)
  socket.write(`${[...head, 'Host: orders.internal'].join('\r\n')}\r\n\r\n${body}`)
  return heard(socket, /^HTTP\/1\.1 (?!200)|ok$/)
}

describe('headers', () => {
  it.each(['Constructor', 'toString', '__proto__', 'hasOwnProperty'])('named %s go on like any other', async name => {
    const backend = await backendWith(ok)
    const port = await proxyTo(backend.port)
    expect(await asked(port, ['GET / HTTP/1.1', `${name}: x`, `${name}: y`])).toMatch(/^HTTP\/1\.1 200/)
    const lines = backend.seen().split('\r\n')
    expect(lines.filter(line => line.toLowerCase().startsWith(`${name.toLowerCase()}:`))).toHaveLength(2)
  })

  it('that cannot be passed on are answered with 502, and the next call is served', async () => {
    const backend = await backendWith(ok)
    let calls = 0
    // Node refuses such a value for a header.
    const assert = async (): Promise<string> => (calls++ < 2 ? 'a\nb' : 'assertion')
    const port = await proxyTo(backend.port, { assert })
    expect(await asked(port, ['GET / HTTP/1.1'])).toMatch(/^HTTP\/1\.1 502/)
    const upgrade = ['GET / HTTP/1.1', 'Connection: Upgrade', 'Upgrade: websocket']
    expect(await asked(port, upgrade)).toMatch(/^HTTP\/1\.1 502/)
    expect(await asked(port, ['GET / HTTP/1.1'])).toMatch(/^HTTP\/1\.1 200/)
  })
})

const switching = (protocol: string): string =>
  `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\nok`

describe('upgrades', () => {
  it.each(['h2c', 'HTTP/2.0', 'websocket, h2c', 'h2c, websocket', 'TLS/1.2'])(
    'to %s are not asked for',
    async protocol => {
      const backend = await backendWith(ok)
      const port = await proxyTo(backend.port)
      const socket = await connectTo(port)
      const head = `Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: ${protocol}\r\nHTTP2-Settings: AAMAAABk\r\n\r\n`
      socket.write(`GET /one HTTP/1.1\r\n${head}`)
      expect(await heard(socket, /ok$/)).toMatch(/^HTTP\/1\.1 200/)
      // Still HTTP/1.1, decided call by call.
      socket.write('GET /two HTTP/1.1\r\nHost: a\r\n\r\n')
      expect(await heard(socket, /ok$/)).toMatch(/^HTTP\/1\.1 200/)
      expect(backend.seen()).toMatch(/^GET \/one HTTP\/1\.1[\s\S]*GET \/two HTTP\/1\.1/)
      expect(backend.seen()).not.toMatch(/upgrade|http2-settings/i)
    },
  )

  it('to WebSocket go on; a backend that changes to anything else is cut', async () => {
    const wanted = ['GET / HTTP/1.1', 'Connection: Upgrade', 'Upgrade: WebSocket']
    const good = await backendWith(switching('websocket'))
    expect(await asked(await proxyTo(good.port), wanted)).toMatch(/^HTTP\/1\.1 101/)
    expect(good.seen()).toMatch(/\r\nUpgrade: websocket\r\n/)
    const bad = await backendWith(switching('h2c'))
    expect(await asked(await proxyTo(bad.port), wanted)).toMatch(/^HTTP\/1\.1 502/)
  })

  it('with a body are none: what follows the head is a body and no part of another protocol', async () => {
    const backend = await backendWith(ok)
    const head = ['GET / HTTP/1.1', 'Connection: Upgrade', 'Upgrade: websocket', 'Content-Length: 4']
    expect(await asked(await proxyTo(backend.port), head, 'body')).toMatch(/^HTTP\/1\.1 200/)
    expect(backend.seen()).not.toMatch(/upgrade/i)
  })
})

describe('the end of a body', () => {
  const second = 'DELETE /admin HTTP/1.1\r\nHost: x\r\nAgentca-Spiffe-Id: spiffe://x/agent/victim/i/9\r\n\r\n'
  const chunk = `${second.length.toString(16)}\r\n${second}\r\n0\r\n\r\n`
  it.each([
    ['by its length', `Content-Length: ${second.length}`, 'content-length', second],
    ['by chunks', 'Transfer-Encoding: chunked', 'transfer-encoding', chunk],
  ])('goes on %s, whatever Connection names (RFC 9110 §7.6.1)', async (_, header, nominated, body) => {
    const backend = await backendWith(ok)
    const port = await proxyTo(backend.port)
    for (const method of ['GET', 'DELETE', 'POST']) {
      const before = backend.seen().length
      const head = [`${method} /ok HTTP/1.1`, `Connection: ${nominated}, Host`, header]
      expect(await asked(port, head, body)).toMatch(/^HTTP\/1\.1 200/)
      const arrived = backend.seen().slice(before)
      const [lines = ''] = arrived.split('\r\n\r\n')
      expect(lines.toLowerCase().split('\r\n'), method).toContain(header.toLowerCase())
      expect(lines).toMatch(/\r\nhost: orders\.internal/i)
      expect(arrived.slice(lines.length + 4)).toBe(body)
    }
  })
})

describe('another call than the one that is decided on', () => {
  it.each([
    'X-HTTP-Method-Override: DELETE',
    'X-HTTP-Method: DELETE',
    'x_method_override: DELETE',
    'X-Original-URL: /admin',
    'X.Rewrite.Url: /admin',
  ])('is not made by a header: %s', async header => {
    const backend = await backendWith(ok)
    const port = await proxyTo(backend.port)
    expect(await asked(port, ['POST /ok HTTP/1.1', header])).toMatch(/^HTTP\/1\.1 403/)
    expect(backend.seen()).toBe('')
  })
})

describe('a refusal', () => {
  /** The verifier's judging itself, which lets every caller in that is not refused otherwise. */
  const judged = () => {
    const judging = createJudging({ now: () => 0, monotonic: () => 0 })
    const seen: Judgement[] = []
    judging.observe(each => seen.push(each))
    const verifyRequest: HttpProxyDeps['verifier']['verifyRequest'] = (request, demand = {}) =>
      judging.judge(
        { demand, request },
        () => caller,
        () => caller,
      )
    const verifier = { tlsOptions: () => tls, attach: () => {}, verifyRequest }
    const told = () => seen.map(({ outcome, rule, peer }) => [outcome, rule, peer?.name])
    return { verifier, told }
  }

  it('for the form of a call is a judgement on its caller', async () => {
    const backend = await backendWith(ok)
    const { verifier, told } = judged()
    const port = await proxyTo(backend.port, { verifier })
    expect(await asked(port, ['GET /a/../b HTTP/1.1'])).toMatch(/^HTTP\/1\.1 403/)
    expect(await asked(port, ['GET / HTTP/1.1', 'X-Rewrite-URL: /b'])).toMatch(/^HTTP\/1\.1 403/)
    expect(await asked(port, ['GET / HTTP/1.1'])).toMatch(/^HTTP\/1\.1 200/)
    expect(told()).toEqual([
      ['deny', 'path_ambiguous', 'billing'],
      ['deny', 'call_overridden', 'billing'],
      ['allow', null, 'billing'],
    ])
  })

  it("for the caller's kind is none that was allowed before, over HTTP and TCP", async () => {
    const backend = await backendWith(ok)
    const { verifier, told } = judged()
    const port = await proxyTo(backend.port, { verifier, kinds: ['service'] })
    expect(await asked(port, ['GET / HTTP/1.1'])).toMatch(/^HTTP\/1\.1 403/)
    const upstream = { host: '127.0.0.1', port: backend.port }
    const deps = { verifier, upstream, kinds: ['service'], scopes: () => [], tell: () => {}, log: silentLog } as const
    await once(await connectTo(await portOf(createTcpProxy(deps))), 'close')
    expect(told()).toEqual(Array(2).fill(['deny', 'kind_not_accepted', 'billing']))
    expect(backend.seen()).toBe('')
  })
})
