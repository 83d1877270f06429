// What docs/integrations/sidecar.md says of other proxies' open connections, as they do it: a WebSocket and an event stream that are never
// silent outlive every time-out for silence, and only what the page names ends them. No CA is needed for it.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { installed, proxies } from './forward-auth-proxies.ts'
import { until } from './until.ts'

let directory: string
let upstream: Server
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-streams-'))
  const forever = (write: (text: string) => void, socket: { once(event: 'close', act: () => void): unknown }) => {
    const timer = setInterval(() => write('data: x\n\n'), chunkMs)
    socket.once('close', () => clearInterval(timer))
  }
  upstream = createServer((_request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    forever(text => response.write(text), response)
  })
  upstream.on('upgrade', (_request, socket: Socket) => {
    socket.on('error', () => {})
    const accept = 'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo='
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n${accept}\r\n\r\n`)
    forever(text => socket.write(text), socket)
  })
  await once(upstream.listen(0, '127.0.0.1'), 'listening')
})
afterAll(() => {
  upstream?.closeAllConnections()
  upstream?.close()
  rmSync(directory, { recursive: true, force: true })
})

interface OpenStream extends Disposable {
  chunks(): number
  closed(): boolean
}

const request = 'GET / HTTP/1.1\r\nHost: localhost\r\n'
const upgrade = `${request}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n`
const requests = [`${request}\r\n`, `${upgrade}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`]

/** The event stream and the WebSocket, both flowing. */
const openBoth = async (path: string): Promise<readonly OpenStream[]> => {
  const streams = requests.map((text): OpenStream => {
    const socket = connect(path)
    let [chunks, closed] = [0, false]
    socket.on('data', () => {
      chunks++
    })
    socket.on('close', () => {
      closed = true
    })
    socket.on('error', () => {})
    socket.write(text)
    return { chunks: () => chunks, closed: () => closed, [Symbol.dispose]: () => socket.destroy() }
  })
  await until('both flow', () => streams.every(stream => stream.chunks() > 3))
  return streams
}

/** How long the proxies wait for what is silent: longer than a busy machine stalls. */
const silenceSeconds = 5
const chunkMs = 100

/** For longer than that. */
const stayOpen = async (streams: readonly OpenStream[]): Promise<void> => {
  const before = streams.map(stream => stream.chunks())
  const enough = ((silenceSeconds + 1) * 1000) / chunkMs
  await until('both go on', () =>
    streams.every((stream, at) => stream.closed() || stream.chunks() > before[at]! + enough),
  )
  expect(streams.map(stream => stream.closed())).toEqual([false, false])
}
const areEnded = (streams: readonly OpenStream[]): Promise<void> =>
  until('both are ended', () => streams.every(stream => stream.closed()))

interface Proxy {
  readonly configuration: (socket: string, place: string, upstream: number) => string
  readonly run: (file: string, place: string) => readonly string[]
  /** What the page says that ends them. */
  readonly end: (file: string, place: string) => Promise<unknown>
}

const start = (program: string, args: readonly string[]): ChildProcess =>
  spawn(program, args, { stdio: 'ignore', env: { ...process.env, HOME: directory } })

const run = async (program: string, args: readonly string[]): Promise<void> => {
  expect(await once(start(program, args), 'exit')).toEqual([0, null])
}

const listens = (path: string): Promise<boolean> =>
  new Promise(resolve => {
    const socket = connect(path, () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })

const nginxText = (socket: string, place: string, port: number): string => {
  const scratch = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    name => `${name}_temp_path ${place}/${name};`,
  )
  const user = process.getuid?.() === 0 ? 'user root;' : ''
  return `${user} daemon off; pid ${place}/pid; error_log ${place}/errors; worker_shutdown_timeout 1s; events {}
http { access_log off; ${scratch.join(' ')} map $http_upgrade $connection_ { default upgrade; '' ''; }
  server { listen unix:${socket}; location / { proxy_pass http://127.0.0.1:${port}; proxy_http_version 1.1; proxy_buffering off;
    proxy_read_timeout ${silenceSeconds}s; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_; } } }\n`
}

const streamed: Readonly<Record<string, Proxy>> = {
  nginx: {
    configuration: nginxText,
    run: file => ['-c', file],
    end: file => run('nginx', ['-c', file, '-s', 'reload']),
  },
  haproxy: {
    configuration: (socket, place, port) => `global
  stats socket ${place}/admin level admin
defaults
  mode http
  timeout connect 5s
  timeout client ${silenceSeconds}s
  timeout server ${silenceSeconds}s
  timeout tunnel ${silenceSeconds}s
frontend all
  bind unix@${socket}
  default_backend orders
backend orders
  server orders 127.0.0.1:${port}\n`,
    run: file => ['-q', '-db', '-f', file],
    end: async (_file, place) => {
      const admin = connect(join(place, 'admin'))
      admin.end('shutdown sessions server orders/orders\n')
      admin.resume()
      await once(admin, 'close')
    },
  },
  caddy: {
    configuration: (socket, place, port) => `{
  admin unix/${place}/admin
  auto_https off
}
http://localhost {
  bind unix/${socket}
  reverse_proxy 127.0.0.1:${port} {
    flush_interval -1
  }
}\n`,
    run: file => ['run', '--adapter', 'caddyfile', '--config', file],
    end: (file, place) =>
      run('caddy', [
        'reload',
        '--force',
        '--adapter',
        'caddyfile',
        '--config',
        file,
        '--address',
        `unix/${place}/admin`,
      ]),
  },
}

describe.concurrent.each(Object.entries(streamed))('%s', (name, proxy) => {
  const program = proxies[name]
  it.skipIf(program === undefined || !installed(program))(
    'lets open streams go on that are not silent, and ends all of them as its page says',
    { timeout: 120_000 },
    async () => {
      const place = join(directory, name)
      mkdirSync(place)
      const [socket, file] = [join(place, 'http'), join(place, 'configuration')]
      writeFileSync(file, proxy.configuration(socket, place, (upstream.address() as AddressInfo).port))
      const child = start(name, proxy.run(file, place))
      const ended = once(child, 'exit')
      try {
        await until(`${name} listens`, () => listens(socket))
        const streams = await openBoth(socket)
        await stayOpen(streams)
        await proxy.end(file, place)
        await areEnded(streams)
        for (const stream of streams) stream[Symbol.dispose]()
      } finally {
        child.kill('SIGTERM')
        await ended
      }
    },
  )
})
