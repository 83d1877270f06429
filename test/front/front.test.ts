// What a front does with the keys that it is told, in whatever moment.
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { utf8 } from '../../src/base/bytes.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { type Front, startFront } from '../../src/front/front.ts'
import { createFrontSocket, type FrontChannel, type FrontSocket } from '../../src/front/front-socket.ts'
import type { FromCore, FromFront } from '../../src/front/protocol.ts'
import type { Credentials } from '../../src/http/tls-server.ts'
import { selfSigned } from '../http/harness.ts'

const secret = 'a'.repeat(64)
const first = selfSigned('first')
const second = selfSigned('second')
const unfit: Credentials = { key: first.key, chain: second.chain }
const facts = (credentials: Credentials) => ({
  address: { host: '127.0.0.1', port: 0, reusePort: false },
  ...{ credentials, maxConnections: 10, rates: { anonymousPerMinute: 100, identityPerMinute: 100 } },
})

let directory: string
let core: FrontSocket
let said: FromFront[]
let channel: FrontChannel
let front: Front
let ended: Promise<string>
const tell = (t: 'start' | 'credentials', what: unknown): void =>
  channel.tell({ t } as FromCore, utf8(JSON.stringify(what)))

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-front-'))
  const socket = join(directory, 'front.sock')
  said = []
  const open = Promise.withResolvers<FrontChannel>()
  core = createFrontSocket({
    handler: (_request, response) => void response.end(),
    log: silentLog,
    expected: () => ({ onOpen: open.resolve, onMessage: message => said.push(message), onEnd: () => {} }),
  })
  await core.listen(socket)
  ended = new Promise(resolve => {
    front = startFront({ place: { socket, secret }, clock: systemClock, log: silentLog, onEnd: resolve })
  })
  channel = await open.promise
})
afterEach(async () => {
  front.drain(0)
  await ended
  await core.close()
  rmSync(directory, { recursive: true, force: true })
})

const heard = async <T extends FromFront['t']>(t: T): Promise<Extract<FromFront, { t: T }>> => {
  await expect.poll(() => said.map(message => message.t)).toContain(t)
  return said.find(message => message.t === t) as Extract<FromFront, { t: T }>
}
const subjectOf = async (port: number): Promise<unknown> => {
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false })
  await once(socket, 'secureConnect')
  const { subject } = socket.getPeerCertificate()
  socket.destroy()
  return subject.CN
}

test('a key that is told between the start and the first connection is the one that is shown', async () => {
  tell('start', facts(first))
  tell('credentials', second)
  expect(await subjectOf((await heard('listening')).port)).toBe('second')
})

test('a key that does not fit changes nothing', async () => {
  tell('start', facts(first))
  tell('credentials', unfit)
  const { port } = await heard('listening')
  expect(await subjectOf(port)).toBe('first')
  tell('credentials', unfit)
  channel.tell({ t: 'ping' })
  await heard('pong')
  expect(await subjectOf(port)).toBe('first')
})

test('a front that is started with a key that does not fit says so', async () => {
  tell('start', facts(unfit))
  expect(await heard('failed')).toMatchObject({ code: 'ERR_OSSL_X509_KEY_VALUES_MISMATCH' })
})
