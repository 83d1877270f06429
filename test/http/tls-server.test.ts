// The one TLS server: what it speaks, that nothing resumes, whose certificate it shows, whom it waits for.
import { execFile } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import type { RequestListener } from 'node:http'
import { Agent, createServer as createHttpsServer } from 'node:https'
import { type AddressInfo, connect as connectTcp } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { describe, expect, it } from 'vitest'
import { defaultTimeouts, type Timeouts } from '../../src/http/listener.ts'
import { createTlsServer } from '../../src/http/tls-server.ts'
import { ask, selfSigned } from './harness.ts'

const first = selfSigned('first')
const second = selfSigned('second')
const client = selfSigned('client')

const start = async (handler: RequestListener, timeouts: Timeouts = defaultTimeouts) => {
  const server = createTlsServer({ credentials: first, handler, timeouts })
  const port = await server.listen({ host: '127.0.0.1', port: 0 })
  return { server, port, [Symbol.asyncDispose]: () => server.close(0) }
}

const ok: RequestListener = (_request, response) => void response.end('ok')

const serverOf = async (port: number, options: ConnectionOptions = {}): Promise<TLSSocket> => {
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options })
  await once(socket, 'secureConnect')
  return socket
}

const subjectOf = (socket: TLSSocket): string | undefined => socket.getPeerX509Certificate()?.subject

/** One request over TLS, and the sessions that the server offered for later. */
const sessionsOf = async (port: number): Promise<Buffer[]> => {
  const socket = await serverOf(port)
  const sessions: Buffer[] = []
  socket.on('session', session => sessions.push(session))
  const end = once(socket, 'close')
  socket.resume()
  socket.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  await end
  return sessions
}

const resumes = async (port: number, session: Buffer): Promise<boolean> => {
  const socket = await serverOf(port, { session })
  const reused = socket.isSessionReused()
  socket.destroy()
  return reused
}

/** `openssl s_client` with one request; what it prints. */
const sClient = (port: number, args: readonly string[]): Promise<string> =>
  new Promise(resolve => {
    const child = execFile('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, ...args], (_error, out, err) =>
      resolve(out + err),
    )
    child.stdin?.end('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  })

/** Everything that the server says to these bytes, until it closes; a reset after its answer does not matter. */
const answerTo = async (port: number, bytes: string): Promise<string> => {
  const socket = await serverOf(port)
  let answer = ''
  socket.on('data', (chunk: Buffer) => {
    answer += chunk.toString('latin1')
  })
  socket.on('error', () => {})
  const end = new Promise(resolve => socket.once('close', resolve))
  socket.write(bytes)
  await end
  return answer
}

describe('what is spoken', () => {
  it('is TLS 1.3 and nothing older', async () => {
    await using running = await start(ok)
    const socket = await serverOf(running.port)
    expect(socket.getProtocol()).toBe('TLSv1.3')
    socket.destroy()
    await expect(serverOf(running.port, { maxVersion: 'TLSv1.2' })).rejects.toMatchObject({
      code: 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION',
    })
    expect(await sClient(running.port, ['-tls1_2'])).toContain('alert protocol version')
  })

  it('asks for a client certificate, takes any, and needs none', async () => {
    await using running = await start((request, response) => {
      const socket = request.socket as TLSSocket
      response.end(socket.getPeerX509Certificate()?.fingerprint256 ?? 'none')
    })
    expect((await ask(running.port, '/')).text).toBe('none')
    const shown = { cert: client.chain, key: client.key }
    expect((await ask(running.port, '/', { shown })).text).toBe(new X509Certificate(client.chain).fingerprint256)
  })
})

describe('resumption', () => {
  it('is possible with Node as it comes, which is what this file is about', async () => {
    const plain = createHttpsServer({ key: first.key, cert: first.chain }, ok)
    await new Promise<void>(resolve => plain.listen(0, '127.0.0.1', resolve))
    const { port } = plain.address() as AddressInfo
    const [session] = await sessionsOf(port)
    expect(await resumes(port, session as Buffer)).toBe(true)
    plain.closeAllConnections()
    plain.close()
  })

  it('never happens: no session that the server offers leads back', async () => {
    await using running = await start(ok)
    const sessions = await sessionsOf(running.port)
    for (const session of sessions) expect(await resumes(running.port, session)).toBe(false)
  })

  it('never happens for openssl s_client either, with whatever session it kept', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'agentca-session-'))
    const file = join(directory, 'session.pem')
    try {
      await using running = await start(ok)
      expect(await sClient(running.port, ['-ign_eof', '-sess_out', file])).toContain('New, TLSv1.3')
      const again = await sClient(running.port, ['-ign_eof', '-sess_in', file])
      expect(again).not.toContain('Reused,')
      expect(again).toContain('HTTP/1.1 200 OK')
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })
})

describe('the server certificate', () => {
  it('is swapped for new connections, while the present ones go on', async () => {
    await using running = await start(ok)
    const agent = new Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false })
    expect((await ask(running.port, '/', { agent })).text).toBe('ok')
    const [kept] = Object.values(agent.freeSockets).flat() as TLSSocket[]
    running.server.setCredentials(second)
    expect((await ask(running.port, '/', { agent })).text).toBe('ok')
    expect(subjectOf(kept as TLSSocket)).toBe('CN=first')
    const fresh = await serverOf(running.port)
    expect([subjectOf(fresh), fresh.getProtocol()]).toEqual(['CN=second', 'TLSv1.3'])
    fresh.destroy()
    agent.destroy()
    for (const session of await sessionsOf(running.port)) expect(await resumes(running.port, session)).toBe(false)
  })

  it('stays when key and certificate do not fit', async () => {
    await using running = await start(ok)
    expect(() => running.server.setCredentials({ key: first.key, chain: second.chain })).toThrow(/mismatch/)
    const socket = await serverOf(running.port)
    expect(subjectOf(socket)).toBe('CN=first')
    socket.destroy()
  })
})

describe('slow clients', () => {
  it('are cut off when their headers do not end', async () => {
    await using running = await start(ok, { ...defaultTimeouts, headersMs: 100, requestMs: 200, checkMs: 20 })
    expect(await answerTo(running.port, 'GET / HTTP/1.1\r\nHost: x\r\n')).toMatch(/^HTTP\/1\.1 408 /)
  })

  it('and headers of more than 16 KiB are refused', async () => {
    await using running = await start(ok)
    const long = `GET / HTTP/1.1\r\nHost: x\r\nX-Long: ${'x'.repeat(17_000)}\r\n\r\n`
    expect(await answerTo(running.port, long)).toMatch(/^HTTP\/1\.1 431 /)
  })
})

/** A server whose answers wait to be released, and tells when a request has arrived. */
const startHeld = async () => {
  const [arrived, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const running = await start(async (_request, response) => {
    arrived.resolve()
    await released.promise
    response.end('finished')
  })
  return { ...running, arrived: arrived.promise, release: released.resolve }
}

describe('the end', () => {
  it('waits for answers in flight, and takes nothing new', async () => {
    const held = await startHeld()
    const agent = new Agent({ keepAlive: true, rejectUnauthorized: false })
    const inFlight = ask(held.port, '/', { agent })
    await held.arrived
    const closed = held.server.close(60_000)
    await expect(serverOf(held.port)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    held.release()
    expect(await inFlight).toMatchObject({ status: 200, text: 'finished' })
    await closed
    agent.destroy()
  })

  it('cuts what is left after its grace: answers that never come, handshakes that never begin', async () => {
    const held = await startHeld()
    const silent = connectTcp(held.port, '127.0.0.1')
    await once(silent, 'connect')
    const waiting = ask(held.port, '/').catch((error: { code?: string }) => error.code)
    await held.arrived
    await held.server.close(50)
    expect(await waiting).toBe('ECONNRESET')
    silent.destroy()
  })
})
