// The feed over mTLS: who gets what, where a stream begins and goes on, and that nothing comes before its commit.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createFeedWorld, isType, reaches, type Serving, serveFeed, type World } from './world.ts'

let world: World
let serving: Serving
beforeAll(async () => {
  world = await createFeedWorld()
  serving = await serveFeed(world)
})
afterAll(async () => {
  await serving?.[Symbol.asyncDispose]()
  await world?.front[Symbol.asyncDispose]()
})

const head = () => world.ledger.feed.head().n

describe('a stream', () => {
  it('begins with the whole state, says that it is current, and goes on with each entry in order', async () => {
    const service = await world.holder('service', 'orders')
    const agent = await world.holder('agent', 'begins')
    const revoked = await world.holder('agent', 'revoked-before')
    await world.revoke('serial', revoked.serial)
    await using reader = await serving.read(service)
    expect([reader.status, reader.headers['content-type'], reader.headers['x-accel-buffering']]).toEqual([
      200,
      'text/event-stream',
      'no',
    ])
    const beat = await reader.until(isType('heartbeat'))
    expect(beat).toMatchObject({ position: serving.feed.head(), leaseSeconds: 15 })
    const [registrations, statuses] = reader.events
    expect(registrations).toMatchObject({
      type: 'snapshot',
      part: 1,
      parts: 2,
      position: beat.position,
      principals: expect.arrayContaining([
        expect.objectContaining({ kind: 'service', name: 'orders', state: 'active', version: 1 }),
        expect.objectContaining({ name: 'begins', roles: ['reader'], attributes: { region: 'eu' }, scopes: [] }),
      ]),
    })
    expect(statuses).toMatchObject({
      part: 2,
      revoked: [{ serial: revoked.serial, notAfter: revoked.notAfter }],
      held: [],
    })

    const before = head()
    await world.setState('agent', 'begins', 'held')
    await world.setState('agent', 'begins', 'active')
    const n = await world.revoke('agent', 'begins')
    await reader.until(reaches(n))
    const news = reader.events.filter(event => event.type !== 'heartbeat' && event.position.n > before)
    expect(news.map(event => event.position.n)).toEqual(Array.from({ length: n - before }, (_, i) => before + i + 1))
    expect(news.map(event => event.type)).toEqual(['hold', 'agent', 'release', 'agent', 'revoke'])
    expect(news.at(-1)).toMatchObject({
      by: 'agent',
      value: 'begins',
      reason: 'keyCompromise',
      changes: [{ serial: agent.serial, notAfter: agent.notAfter }],
    })
  })

  it('goes on after the last event that the reader has, by header or by query, the header first', async () => {
    const service = await world.holder('service', 'goes-on')
    const from = head()
    for (let i = 0; i < 40; i++) await world.register('agent', `goes-on-${i}`)
    const entries = async (options: Parameters<Serving['read']>[1]) => {
      await using reader = await serving.read(service, options)
      await reader.until(isType('heartbeat'))
      return reader.events.slice(0, -1).map(event => `${event.type} ${event.position.n}`)
    }
    const expected = Array.from({ length: 40 }, (_, i) => `agent ${from + i + 1}`)
    expect(await entries({ since: serving.id(from) })).toEqual(expected)
    expect(await entries({ lastEventId: serving.id(from + 30) })).toEqual(expected.slice(30))
    expect(await entries({ lastEventId: serving.id(from + 39), since: serving.id(from) })).toEqual(expected.slice(39))
    expect(await entries({ since: serving.id(from + 40) })).toEqual([])
  })

  it.each([
    ['nothing is known', () => ({})],
    ['the epoch is another', () => ({ since: `0123456789abcdef.${head()}` })],
    ['it is ahead of the head', () => ({ since: serving.id(head() + 1) })],
    ['the id is none', () => ({ since: 'yesterday' })],
  ])('begins with a snapshot, and what came after it, when %s', async (_, options) => {
    const service = await world.holder('service', 'snapshot')
    await using reader = await serving.read(service, options())
    await reader.until(isType('heartbeat'))
    const [snapshot, ...rest] = reader.events.filter(event => event.type !== 'snapshot' || event.part === event.parts)
    expect(snapshot?.type).toBe('snapshot')
    const from = snapshot!.position.n
    const numbers = Array.from({ length: head() - from }, (_, i) => from + i + 1)
    expect(rest.map(event => event.position.n)).toEqual([...numbers, head()])
  })

  it('is refused without a certificate, with HEAD, and with a subscriber that is no name', async () => {
    const service = await world.holder('service', 'refused')
    expect((await serving.call('/v1/feed', {})).body.code).toBe('client_certificate_missing')
    const head = await serving.call('/v1/feed', { shown: service, method: 'HEAD' })
    expect([head.status, head.headers.allow]).toEqual([405, 'GET'])
    expect((await serving.call('/v1/feed', { shown: service, method: 'POST', body: {} })).status).toBe(405)
    for (const query of ['subscriber=a%20b', 'maxStaleness=-1', 'unknown=1'])
      expect((await serving.call(`/v1/feed?${query}`, { shown: service })).status).toBe(422)
  })

  it('names every certificate that a revocation covers', async () => {
    const service = await world.holder('service', 'listens')
    await using reader = await serving.read(service)
    await reader.until(isType('heartbeat'))
    await world.register('agent', 'many')
    await Promise.all(Array.from({ length: 50 }, () => world.holder('agent', 'many')))
    const n = await world.revoke('agent', 'many')
    const event = await reader.until(reaches(n))
    expect(event).toMatchObject({ type: 'revoke', changes: { length: 50 } })
  })
})
