// Events through real files, TLS connections and HTTPS requests: at least once, in the order of the log, whatever happens to the receiver.
import { execFileSync } from 'node:child_process'
import { appendFileSync, existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { operatorAction } from '../../src/audit/events.ts'
import { checkBody } from '../../src/events/webhook-signature.ts'
import { selfSigned } from '../http/harness.ts'
import { blockWith } from '../setup/documents.ts'
import { freePort } from '../setup/free-port.ts'
import { until } from '../story/until.ts'
import { eventWorld, type Scratch, scratch, secret, syslogServer, webhookServer } from './receivers.ts'

let place: Scratch
beforeEach(() => {
  place = scratch()
})
afterEach(() => place[Symbol.dispose]())

interface Line {
  readonly id: string
  readonly sequence: number
  readonly subject: string
}

/** Whole lines: the last one may be on its way. */
const linesOf = (path: string): readonly Line[] =>
  readFileSync(path, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map(line => JSON.parse(line))
const subjects = (rows: readonly { readonly subject: string }[]) => rows.map(({ subject }) => subject)

describe('JSON lines', () => {
  test('are written in the log’s order to a file that only its owner reads, and a restart loses and repeats none', async () => {
    const world = eventWorld()
    const file = place.path('events.jsonl')
    const first = world.start({ jsonl: { file } })
    await world.append('a', 'b')
    await until('events arrive', () => existsSync(file) && linesOf(file).length === 2)
    await first.close()
    await world.append('c')
    const second = world.start({ jsonl: { file } })
    await world.append('d')
    await until('events arrive', () => linesOf(file).length >= 4)
    await second.close()
    expect(subjects(linesOf(file))).toEqual(['agent:a', 'agent:b', 'agent:c', 'agent:d'])
    expect(linesOf(file)[0]).toMatchObject({
      id: 'ca-1/0',
      kind: 'revoked',
      severity: 'medium',
      actor: 'operator:alice',
      source: '192.0.2.7',
      facts: { why: 'größe a 🎈' },
    })
    expect(statSync(file).mode & 0o777).toBe(0o600)
  })

  test('go to a new file after a rotation', async () => {
    const world = eventWorld()
    const file = place.path('events.jsonl')
    const events = world.start({ jsonl: { file } })
    await world.append('a')
    await until('events arrive', () => existsSync(file) && linesOf(file).length === 1)
    renameSync(file, `${file}.1`)
    events.reopen()
    await world.append('b')
    await until('events arrive', () => existsSync(file) && linesOf(file).length === 1)
    await events.close()
    expect([subjects(linesOf(`${file}.1`)), subjects(linesOf(file))]).toEqual([['agent:a'], ['agent:b']])
  })

  test('begin a new line after one that a crash tore', async () => {
    const world = eventWorld()
    const file = place.path('events.jsonl')
    appendFileSync(file, '{"id":"ca-1/0","kin')
    const events = world.start({ jsonl: { file } })
    await world.append('a')
    await until('events arrive', () => readFileSync(file, 'utf8').endsWith('}\n'))
    await events.close()
    expect(readFileSync(file, 'utf8').split('\n').slice(0, 2)).toEqual([
      '{"id":"ca-1/0","kin',
      expect.stringContaining('agent:a'),
    ])
  })

  test('wait in the log while the file cannot be written, and say so', async () => {
    const world = eventWorld()
    const file = place.path('gone/events.jsonl')
    writeFileSync(place.path('gone'), 'no directory')
    const events = world.start({ jsonl: { file } })
    await world.append('a')
    await until('events arrive', () => events.status()[0]!.failures > 1)
    expect(events.status()[0]).toMatchObject({ sink: 'jsonl', state: 'retrying', behind: 1, dead: 0 })
    rmSync(place.path('gone'))
    await until('events arrive', () => existsSync(file) && linesOf(file).length === 1)
    await until('it says so', () => events.status()[0]!.behind === 0)
    expect(events.status()[0]).toMatchObject({ state: 'live', error: null })
    await events.close()
  })
})

describe('syslog', () => {
  const to = (port: number, more: { serverName?: string; caFile?: string } = {}) => ({
    syslog: { host: '127.0.0.1', port, caFile: place.caFile, ...more },
  })

  test('gets RFC 5424 messages in RFC 5425 frames, in order', async () => {
    const server = await syslogServer(place)
    const world = eventWorld()
    const events = world.start(to(server.port))
    await world.append('a', 'b')
    await until('events arrive', () => server.messages.length === 2)
    await events.close()
    await server.close()
    expect(server.faults).toEqual([])
    // log audit (13), notice (5) would be low: a revocation is medium, warning (4).
    expect(server.messages[0]).toMatchObject({
      priority: 13 * 8 + 4,
      app: 'agentca',
      messageId: 'revoked',
      data: '[meta sequenceId="1"]',
    })
    expect(JSON.parse(server.messages[1]!.text)).toMatchObject({ id: 'ca-1/1', facts: { why: 'größe b 🎈' } })
    expect(world.ledger.eventCursors.get('syslog')).toBe(2)
  })

  test('is sent again what was written before the connection broke, and nothing is lost', async () => {
    const server = await syslogServer(place)
    const world = eventWorld()
    const events = world.start(to(server.port))
    await world.append('a')
    await until('events arrive', () => server.messages.length === 1)
    // Written, and perhaps never read: not believed yet.
    expect(world.ledger.eventCursors.get('syslog')).toBe(0)
    await server.close()
    await world.append('b', 'c')
    await until('events arrive', () => events.status()[0]!.failures > 0)
    const again = await syslogServer(place, server.port)
    await until('events arrive', () => again.messages.length >= 3)
    await events.close()
    await again.close()
    expect(again.messages.map(({ text }) => JSON.parse(text).subject)).toEqual(['agent:a', 'agent:b', 'agent:c'])
  })

  test('gets nothing when its certificate is of another CA, or for another name', async () => {
    const server = await syslogServer(place)
    const world = eventWorld()
    const stranger = place.file('other-ca.pem', selfSigned('localhost').chain)
    for (const wrong of [{ caFile: stranger }, { serverName: 'logs.example.org' }]) {
      const events = world.start(to(server.port, wrong))
      await world.append('a')
      await until('events arrive', () => events.status()[0]!.failures > 0)
      await events.close()
    }
    await server.close()
    expect(server.messages).toEqual([])
  })
})

describe('webhooks', () => {
  const to = (url: string) => ({ webhook: { url, secretFile: place.secretFile, caFile: place.caFile } })

  test('are signed over the time and the very bytes, as openssl computes it too', async () => {
    const server = await webhookServer(place, () => 204)
    const world = eventWorld()
    const events = world.start(to(server.url))
    await world.append('a', 'b')
    await until('events arrive', () => events.status()[0]!.behind === 0)
    await events.close()
    await server.close()
    const told = server.deliveries.flatMap(({ body }) => JSON.parse(body.toString()) as { subject: string }[])
    expect(subjects(told)).toEqual(['agent:a', 'agent:b'])
    const { body, signature } = server.deliveries[0]!
    const at = { nowMs: Date.now(), toleranceMs: 60_000 }
    expect(checkBody(secret, signature, body, at).ok).toBe(true)
    expect(checkBody(secret, signature, Buffer.concat([body, Buffer.from(' ')]), at)).toEqual({
      ok: false,
      why: 'wrong',
    })
    const seconds = /^t=(\d+),/.exec(signature!)![1]
    const digest = execFileSync('openssl', ['dgst', '-sha256', '-hmac', secret, '-r'], {
      input: Buffer.concat([Buffer.from(`${seconds}.`), body]),
      encoding: 'utf8',
    }).split(' ')[0]
    expect(signature).toBe(`t=${seconds},v1=${digest}`)
    // What docs/events.md gives a receiver.
    const receiver = place.file('receiver.mjs', blockWith('docs/events.md', 'js', 'isGenuine').text)
    const { isGenuine } = (await import(receiver)) as { isGenuine(key: string, header: string, bytes: Buffer): boolean }
    expect(isGenuine(secret, signature!, body)).toBe(true)
    expect(isGenuine(secret, signature!, Buffer.from('[]'))).toBe(false)
    expect(isGenuine(secret, `t=${Number(seconds) - 301},v1=${digest}`, body)).toBe(false)
  })

  test('are repeated with the same key until they are taken, and later ones wait behind them', async () => {
    const server = await webhookServer(place, n => (n === 0 ? 500 : n === 1 ? 'cut' : n === 2 ? 429 : 200))
    const world = eventWorld()
    const events = world.start(to(server.url))
    await world.append('a')
    await until('events arrive', () => server.deliveries.length >= 4)
    await world.append('b')
    await until('events arrive', () => events.status()[0]!.behind === 0)
    await events.close()
    await server.close()
    const keys = server.deliveries.slice(0, 4).map(({ key }) => key)
    expect(new Set(keys)).toEqual(new Set(['ca-1/0-0']))
    expect(events.status()[0]).toMatchObject({ dead: 0, failures: 0 })
    expect(JSON.parse(server.deliveries.at(-1)!.body.toString())[0].subject).toBe('agent:b')
  })

  test('that are refused for good are counted and left out, and the next ones come', async () => {
    const server = await webhookServer(place, n => (n < 3 ? 422 : 200))
    const world = eventWorld()
    await world.append('before')
    const events = world.start(to(server.url), { pollMs: 10, backoffMs: [5, 10], keepEveryMs: 0, tries: 3 })
    await world.append('bad')
    await until('events arrive', () => events.status()[0]!.dead === 1)
    await world.append('good')
    await until('events arrive', () => events.status()[0]!.behind === 0)
    await events.close()
    await server.close()
    expect(server.deliveries.map(({ body }) => JSON.parse(body.toString())[0].subject)).toEqual([
      'agent:bad',
      'agent:bad',
      'agent:bad',
      'agent:good',
    ])
    expect(world.ledger.eventCursors.dead('webhook')).toBe(1)
  })

  test('that share a request with a poisoned one all arrive, and only that one is left out', async () => {
    const isPoisoned = (body: Buffer): boolean => body.includes('agent:bad')
    const server = await webhookServer(place, (_, body) => (isPoisoned(body) ? 422 : 200))
    const world = eventWorld()
    const pace = { pollMs: 10, backoffMs: [5, 10], keepEveryMs: 0, tries: 3 } as const
    await world.start(to(server.url), pace).close()
    const names = Array.from({ length: 12 }, (_, i) => (i === 0 || i === 7 ? `bad-${i}` : `good-${i}`))
    await world.append(...names)
    const events = world.start(to(server.url), pace)
    await until('events arrive', () => events.status()[0]!.behind === 0)
    await world.append('later-1', 'later-2')
    await until('events arrive', () => events.status()[0]!.behind === 0)
    await events.close()
    await server.close()
    const taken = server.deliveries.filter(({ body }) => !isPoisoned(body))
    expect(taken.flatMap(({ body }) => subjects(JSON.parse(body.toString())))).toEqual(
      [...names, 'later-1', 'later-2'].filter(name => !name.startsWith('bad')).map(name => `agent:${name}`),
    )
    const sizes = server.deliveries
      .filter(({ body }) => isPoisoned(body))
      .map(({ body }) => JSON.parse(`${body}`).length)
    expect(sizes).toEqual([12, 12, 12, 1, 1, 1, 1])
    expect(events.status()[0]).toMatchObject({ dead: 2, failures: 0, state: 'live' })
    expect(world.ledger.eventCursors.dead('webhook')).toBe(2)
  })
})

test('each sink has a cursor of its own: one that is down keeps nobody waiting, the log least of all', async () => {
  const world = eventWorld()
  const file = place.path('events.jsonl')
  const closed = await freePort()
  const events = world.start({
    jsonl: { file },
    webhook: { url: `https://127.0.0.1:${closed}/`, secretFile: place.secretFile, caFile: place.caFile },
  })
  for (let i = 0; i < 500; i++) await world.append(`n-${i}`)
  await until('events arrive', () => events.status()[0]!.behind === 0)
  expect(linesOf(file)).toHaveLength(500)
  expect(events.status().map(({ sink, state, behind }) => [sink, state, behind])).toEqual([
    ['jsonl', 'live', 0],
    ['webhook', 'retrying', 500],
  ])
  const leaf = operatorAction({ at: Date.now(), who: 'operator:alice' }, { action: 'events_test' })
  expect(await events.test(leaf, 300)).toEqual([
    { sink: 'jsonl', delivered: true, error: null },
    { sink: 'webhook', delivered: false, error: expect.stringContaining('ECONNREFUSED') },
  ])
  await events.close()
})

test('only the kinds that are wanted go out', async () => {
  const world = eventWorld()
  const file = place.path('events.jsonl')
  const events = world.start({ jsonl: { file }, except: new Set(['revoked']) })
  await world.append('a')
  const leaf = operatorAction({ at: Date.now(), who: 'operator:alice' }, { action: 'events_test' })
  expect(await events.test(leaf, 2000)).toMatchObject([{ delivered: true }])
  await events.close()
  expect(linesOf(file).map(({ sequence }) => sequence)).toEqual([1])
})
