// The socket on which the core hears its fronts: who is heard, and what becomes of everybody else.
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { concatBytes } from '../../src/base/bytes.ts'
import { createFrameReader, encodeFrame, type Frame } from '../../src/base/frames.ts'
import { silentLog } from '../../src/base/log.ts'
import { createFrontSocket, type ExpectedFront, type FrontSocket } from '../../src/front/front-socket.ts'
import { type FromFront, fromCoreLimit, protocolVersion } from '../../src/front/protocol.ts'
import { isPossessionChecked } from '../../src/http/call.ts'
import { connectionOf } from '../../src/http/presented-certificate.ts'

const secret = 'a'.repeat(64)
const none = new Uint8Array(0)

let directory: string
let path: string
let socket: FrontSocket
let said: FromFront[]
let ended: { times: number }
let served: string[]

/** Answers by what it was asked: an answer that waits for the next call shows that order is nobody's. */
let held: ServerResponse | null
const handler = (request: IncomingMessage, response: ServerResponse): void => {
  const { source } = connectionOf(request.socket)
  served.push(`${request.method} ${request.url} ${source}`)
  response.setHeader('X-Source', source)
  response.setHeader('X-Possession', String(isPossessionChecked(response)))
  if (request.url === '/hold') held = response
  else {
    response.statusCode = 201
    response.end(request.url)
    held?.end('held')
    held = null
  }
}

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-front-'))
  path = join(directory, 'front.sock')
  said = []
  served = []
  // Of this test alone: what an earlier one left may end now.
  const own = { times: 0 }
  ended = own
  held = null
  const front: ExpectedFront = {
    onOpen: channel => channel.tell({ t: 'ping' }),
    onMessage: message => said.push(message),
    onEnd: () => own.times++,
  }
  socket = createFrontSocket({ handler, log: silentLog, expected: given => (given === secret ? front : null) })
  await socket.listen(path)
})
afterEach(async () => {
  await socket.close()
  rmSync(directory, { recursive: true, force: true })
})

const hello = { t: 'hello', version: protocolVersion, secret, for: 'calls' }
const nobody = { source: '192.0.2.7', resumed: false, lengths: [] }

const open = async (): Promise<Socket> => {
  const client = connect(path)
  client.on('error', () => {})
  await once(client, 'connect')
  return client
}

/** Sends, and resolves with everything that came once the other end hangs up. */
const hungUp = async (bytes: Uint8Array): Promise<string> => {
  const client = await open()
  let heard = ''
  client.setEncoding('latin1').on('data', text => {
    heard += text
  })
  client.write(bytes)
  await once(client, 'close')
  return heard
}

const framesOf = (client: Socket, count: number): Promise<readonly Frame[]> =>
  new Promise(resolve => {
    const frames: Frame[] = []
    const read = createFrameReader(fromCoreLimit, frame => {
      if (frames.push(frame) === count) resolve(frames)
    })
    client.on('data', read)
  })

describe('the socket', () => {
  it('is its owner’s alone', () => {
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })

  it.skipIf(process.getuid?.() !== 0)('is closed to another user (as root only: it becomes nobody)', () => {
    // The directory is no protection here: the socket’s own mode is.
    chmodSync(directory, 0o755)
    // Python, because the runtime of the tests may lie where nobody may look.
    const connects = `import errno, socket
try: socket.socket(socket.AF_UNIX).connect(${JSON.stringify(path)}); print('in')
except OSError as e: print(errno.errorcode[e.errno])`
    const { stdout } = spawnSync('python3', ['-c', connects], { uid: 65_534, gid: 65_534, cwd: '/', encoding: 'utf8' })
    expect(stdout).toBe('EACCES\n')
  })

  it.each([
    ['with another secret', { ...hello, secret: 'b'.repeat(64) }],
    ['without one', { ...hello, secret: undefined }],
    ['of another version', { ...hello, version: 99 }],
    ['that begins with a call', { t: 'call', id: 1, connection: 1, path: '/v1/renew', possession: 'checked' }],
    ['with a stream whose certificates are not there', { ...hello, for: 'stream', ...nobody, lengths: [10] }],
  ])('hangs up on somebody %s', async (_, first) => {
    const call = encodeFrame({ t: 'open', connection: 1, ...nobody }, none)
    expect(await hungUp(concatBytes([encodeFrame(first, none), call]))).toBe('')
    expect([served, said]).toEqual([[], []])
  })

  it('hangs up on bytes that are no frame', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 8, maxLength: 64 }), async bytes => {
        // A length that a hello may have would only be waited for.
        bytes[0] = 0xff
        expect(await hungUp(bytes)).toBe('')
      }),
      { numRuns: 30 },
    )
    expect(await hungUp(new TextEncoder().encode('GET /v1/self HTTP/1.1\r\nHost: ca\r\n\r\n'))).toBe('')
    expect(served).toEqual([])
  })

  it('hears nothing of a hello that ends in the middle', async () => {
    const client = await open()
    client.end(encodeFrame(hello, none).subarray(0, 30))
    client.resume()
    await once(client, 'close')
    expect([served, said, ended.times]).toEqual([[], [], 0])
  })
})

describe('calls', () => {
  it('that come in one piece with the hello are answered each, in whatever order', async () => {
    const client = await open()
    const call = (id: number, path: string, possession: string) =>
      encodeFrame({ t: 'call', id, connection: 5, path, possession }, new Uint8Array([id]))
    const frames = framesOf(client, 3)
    client.write(
      concatBytes([
        encodeFrame(hello, none),
        encodeFrame({ t: 'open', connection: 5, ...nobody }, none),
        call(1, '/hold', 'unchecked'),
        call(2, '/now', 'checked'),
      ]),
    )
    const [ping, ...answers] = await frames
    expect(ping?.header).toEqual({ t: 'ping' })
    expect(
      answers.map(({ header, body }) => [header.id, header.status, header.headers, String.fromCharCode(...body)]),
    ).toEqual([
      [2, 201, ['X-Source', '192.0.2.7', 'X-Possession', 'true'], '/now'],
      [1, 200, ['X-Source', '192.0.2.7', 'X-Possession', 'false'], 'held'],
    ])
    client.destroy()
  })

  it.each([
    ['on a connection that is not open', { t: 'call', id: 1, connection: 6, path: '/now', possession: 'checked' }],
    ['after a second hello', hello],
    ['of an unknown kind', { t: 'answer', id: 1, status: 200, headers: [] }],
  ])('%s end the connection', async (_, message) => {
    await hungUp(
      concatBytes([
        encodeFrame(hello, none),
        encodeFrame({ t: 'open', connection: 5, ...nobody }, none),
        encodeFrame(message, none),
      ]),
    )
    expect(served).toEqual([])
    await expect.poll(() => ended.times).toBe(1)
  })

  it('on a connection that was shut end the connection', async () => {
    const shut = [
      { t: 'open', connection: 5, ...nobody },
      { t: 'shut', connection: 5 },
    ]
    const call = { t: 'call', id: 1, connection: 5, path: '/now', possession: 'checked' }
    await hungUp(concatBytes([hello, ...shut, call].map(each => encodeFrame(each, none))))
    expect(served).toEqual([])
  })
})

describe('a stream', () => {
  it('is HTTP from the first byte after its hello, by whom the hello says', async () => {
    const begin = encodeFrame({ ...hello, for: 'stream', ...nobody }, none)
    const forged = 'X-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\n'
    const get = `GET /one HTTP/1.1\r\nHost: ca\r\n${forged}\r\nGET /two HTTP/1.1\r\nHost: ca\r\nConnection: close\r\n\r\n`
    const heard = await hungUp(concatBytes([begin, new TextEncoder().encode(get)]))
    expect([...heard.matchAll(/HTTP\/1.1 201/g)]).toHaveLength(2)
    expect(served).toEqual(['GET /one 192.0.2.7', 'GET /two 192.0.2.7'])
  })

  it('may come in pieces of any size', async () => {
    const begin = encodeFrame({ ...hello, for: 'stream', ...nobody }, none)
    const all = concatBytes([
      begin,
      new TextEncoder().encode('GET /x HTTP/1.1\r\nHost: ca\r\nConnection: close\r\n\r\n'),
    ])
    for (const size of [1, 3, 50]) {
      const client = await open()
      client.setNoDelay(true).resume()
      for (let at = 0; at < all.length; at += size) {
        client.write(all.subarray(at, at + size))
        await new Promise(resolve => setImmediate(resolve))
      }
      await once(client, 'close')
    }
    expect(served).toEqual(Array(3).fill('GET /x 192.0.2.7'))
  })
})
