// HTTP/2 abuse of a backend's server that the verifier made: streams that are opened and reset for ever, frames without end. The
// session that does it is ended; the server goes on, and memory with it.
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { connect, type TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { agentVerifier } from '../../src/verifier/index.ts'
import { createFeedWorld, serveFeed } from '../feed/world.ts'
import { createTestIdentity } from '../verifier/backend.ts'

let end: (() => Promise<void>) | null = null
let port = 0
beforeAll(async () => {
  const world = await createFeedWorld()
  const serving = await serveFeed(world)
  const test = await createTestIdentity(world, await world.holder('service', 'orders'))
  test.moveTo(serving.port)
  const verifier = await agentVerifier({
    identity: test.identity,
    kinds: ['agent'],
    onStale: 'refuse',
    maxStaleness: '5m',
  })
  const server = verifier.createSecureServer(((_request: unknown, response: { end(text: string): void }) =>
    response.end('ok')) as never)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  port = (server.address() as AddressInfo).port
  end = async () => {
    server.close()
    await verifier[Symbol.asyncDispose]()
    await serving[Symbol.asyncDispose]()
    await world.front[Symbol.asyncDispose]()
  }
}, 60_000)
afterAll(async () => end?.())

const frame = (type: number, flags: number, stream: number, payload: Uint8Array = new Uint8Array()): Buffer => {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}
const [headersFrame, resetFrame, settingsFrame, pingFrame, continuationFrame] = [1, 3, 4, 6, 9]
const [endStream, endHeaders] = [1, 4]
/** `:method GET`, `:scheme https`, `:path /` of the static table, `:authority x` (RFC 7541 appendix A). */
const request = Buffer.from([0x82, 0x87, 0x84, 0x41, 0x01, 0x78])
const preface = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(settingsFrame, 0, 0)])

const opened = async (): Promise<TLSSocket> => {
  const socket = connect({ host: '127.0.0.1', port, ALPNProtocols: ['h2'], rejectUnauthorized: false })
  socket.on('error', () => {}).resume()
  await once(socket, 'secureConnect')
  expect(socket.alpnProtocol).toBe('h2')
  socket.write(preface)
  return socket
}

/** Writes as fast as it is taken, until the other side has had enough. */
const untilCut = async (frames: (round: number) => Buffer): Promise<number> => {
  const socket = await opened()
  let cut = false
  socket.once('close', () => {
    cut = true
  })
  let round = 0
  for (; !cut && round < 20_000; round++)
    if (!socket.write(frames(round))) await Promise.race([once(socket, 'drain'), once(socket, 'close')]).catch(() => {})
  if (!cut) socket.destroy()
  return cut ? round : Number.POSITIVE_INFINITY
}

/** Whoever comes next is answered. */
const answered = async (): Promise<number> => {
  const session = connectHttp2(`https://127.0.0.1:${port}`, { rejectUnauthorized: false })
  try {
    const stream = session.request({ ':path': '/' }).resume()
    const [headers] = (await once(stream, 'response')) as [Record<string, unknown>]
    return Number(headers[':status'])
  } finally {
    session.close()
  }
}

describe('HTTP/2 frames', () => {
  it('that open streams and reset them at once end their session (rapid reset, CVE-2023-44487)', async () => {
    const rounds = await untilCut(round =>
      Buffer.concat(
        Array.from({ length: 50 }, (_, i) => {
          const stream = 2 * (round * 50 + i) + 1
          return Buffer.concat([
            frame(headersFrame, endStream | endHeaders, stream, request),
            frame(resetFrame, 0, stream, Buffer.from([0, 0, 0, 8])),
          ])
        }),
      ),
    )
    expect(rounds).toBeLessThan(20_000)
    expect(await answered()).toBe(200)
  })

  it('of headers that go on without end end their session (continuation flood, CVE-2024-27983)', async () => {
    const more = frame(
      continuationFrame,
      0,
      1,
      Buffer.concat(Array.from({ length: 1000 }, () => Buffer.from([0x00, 1, 0x61, 1, 0x62]))),
    )
    const rounds = await untilCut(round => (round === 0 ? frame(headersFrame, endStream, 1, request) : more))
    expect(rounds).toBeLessThan(20_000)
    expect(await answered()).toBe(200)
  })

  it('of settings and pings that want answers nobody reads end their session (CVE-2019-9512, CVE-2019-9515)', async () => {
    for (const each of [frame(settingsFrame, 0, 0), frame(pingFrame, 0, 0, Buffer.alloc(8))]) {
      const many = Buffer.concat(Array.from({ length: 200 }, () => each))
      const socket = await opened()
      socket.pause()
      let cut = false
      socket.once('close', () => {
        cut = true
      })
      for (let round = 0; !cut && round < 2000; round++)
        if (!socket.write(many)) await Promise.race([once(socket, 'drain'), once(socket, 'close')])
      socket.destroy()
      expect(cut).toBe(true)
    }
    expect(await answered()).toBe(200)
  })
})
