// Fronts as processes before an application that is only a listener of requests: what it sees of callers, what callers see of it, and
// what becomes of both when one of them goes away. With the whole CA behind them: test/story/fronts.test.ts.
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { Agent, request as httpsRequest } from 'node:https'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { connect, type TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { createFronts, type Fronts, type FrontsOptions } from '../../src/front/fronts.ts'
import { isPossessionChecked } from '../../src/http/call.ts'
import { connectionOf, shownChain } from '../../src/http/presented-certificate.ts'
import type { Credentials } from '../../src/http/tls-server.ts'
import { type Ask, ask, createKey, type Reply, selfSigned } from '../http/harness.ts'

const rates = { anonymousPerMinute: 1_000_000, identityPerMinute: 1_000_000 }
const first = selfSigned('first')
const second = selfSigned('second')
const client = selfSigned('client')

let directory: string
let fronts: Fronts
let port: number
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-fronts-'))
  fronts = make('front.sock')
  port = await fronts.listen({ host: '127.0.0.1', port: 0 })
})
afterAll(async () => {
  await fronts?.close(0)
  rmSync(directory, { recursive: true, force: true })
})

const make = (name: string, more: Partial<FrontsOptions> = {}): Fronts =>
  createFronts({
    ...{ count: 2, socket: join(directory, name), credentials: first, handler, rates },
    ...{ clock: systemClock, log: silentLog },
    ...more,
  })

/** What the application was asked at `/open`, and has not answered to the end. */
const opened: { request: IncomingMessage; response: ServerResponse; ended: boolean }[] = []

/** As they came at `/v1/enroll`. */
const bodies: string[] = []

const describeCaller = (request: IncomingMessage, response: ServerResponse): string => {
  const { source, presented } = connectionOf(request.socket)
  const shown = shownChain(request.socket)?.map(der => der.length) ?? null
  const possession = isPossessionChecked(response)
  return JSON.stringify({ source, serial: presented?.certificate?.serialHex ?? null, shown, possession })
}

const routes: Readonly<Record<string, RequestListener>> = {
  '/v1/renew': (request, response) => {
    response.setHeader('X-Way', request.constructor.name)
    response.end(describeCaller(request, response))
  },
  '/v1/enroll': (request, response) => {
    const at = bodies.push('') - 1
    request.setEncoding('utf8').on('data', text => {
      bodies[at] += text
    })
    request.once('end', () => response.end())
  },
  '/who': (request, response) => response.end(describeCaller(request, response)),
  '/echo': (request, response) => {
    response.setHeader('X-Had', request.headers['content-length'] ?? request.headers['transfer-encoding'] ?? 'neither')
    request.pipe(response)
  },
  '/refused': (_request, response) => {
    response.statusCode = 413
    response.setHeader('Connection', 'close')
    response.end('too long')
  },
  '/open': (request, response) => {
    const open = { request, response, ended: false }
    opened.push(open)
    response.once('close', () => {
      open.ended = true
    })
    response.useChunkedEncodingByDefault = false
    response.setHeader('Connection', 'close')
    response.write('begun\n')
  },
}
const handler: RequestListener = (request, response) => {
  const route = routes[(request.url ?? '').split('?')[0] ?? '']
  if (route !== undefined) return route(request, response)
  response.statusCode = 404
  response.end()
}

const call = (path: string, asked: Ask = {}): Promise<Reply> => ask(port, path, asked)
const subjectOf = async (at: number): Promise<string | undefined> => {
  const socket = connect({ host: '127.0.0.1', port: at, rejectUnauthorized: false })
  await once(socket, 'secureConnect')
  const { subject } = socket.getPeerCertificate()
  socket.destroy()
  return subject.CN as string
}

/** A connection that has read the beginning of an answer without an end. */
const openStream = async (): Promise<{ socket: TLSSocket; text: () => string }> => {
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false })
  let text = ''
  socket.on('error', () => {})
  socket.setEncoding('utf8').on('data', chunk => {
    text += chunk
  })
  socket.write('GET /open HTTP/1.1\r\nHost: ca\r\n\r\n')
  await expect.poll(() => text).toContain('begun\n')
  return { socket, text: () => text }
}

describe('the application sees', () => {
  it('where a caller is and what it showed, on either way, whatever headers say', async () => {
    const key = await createKey()
    const forged = {
      'X-Forwarded-For': '10.0.0.1',
      Forwarded: 'for=10.0.0.1',
      'X-Client-Cert': 'x',
      'X-Possession': 'checked',
    }
    const shown = { cert: client.chain, key: client.key }
    const hot = await call('/v1/renew', { body: { csr: key.csrText }, headers: forged, shown })
    expect(hot.headers['x-way']).toBe('CalledRequest')
    const other = await call('/who', { headers: forged, shown })
    const { serialNumber, raw } = new X509Certificate(client.chain)
    const seen = { source: '127.0.0.1', serial: serialNumber.toLowerCase(), shown: [raw.length] }
    for (const { text } of [hot, other]) expect(JSON.parse(text)).toMatchObject(seen)
    const nothing = { source: '127.0.0.1', serial: null, shown: null }
    expect(JSON.parse((await call('/who', { headers: forged })).text)).toMatchObject(nothing)
    expect(JSON.parse((await call('/v1/renew', { body: {}, headers: forged })).text)).toMatchObject(nothing)
  })

  it('that a request is signed by its key only where it is', async () => {
    const possession = async (csr: unknown) =>
      JSON.parse((await call('/v1/renew', { body: { csr } })).text).possession as boolean
    const { csr, csrText } = await createKey()
    expect(await possession(csrText)).toBe(true)
    expect(await possession(Buffer.from(csr).toString('base64'))).toBe(true)
    const spoilt = Buffer.from(csr)
    spoilt[spoilt.length - 1]! ^= 1
    for (const wrong of [spoilt.toString('base64'), 'AAAA', '', 7, null, undefined])
      expect(await possession(wrong)).toBe(false)
  })

  it.each([
    ['with a query', '/v1/renew?x=1', {}],
    ['of another type', '/v1/renew', { 'Content-Type': 'text/plain' }],
    ['that expects to be asked for its body', '/v1/renew', { Expect: '100-continue' }],
    ['encoded', '/v1/renew', { 'Content-Encoding': 'gzip' }],
  ])('a request %s as it came', async (_, path, headers) => {
    const reply = await call(path, { body: '{}', method: 'POST', headers })
    expect(reply.headers['x-way']).toBe('IncomingMessage')
  })

  it('a body that comes late, whole', async () => {
    const late = httpsRequest({
      ...{ host: '127.0.0.1', port, path: '/v1/enroll', method: 'POST', rejectUnauthorized: false, agent: false },
      headers: { 'Content-Type': 'application/json', 'Content-Length': 2 },
    })
    late.write('{')
    // A front waits for a while, then leaves the waiting to the application.
    await expect.poll(() => bodies.length).toBe(1)
    late.end('}')
    const [answer] = (await once(late, 'response')) as [IncomingMessage]
    expect([answer.statusCode, bodies]).toEqual([200, ['{}']])
    answer.resume()
  })
})

describe('a caller gets', () => {
  it('what the application says to a body of any size and framing', async () => {
    const large = 'x'.repeat(3_000_000)
    const counted = await call('/echo', { body: large, method: 'PUT' })
    expect([counted.text.length, counted.headers['x-had']]).toEqual([large.length, String(large.length)])
    const chunked = await new Promise<Reply['headers']>((resolve, reject) => {
      const options = {
        host: '127.0.0.1',
        port,
        path: '/echo',
        method: 'POST',
        rejectUnauthorized: false,
        agent: false,
      }
      const request = httpsRequest(options, answer => answer.resume().once('end', () => resolve(answer.headers)))
      request.once('error', reject)
      request.write('in two')
      request.end(' pieces')
    })
    expect(chunked['x-had']).toBe('chunked')
    expect((await call('/echo', { method: 'POST' })).headers['x-had']).toBe('0')
    expect((await call('/echo')).headers['x-had']).toBe('neither')
    expect((await call('/echo', { method: 'HEAD' })).status).toBe(200)
    expect((await call('/nothing')).status).toBe(404)
  })

  it('the refusal of a body that is too long to be read, each time', async () => {
    for (let i = 0; i < 20; i++) {
      const size = 4_194_305
      const refused = await new Promise<number>((resolve, reject) => {
        const request = httpsRequest({
          ...{ host: '127.0.0.1', port, path: '/refused', method: 'POST', rejectUnauthorized: false, agent: false },
          headers: { 'Content-Type': 'application/json', 'Content-Length': size },
        })
        request.once('response', answer => resolve(answer.resume().statusCode ?? 0)).once('error', reject)
        request.write(Buffer.alloc(1_000_000))
      })
      expect(refused).toBe(413)
    }
  })

  it('one answer after the other on a kept connection, hot or not', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    for (const path of ['/who', '/v1/renew', '/echo', '/v1/renew'])
      expect((await call(path, { agent, ...(path === '/v1/renew' ? { body: {} } : {}) })).status).toBe(200)
    agent.destroy()
  })

  it('a stream as it grows, and its end', async () => {
    const { socket, text } = await openStream()
    const { response } = opened.at(-1)!
    response.write('more\n')
    await expect.poll(text).toContain('more\n')
    const closed = once(socket, 'close')
    response.end('done')
    await closed
    expect(text()).toMatch(/begun\nmore\ndone$/)
    // The same bytes to everybody: no chunks around them.
    expect(text()).not.toMatch(/transfer-encoding/i)
  })

  it('the end of its connection when the application breaks off', async () => {
    const { socket } = await openStream()
    const closed = once(socket, 'close')
    opened.at(-1)!.response.destroy()
    await closed
  })
})

it('who hangs up is hung up on in the application', async () => {
  const { socket } = await openStream()
  const open = opened.at(-1)!
  socket.destroy()
  await expect.poll(() => open.ended).toBe(true)
})

describe('a front', () => {
  const pids = (): readonly (number | null)[] => fronts.reports().map(({ pid }) => pid)
  const allListen = (of: Fronts): Promise<void> =>
    expect.poll(() => of.reports().every(({ listening }) => listening)).toBe(true)

  it('that is killed leaves its callers with a broken connection, and another takes its place', async () => {
    const before = pids()
    const streams = [await openStream(), await openStream(), await openStream(), await openStream()]
    const closed = streams.map(({ socket }) => once(socket, 'close'))
    for (const pid of before) process.kill(pid!, 'SIGKILL')
    await Promise.all(closed)
    await expect.poll(() => opened.every(({ ended }) => ended)).toBe(true)
    await allListen(fronts)
    expect(pids().filter(pid => before.includes(pid))).toEqual([])
    expect((await call('/who')).status).toBe(200)
  })

  it('that is asked to end finishes what it took, and another takes its place', async () => {
    const one = make('asked.sock', { count: 1 })
    try {
      const at = await one.listen({ host: '127.0.0.1', port: 0 })
      const pid = one.reports()[0]?.pid as number
      const count = opened.length
      const answer = ask(at, '/open')
      await expect.poll(() => opened.length).toBe(count + 1)
      process.kill(pid, 'SIGTERM')
      await expect
        .poll(() =>
          ask(at, '/who').then(
            () => 'in',
            error => error.code,
          ),
        )
        .toBe('ECONNREFUSED')
      opened.at(-1)!.response.end('done')
      expect((await answer).text).toBe('begun\ndone')
      await expect.poll(() => one.reports()[0]?.pid !== pid && one.reports()[0]?.listening).toBe(true)
      expect((await ask(at, '/who')).status).toBe(200)
    } finally {
      await one.close(0)
    }
  })

  it('that does not answer is killed, and another takes its place', async () => {
    const one = make('silent.sock', { count: 1, silentMs: 2_000 })
    try {
      await one.listen({ host: '127.0.0.1', port: 0 })
      const pid = one.reports()[0]?.pid as number
      process.kill(pid, 'SIGSTOP')
      await expect.poll(() => one.reports()[0]?.pid !== pid && one.reports()[0]?.listening).toBe(true)
    } finally {
      await one.close(0)
    }
  })

  it('is not taken for silent while the core stands still', async () => {
    const one = make('patient.sock', { count: 1, silentMs: 4_000 })
    try {
      const at = await one.listen({ host: '127.0.0.1', port: 0 })
      const pid = one.reports()[0]?.pid
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5_000)
      // What is due runs before this goes on: a front that was killed answers nothing.
      await delay(20)
      expect((await ask(at, '/who')).status).toBe(200)
      expect(one.reports()).toMatchObject([{ pid, starts: 1 }])
    } finally {
      await one.close(0)
    }
  })
})

describe('all fronts', () => {
  it('keep the key that they have when they are told one that does not fit', async () => {
    expect(() => fronts.setCredentials({ key: first.key, chain: second.chain })).toThrow(/key values mismatch/)
    expect(await subjectOf(port)).toBe('first')
  })

  it('show the key that they were told last', async () => {
    const shown = (credentials: Credentials) => fronts.setCredentials(credentials)
    expect(await subjectOf(port)).toBe('first')
    shown(second)
    // The kernel chooses the front: so many connections meet both.
    await expect
      .poll(async () => new Set(await Promise.all(Array.from({ length: 16 }, () => subjectOf(port)))))
      .toEqual(new Set(['second']))
    shown(first)
  })

  it('do not share a port with a program that has it', async () => {
    const taken = createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const { port: at } = taken.address() as { port: number }
    const others = make('taken.sock')
    await expect(others.listen({ host: '127.0.0.1', port: at })).rejects.toMatchObject({ code: 'EADDRINUSE' })
    await others.close(0)
    taken.close()
    // Nor with the fronts of another core, which would share it.
    const rivals = make('rivals.sock')
    await expect(rivals.listen({ host: '127.0.0.1', port })).rejects.toMatchObject({ code: 'EADDRINUSE' })
    await rivals.close(0)
  })

  it('answer what they took before they end, and take nothing new', async () => {
    const two = make('drained.sock')
    const at = await two.listen({ host: '127.0.0.1', port: 0 })
    const count = opened.length
    const answers = Array.from({ length: 4 }, () => ask(at, '/open'))
    await expect.poll(() => opened.length).toBe(count + 4)
    const closed = two.close(60_000)
    await expect
      .poll(() =>
        ask(at, '/who').then(
          () => 'in',
          error => error.code,
        ),
      )
      .toBe('ECONNREFUSED')
    for (const { response } of opened.slice(count)) response.end('done')
    for (const answer of answers) expect((await answer).text).toBe('begun\ndone')
    await closed
    expect(two.reports().map(({ pid }) => pid)).toEqual([null, null])
    expect(existsSync(join(directory, 'drained.sock'))).toBe(false)
  })
})
