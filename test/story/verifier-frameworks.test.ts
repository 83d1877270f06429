// The verifier in the servers that people use, against a real CA: Express, Fastify, ws, node:http2, server-sent events and gRPC, each with a
// live connection that is cut when its caller is revoked; TLS sessions by openssl; and the programs of docs/verifier.md.
import { execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { type ClientHttp2Session, connect as connectHttp2, type ServerHttp2Stream } from 'node:http2'
import { createServer as createHttpsServer, get } from 'node:https'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import * as grpc from '@grpc/grpc-js'
import express from 'express'
import { fastify } from 'fastify'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { root } from '../../scripts/bootstrap.mjs'
import { type AgentIdentity, agentIdentity, type TlsMaterial, tlsMaterialOf } from '../../src/agent/index.ts'
import { type AgentVerifier, agentVerifier, grpcCaller, type WithAgent } from '../../src/verifier/index.ts'
import { blockWith, textOf } from '../setup/documents.ts'
import { type ServedCa, startServedCa } from './served-ca.ts'
import { until } from './until.ts'

let ca: ServedCa
let backend: AgentIdentity
let verifier: AgentVerifier
let rogue: TlsMaterial
let honest: TlsMaterial
const closing: (() => unknown)[] = []
const ports: Record<string, number> = {}

const stale = { onStale: 'refuse', maxStaleness: '5m' } as const
const anchors = () => ({ url: ca.urls.api, caFingerprint: ca.rootFingerprint })
/** Its certificate and key in other hands than those of the SDK, which would stop by itself. */
const agentOf = async (name: string, ...create: string[]): Promise<TlsMaterial> => {
  await ca.agentcaJson('agent', 'create', name, '--owner', 'finance', ...create)
  await ca.agentcaJson('token', 'create', '--agent', name, '--file', `${name}.token`)
  const identity = await agentIdentity({ ...anchors(), tokenFile: join(ca.directory, `${name}.token`) })
  const tls = tlsMaterialOf(identity.current())
  await identity[Symbol.asyncDispose]()
  return tls
}
const listen = async (name: string, server: Server): Promise<void> => {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  ports[name] = (server.address() as AddressInfo).port
  closing.push(() => server.close())
}
const agentIn = (request: unknown) => (request as WithAgent).agent

interface Named {
  readonly name: string
}
const method = (name: string, responseStream: boolean): grpc.MethodDefinition<Named, Named> => ({
  path: `/test.Orders/${name}`,
  requestStream: false,
  responseStream,
  requestSerialize: value => Buffer.from(JSON.stringify(value)),
  requestDeserialize: bytes => JSON.parse(bytes.toString()) as Named,
  responseSerialize: value => Buffer.from(JSON.stringify(value)),
  responseDeserialize: bytes => JSON.parse(bytes.toString()) as Named,
})
const orders = { whoAmI: method('WhoAmI', false), watch: method('Watch', true), write: method('Write', false) }

const serveExpress = async (): Promise<void> => {
  const app = express()
  app.use(verifier.express())
  app.get('/', (request, response) => void response.send(agentIn(request)?.agent))
  app.get('/readers', verifier.requireRole('reader'), (_, response) => void response.send('read'))
  app.get('/events', (_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(': open\n\n')
  })
  const server = verifier.createServer(app)
  const sockets = new WebSocketServer({ noServer: true })
  server.on('upgrade', (request, socket, head) => {
    try {
      const { name } = verifier.verifyRequest(request)
      sockets.handleUpgrade(request, socket, head, each => each.on('message', () => each.send(name)))
    } catch {
      socket.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n')
    }
  })
  await listen('express', server)
}

const serveFastify = async (): Promise<void> => {
  const app = fastify({ serverFactory: handler => verifier.createServer(handler) })
  app.addHook('onRequest', verifier.fastify())
  app.get('/', async request => agentIn(request.raw)?.agent)
  app.get('/readers', { onRequest: verifier.fastify({ roles: ['reader'] }) }, async () => 'read')
  await app.listen({ port: 0, host: '127.0.0.1' })
  ports.fastify = (app.server.address() as AddressInfo).port
  closing.push(() => app.close())
}

const serveStreams = async (): Promise<void> => {
  const server = verifier.createSecureServer(() => {})
  server.removeAllListeners('request')
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    stream.on('error', () => {})
    try {
      const { name } = verifier.verifyRequest({
        stream,
        socket: stream.session!.socket,
        headers,
        url: headers[':path'],
      } as never)
      stream.respond({ ':status': 200 })
      stream.write(name)
    } catch {
      stream.respond({ ':status': 403 }, { endStream: true })
    }
  })
  await listen('streams', server)
}

const serveGrpc = async (): Promise<void> => {
  const demandOf = (path: string) => (path.endsWith('/Write') ? { roles: ['writer'] } : {})
  const server = new grpc.Server({ interceptors: [verifier.grpcInterceptor(grpc, demandOf)] })
  const nameIn = (call: { readonly metadata: grpc.Metadata }) => ({ name: String(call.metadata.get(grpcCaller.agent)) })
  server.addService(orders, {
    whoAmI: (call: grpc.ServerUnaryCall<Named, Named>, done: grpc.sendUnaryData<Named>) => done(null, nameIn(call)),
    write: (call: grpc.ServerUnaryCall<Named, Named>, done: grpc.sendUnaryData<Named>) => done(null, nameIn(call)),
    watch: (call: grpc.ServerWritableStream<Named, Named>) => void call.write(nameIn(call)),
  })
  await listen('grpc', verifier.grpcListener(grpc, server))
  closing.push(() => server.forceShutdown())
}

beforeAll(async () => {
  ca = await startServedCa()
  await ca.agentcaJson('service', 'create', 'orders', '--dns', 'localhost')
  await ca.agentcaJson('token', 'create', '--service', 'orders', '--file', 'orders.token')
  backend = await agentIdentity({ ...anchors(), tokenFile: join(ca.directory, 'orders.token'), service: 'orders' })
  verifier = await agentVerifier({ identity: backend, onStale: 'refuse', maxStaleness: '5m' })
  await verifier.ready()
  for (const serve of [serveExpress, serveFastify, serveStreams, serveGrpc]) await serve()
  rogue = await agentOf('rogue', '--role', 'reader')
  honest = await agentOf('honest')
}, 180_000)

afterAll(async () => {
  await verifier?.[Symbol.asyncDispose]()
  await Promise.all(closing.map(close => close()))
  await backend?.[Symbol.asyncDispose]()
  await ca?.[Symbol.asyncDispose]()
})

const call = (agent: TlsMaterial, name: string, path = '/'): Promise<string> =>
  new Promise((resolve, reject) => {
    get({ ...agent, host: 'localhost', port: ports[name], path, agent: false }, async response => {
      let text = ''
      for await (const chunk of response) text += chunk
      resolve(`${response.statusCode} ${response.statusCode === 200 ? text : ''}`.trim())
    }).on('error', reject)
  })
const inTime = (name: string, client: grpc.Client, agentMethod: grpc.MethodDefinition<Named, Named>): Promise<string> =>
  new Promise(resolve =>
    client.makeUnaryRequest(
      agentMethod.path,
      agentMethod.requestSerialize,
      agentMethod.responseDeserialize,
      { name },
      (error, answer) => resolve(error === null ? (answer?.name ?? '') : `refused ${error.code}`),
    ),
  )
const grpcClient = (agent: TlsMaterial): grpc.Client => {
  const { ca: roots, key, cert } = agent
  const credentials = grpc.credentials.createSsl(
    ...([roots, key, cert].map(text => Buffer.from(text)) as [Buffer, Buffer, Buffer]),
  )
  const client = new grpc.Client(`localhost:${ports.grpc}`, credentials)
  closing.unshift(() => client.close())
  return client
}

/** What each says first, and a promise of its end. */
interface Live {
  readonly said: string
  readonly end: Promise<unknown>
}

const openWebSocket = async (agent: TlsMaterial): Promise<Live> => {
  const socket = new WebSocket(`wss://localhost:${ports.express}/`, agent)
  socket.on('error', () => {})
  const end = new Promise(done => socket.once('close', done))
  await once(socket, 'open')
  socket.send('who am I?')
  const [said] = await once(socket, 'message')
  return { said: String(said), end }
}
const openEvents = (agent: TlsMaterial): Promise<Live> =>
  new Promise((resolve, reject) => {
    const options = { ...agent, host: 'localhost', port: ports.express, path: '/events', agent: false }
    get(options, response => {
      const end = new Promise<void>(done => response.on('error', () => {}).once('close', done))
      response.once('data', chunk => resolve({ said: String(chunk).trim(), end }))
    }).on('error', reject)
  })
const openStream = async (agent: TlsMaterial): Promise<Live> => {
  const session: ClientHttp2Session = connectHttp2(`https://localhost:${ports.streams}`, agent)
  session.on('error', () => {})
  const stream = session.request({ ':path': '/' }).on('error', () => {})
  const end = Promise.all([session, stream].map(each => new Promise<void>(done => each.once('close', done))))
  const [said] = await once(stream, 'data')
  return { said: String(said), end }
}
const openWatch = async (agent: TlsMaterial): Promise<Live> => {
  const { path, requestSerialize, responseDeserialize } = orders.watch
  const stream = grpcClient(agent).makeServerStreamRequest(path, requestSerialize, responseDeserialize, { name: '' })
  const end = once(
    stream.on('error', () => {}),
    'close',
  ).catch(error => error)
  const [said] = (await once(stream, 'data')) as [Named]
  return { said: said.name, end }
}

describe('a caller', () => {
  it('is let in by Express, Fastify, HTTP/2 streams and gRPC under its name, and by what it may do', async () => {
    expect(await Promise.all(['express', 'fastify'].map(name => call(rogue, name)))).toEqual(['200 rogue', '200 rogue'])
    const readers = ['express', 'fastify'].flatMap(name => [rogue, honest].map(agent => call(agent, name, '/readers')))
    expect(await Promise.all(readers)).toEqual(['200 read', '403', '200 read', '403'])
    const client = grpcClient(rogue)
    expect(await inTime('', client, orders.whoAmI)).toBe('rogue')
    expect(await inTime('', client, orders.write)).toBe(`refused ${grpc.status.PERMISSION_DENIED}`)
  })

  it('cannot tell a gRPC handler another name, and needs a certificate', async () => {
    const claimed = new grpc.Metadata()
    for (const key of Object.values(grpcCaller)) claimed.set(key, 'somebody')
    const { path, requestSerialize, responseDeserialize } = orders.whoAmI
    const said = await new Promise(resolve =>
      grpcClient(honest).makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        { name: '' },
        claimed,
        (_, answer) => resolve(answer?.name),
      ),
    )
    expect(said).toBe('honest')
    const bare = new grpc.Client(`localhost:${ports.grpc}`, grpc.credentials.createSsl(Buffer.from(honest.ca)))
    expect(await inTime('', bare, orders.whoAmI)).toBe(`refused ${grpc.status.UNAUTHENTICATED}`)
    bare.close()
  })

  it('is cut off everywhere when it is revoked, and nobody else is', async () => {
    const [unary, honestUnary] = [grpcClient(rogue), grpcClient(honest)]
    expect(await Promise.all([unary, honestUnary].map(each => inTime('', each, orders.whoAmI)))).toEqual([
      'rogue',
      'honest',
    ])
    const opens = [openWebSocket, openEvents, openStream, openWatch]
    const lives = await Promise.all(opens.map(open => open(rogue)))
    expect(lives.map(({ said }) => said)).toEqual(['rogue', ': open', 'rogue', 'rogue'])
    const kept = await Promise.all(opens.map(open => open(honest)))
    let ended = 0
    for (const { end } of kept) end.then(() => ended++)

    await ca.agentcaJson('revoke', '--agent', 'rogue', '--reason', 'keyCompromise', '--confirm', '1', '--wait', '10s')
    await Promise.all(lives.map(({ end }) => end))
    expect(ended).toBe(0)
    expect(await Promise.all(['express', 'fastify'].map(name => call(rogue, name)))).toEqual(['403', '403'])
    expect(await inTime('', unary, orders.whoAmI)).toBe(`refused ${grpc.status.PERMISSION_DENIED}`)
    await expect(openWebSocket(rogue)).rejects.toThrow()
    expect(await inTime('', honestUnary, orders.whoAmI)).toBe('honest')
    expect(await call(honest, 'fastify')).toBe('200 honest')
  })
})

const haproxy = spawnSync('haproxy', ['-v']).status === 0

describe('a proxy that terminates TLS', () => {
  it.skipIf(!haproxy)(
    'forwards certificates by RFC 9440 as docs/verifier.md says, and its caller is judged',
    async () => {
      await ca.agentcaJson('service', 'create', 'edge', '--dns', 'localhost')
      await ca.agentcaJson('token', 'create', '--service', 'edge', '--file', 'edge.token')
      const enrolled = ['--ca-fingerprint', ca.rootFingerprint, '--token-file', 'edge.token', '--dir', 'edge']
      await ca.agentcaJson('enroll', '--url', ca.urls.api, ...enrolled)
      const trustedProxies = ['spiffe://agentca.local/service/edge']
      const behind = await agentVerifier({
        ...stale,
        identity: backend,
        subscriber: 'behind',
        kinds: ['agent'],
        trustedProxies,
      })
      closing.unshift(() => behind[Symbol.asyncDispose]())
      await behind.ready()
      const judge = behind.express()
      await listen(
        'behind',
        behind.createServer((request, response) =>
          judge(request, response, () =>
            response.end(`${agentIn(request)?.agent} ${request.headers.client_cert ?? ''}`.trim()),
          ),
        ),
      )
      const spare = createServer().listen(0, '127.0.0.1')
      await once(spare, 'listening')
      ports.edge = (spare.address() as AddressInfo).port
      spare.close()
      const setHeader = /http-request set-header Client-Cert [^`]+/.exec(textOf('docs/verifier.md'))![0]
      const [pem, roots] = ['credential-bundle.pem', 'ca.crt'].map(name => join(ca.directory, 'edge', name))
      writeFileSync(
        join(ca.directory, 'edge.cfg'),
        `defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend callers
  bind 127.0.0.1:${ports.edge} ssl crt ${pem} ca-file ${roots} verify required ssl-min-ver TLSv1.3
  ${setHeader}
  default_backend orders
backend orders
  server orders 127.0.0.1:${ports.behind} ssl crt ${pem} ca-file ${roots} verify required sni str(localhost)
`,
      )
      const proxy = spawn('haproxy', ['-q', '-db', '-f', join(ca.directory, 'edge.cfg')], { stdio: 'inherit' })
      closing.unshift(() => proxy.kill())
      const caller = await agentOf('forwarded')
      await until('forwarded', async () => (await call(caller, 'edge').catch(() => '')) === '200 forwarded')
      const spoofed = { 'Client-Cert': ':AAAA:', client_cert: ':AAAA:' }
      const said = await new Promise<string>((resolve, reject) => {
        get({ ...caller, host: 'localhost', port: ports.edge, agent: false, headers: spoofed }, async response => {
          let text = ''
          for await (const chunk of response) text += chunk
          resolve(text)
        }).on('error', reject)
      })
      expect(said).toBe('forwarded')
      await ca.agentcaJson(
        'revoke',
        '--agent',
        'forwarded',
        '--reason',
        'keyCompromise',
        '--confirm',
        '1',
        '--wait',
        '20s',
      )
      expect(await call(caller, 'edge')).toBe('403')
      expect(await call(honest, 'edge')).toBe('200 honest')
    },
  )
})

describe('a TLS session by openssl', () => {
  interface Shown {
    readonly dir: string
    readonly port: number
    readonly session: readonly [way: '-sess_out' | '-sess_in', file: string]
  }
  /** @returns whether OpenSSL resumed it, and the status of the answer */
  const ask = ({
    dir,
    port,
    session,
  }: Shown): Promise<{ readonly reused: boolean; readonly status: string | undefined }> =>
    new Promise((resolve, reject) => {
      const files = ['-cert', 'tls.crt', '-key', 'tls.key', '-CAfile', 'ca.crt', '-cert_chain', 'tls.crt']
      const args = [
        's_client',
        '-connect',
        `127.0.0.1:${port}`,
        '-servername',
        'localhost',
        '-tls1_3',
        '-ign_eof',
        ...files,
        ...session,
      ]
      const child = execFile('openssl', args, { cwd: dir }, (error, out) => {
        if (error !== null && out === '') reject(error)
        else resolve({ reused: out.includes('Reused, TLSv1.3'), status: /HTTP\/1\.1 (\d+)/.exec(out)?.[1] })
      })
      child.stdin?.on('error', () => {})
      child.stdin?.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
    })

  it('is not resumed at a server of the verifier, nor believed where another server resumes it: after its revocation neither', async () => {
    const dir = await ca.enrolled('sleeper')
    const { key, cert } = tlsMaterialOf(backend.current())
    const judge = verifier.express()
    const other = createHttpsServer({ key, cert, requestCert: true, rejectUnauthorized: false }, (request, response) =>
      judge(request, response, () => response.end('in')),
    )
    verifier.attach(other)
    await listen('other', other)
    const sessions = ['express', 'other'].map(name => ({
      name,
      port: ports[name]!,
      file: join(ca.directory, `${name}.session`),
    }))
    for (const { port, file } of sessions)
      expect(await ask({ dir, port, session: ['-sess_out', file] })).toEqual({ reused: false, status: '200' })
    const come = () => Promise.all(sessions.map(({ port, file }) => ask({ dir, port, session: ['-sess_in', file] })))
    // The other server resumes; what comes over that connection has proved no certificate.
    expect(await come()).toEqual([
      { reused: false, status: '200' },
      { reused: true, status: '401' },
    ])
    await ca.agentcaJson('revoke', '--agent', 'sleeper', '--reason', 'keyCompromise', '--confirm', '1', '--wait', '10s')
    expect(await come()).toEqual([
      { reused: false, status: '403' },
      { reused: true, status: '401' },
    ])
    other.closeAllConnections()
  })
})

describe('docs/verifier.md', () => {
  it('its program says by `verifyPeer` who may call and why not', async () => {
    const dir = await ca.enrolled('documented')
    const program = blockWith('docs/verifier.md', 'js', 'verifyPeer').text.replace(
      /'agentca\/(agent|verifier)'/g,
      (_, name) => `'${pathToFileURL(join(root, `src/${name}/index.ts`))}'`,
    )
    const file = join(ca.directory, 'verify-peer.mjs')
    writeFileSync(file, program)
    await ca.agentcaJson('token', 'create', '--service', 'orders', '--file', 'documented-backend.token', '--uses', '2')
    const run = async (): Promise<string> => {
      const env = {
        ...process.env,
        AGENTCA_URL: ca.urls.api,
        AGENTCA_CA_FILE: join(dir, 'ca.crt'),
        AGENTCA_TOKEN_FILE: join(ca.directory, 'documented-backend.token'),
      }
      const child = spawn(process.execPath, [file, join(dir, 'tls.crt')], { env, stdio: ['ignore', 'pipe', 'inherit'] })
      let out = ''
      for await (const chunk of child.stdout) out += chunk
      return out.trim()
    }
    expect(await run()).toMatch(/^spiffe:\/\/agentca\.local\/agent\/documented\/i\/[0-9a-f]+ may call$/)
    await ca.agentcaJson('revoke', '--agent', 'documented', '--reason', 'keyCompromise', '--confirm', '1')
    expect(await run()).toBe('refused: certificate_revoked')
  })
})

describe('a verifier that is disposed of', () => {
  it('refuses everybody, and nobody waits for it', async () => {
    const last = await agentVerifier({ identity: backend, subscriber: 'last', onStale: 'allow', maxStaleness: '5m' })
    await last.ready()
    const judge = last.express()
    await listen(
      'last',
      last.createServer((request, response) => judge(request, response, () => response.end('in'))),
    )
    expect(await call(honest, 'last')).toBe('200 in')
    const subscribers = async () =>
      (await ca.agentcaJson<{ subscribers: readonly { subscriber: string; state: string }[] }>('feed', 'status'))
        .subscribers
    await until('known', async () => (await subscribers()).some(({ subscriber }) => subscriber === 'orders/last'))
    await last[Symbol.asyncDispose]()
    expect(await call(honest, 'last')).toBe('403')
    expect((await subscribers()).filter(({ subscriber }) => subscriber === 'orders/last')).toEqual([])
  })
})
