// Acknowledgements over HTTP, and what operators see of them: by whom, of what, and how they are refused.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createFeedWorld, type Holder, isType, reaches, type Serving, serveFeed, type World } from '../feed/world.ts'

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

const acknowledge = (shown: Holder | undefined, body: unknown) =>
  serving.call('/v1/feed/ack', { shown, method: 'POST', body })

describe('an acknowledgement', () => {
  it('counts for the subscriber that it names, or for the instance', async () => {
    const service = await world.holder('service', 'orders')
    await using unnamed = await serving.read(service)
    await using named = await serving.read(service, { subscriber: 'pod-7' })
    const n = await world.revoke('serial', (await world.holder('agent', 'caller')).serial)
    await Promise.all([unnamed.until(reaches(n)), named.until(reaches(n))])
    expect((await acknowledge(service, { id: serving.id(n), subscriber: 'pod-7' })).status).toBe(204)
    const missing = async () => (await serving.feed.applied(n, 1)).missing.map(({ subscriber }) => subscriber)
    expect(await missing()).toEqual([`orders/${service.instance}`])
    expect((await acknowledge(service, { id: serving.id(n) })).status).toBe(204)
    expect(await missing()).toEqual([])
  })

  it('of a subscriber that leaves is its last', async () => {
    const service = await world.holder('service', 'leaves')
    await using reader = await serving.read(service, { subscriber: 'a' })
    const { position } = await reader.until(isType('heartbeat'))
    const body = { id: serving.id(position.n), subscriber: 'a' }
    expect((await acknowledge(service, { ...body, leaving: true })).status).toBe(204)
    expect((await acknowledge(service, body)).body.code).toBe('subscriber_unknown')
  })

  it.each([
    ['no id', { subscriber: 'a' }, 422, 'request_invalid'],
    ['an id that is none', { id: 'yesterday' }, 400, 'body_malformed'],
    ['a subscriber that is no name', { id: '0123456789abcdef.1', subscriber: '../a' }, 422, 'request_invalid'],
    ['a member that nobody knows', { id: '0123456789abcdef.1', applied: true }, 422, 'request_invalid'],
    ['nobody who subscribes', { id: '0123456789abcdef.1', subscriber: 'nobody' }, 404, 'subscriber_unknown'],
  ])('with %s is refused', async (_, body, status, code) => {
    const reply = await acknowledge(await world.holder('service', 'refused'), body)
    expect([reply.status, reply.body.code]).toEqual([status, code])
  })

  it('is refused from whoever refuses nobody, and counts for the own service only', async () => {
    const body = { id: serving.id(1), subscriber: 'pod-1' }
    expect((await acknowledge(undefined, body)).body.code).toBe('client_certificate_missing')
    expect((await acknowledge(await world.holder('operator', 'alice'), body)).body.code).toBe('service_only')
    const service = await world.holder('service', 'has-pod-1')
    await using reader = await serving.read(service, { subscriber: 'pod-1' })
    await reader.until(isType('heartbeat'))
    expect((await acknowledge(await world.holder('service', 'another'), body)).body.code).toBe('subscriber_unknown')
    expect((await acknowledge(service, { ...body, id: serving.id(1_000_000) })).body.code).toBe('position_unknown')
    expect((await serving.call('/v1/feed/ack', { shown: service })).status).toBe(405)
  })
})

it('a server without a feed has neither route', async () => {
  const service = await world.holder('service', 'no-feed')
  for (const path of ['/v1/feed', '/v1/feed/ack'])
    expect((await world.front.call(path, { shown: service })).body.code).toBe('route_not_found')
})
