// When a stream ends: with its peer's certificate, with its registration, with its successor; and what its last event says.
import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  createFeedWorld,
  isType,
  openDeafReader,
  reaches,
  readEvents,
  type Serving,
  serveFeed,
  type World,
} from './world.ts'

let world: World
let serving: Serving
beforeAll(async () => {
  world = await createFeedWorld({ heartbeatSeconds: 0.05 })
  serving = await serveFeed(world)
})
afterAll(async () => {
  await serving?.[Symbol.asyncDispose]()
  await world?.front[Symbol.asyncDispose]()
})

const listening = async (service: string, options = {}) => {
  const holder = await world.holder('service', service)
  const reader = await serving.read(holder, options)
  await reader.until(isType('heartbeat'))
  return { holder, reader }
}
const codeOf = async (path: string, holder: Awaited<ReturnType<World['holder']>>) =>
  (await serving.call(path, { shown: holder })).body.code

describe('a stream ends', () => {
  it('after the entry that revokes its certificate, and the next connection is refused', async () => {
    const { holder, reader } = await listening('revoked')
    const n = await world.revoke('serial', holder.serial)
    expect(await reader.ended()).toBe('certificate_revoked')
    expect(reader.events.filter(reaches(n)).map(event => [event.type, event.position.n])).toEqual([
      ['revoke', n],
      ['end', n],
    ])
    expect(await codeOf('/v1/feed', holder)).toBe('certificate_revoked')
  })

  it('at once when its certificate is revoked, whatever it reads; its places are free then, and nobody waits for it', async () => {
    const holder = await world.holder('service', 'in-other-hands')
    const successor = await world.holder('service', 'in-other-hands')
    // A listener of its own that beats so seldom that only the revocation can have ended the stream.
    await using seldom = await serveFeed(world, { heartbeatSeconds: 3600 })
    const deaf = await openDeafReader(seldom.port, holder)
    const gone = await seldom.read(holder, { subscriber: 'gone' })
    await gone.until(isType('heartbeat'))
    gone.close()
    await using other = await seldom.read(successor, { subscriber: 'other' })
    await other.until(isType('heartbeat'))
    const places = () =>
      seldom.feed
        .status()
        .subscribers.filter(({ subscriber }) => subscriber.name === 'in-other-hands')
        .map(({ subscriber }) => subscriber.replica)
    expect(places()).toHaveLength(3)
    await world.register('agent', 'fills')
    // More than its connection takes: it is behind when it is revoked.
    for (let i = 0; i < 40; i++) await world.setAttributes('fills', { big: `${i}`.padEnd(500_000, 'x') })
    await world.revoke('serial', holder.serial)
    await once(deaf.resume(), 'close')
    expect(places()).toEqual(['other'])
  })

  it('when its service is held, and others go on', async () => {
    const [{ holder, reader }, other] = [await listening('held'), await listening('not-held')]
    await world.setState('service', 'held', 'held')
    expect(await reader.ended()).toBe('certificate_revoked')
    await other.reader.until(event => event.type === 'agent' && event.principal.name === 'held' && event.position.n > 0)
    expect(await codeOf('/v1/feed', holder)).toBe('registration_held')
    await world.setState('service', 'held', 'active')
    await using again = await serving.read(holder)
    expect((await again.until(isType('heartbeat'))).position).toEqual(serving.feed.head())
    other.reader.close()
  })

  it('when its service is retired; nobody waits for its processes then, nor do they keep a place', async () => {
    const { holder, reader } = await listening('retired')
    const gone = await serving.read(holder, { subscriber: 'gone' })
    await gone.until(isType('heartbeat'))
    gone.close()
    await world.setState('service', 'retired', 'retired')
    expect(await reader.ended()).toBe('certificate_revoked')
    expect(serving.feed.status().subscribers.filter(({ subscriber }) => subscriber.name === 'retired')).toEqual([])
  })

  it('when its certificate expires', async () => {
    const { holder, reader } = await listening('expires')
    world.front.time.offset = holder.notAfter - Date.now() + 1
    try {
      expect(await reader.ended()).toBe('certificate_expired')
      expect(await codeOf('/v1/feed', holder)).toBe('certificate_expired')
    } finally {
      world.front.time.offset = 0
    }
  })

  it('when the same subscriber connects again; another replica does not matter to it', async () => {
    const { holder, reader } = await listening('twice', { subscriber: 'a' })
    await using other = await serving.read(holder, { subscriber: 'b' })
    await using second = await serving.read(holder, { subscriber: 'a' })
    expect(await reader.ended()).toBe('replaced')
    const n = await world.revoke('serial', (await world.holder('agent', 'for-both')).serial)
    await Promise.all([other.until(reaches(n)), second.until(reaches(n))])
    const states = serving.feed.status().subscribers.filter(({ subscriber }) => subscriber.name === 'twice')
    expect(states.map(({ subscriber, state }) => [subscriber.label, state])).toEqual([
      ['twice/a', 'lagging'],
      ['twice/b', 'lagging'],
    ])
  })

  it('when the feed stops, and says so', async () => {
    const stopping = await serveFeed(world)
    const reader = await stopping.read(await world.holder('service', 'until-the-end'))
    await reader.until(isType('heartbeat'))
    await stopping.feed.close()
    expect(await reader.ended()).toBe('shutting_down')
    await stopping[Symbol.asyncDispose]()
  })
})

describe('a reader that pauses', () => {
  it('gets everything that it missed, in order, once it reads again', async () => {
    const holder = await world.holder('service', 'pauses')
    const from = serving.feed.head().n
    const socket = await openDeafReader(serving.port, holder)
    await world.register('agent', 'bulky')
    // More than the kernel buffers on both sides.
    for (let i = 0; i < 40; i++) await world.setAttributes('bulky', { big: `${i}`.padEnd(500_000, 'x') })
    const reading = readEvents(socket)
    socket.resume()
    const { n } = serving.feed.head()
    await reading.until(reaches(n))
    const numbers = reading.events.filter(isType('agent')).map(({ position }) => position.n)
    expect(numbers.filter(each => each > from)).toEqual(Array.from({ length: n - from }, (_, i) => from + i + 1))
    socket.destroy()
  })
})

describe('a reader that never reads', () => {
  it('is dropped once its connection takes nothing any more, while others hear everything', async () => {
    await using slow = await serveFeed(world, { leaseSeconds: 1 })
    const deaf = await openDeafReader(slow.port, await world.holder('service', 'deaf'))
    await using other = await slow.read(await world.holder('service', 'listens'))
    await world.register('agent', 'large')
    const stateOf = (name: string) =>
      slow.feed.status().subscribers.find(({ subscriber }) => subscriber.name === name)?.state
    // As many as it takes to fill what the kernel buffers on both sides.
    while (stateOf('deaf') !== 'stale') {
      await world.setAttributes('large', { big: 'x'.repeat(500_000) })
      await other.until(reaches(slow.feed.head().n))
    }
    expect(stateOf('listens')).toBe('lagging')
    deaf.destroy()
  })
})

describe('an agent', () => {
  const own = async (name: string) => {
    const holder = await world.holder('agent', name)
    const reader = await serving.read(holder, { since: serving.id(1), subscriber: 'anything' })
    await reader.until(isType('heartbeat'))
    return { holder, reader }
  }

  it('hears its own state and nothing of anybody else', async () => {
    const elsewhere = await world.holder('agent', 'somebody-else')
    const { reader } = await own('hears-itself')
    expect(reader.events[0]).toMatchObject({
      ...{ type: 'snapshot', part: 1, parts: 1, revoked: [], held: [] },
      principals: [{ kind: 'agent', name: 'hears-itself', state: 'active' }],
    })
    await world.revoke('serial', elsewhere.serial)
    await world.setState('agent', 'somebody-else', 'held')
    const last = await world.register('agent', 'a-third')
    await reader.until(event => event.type === 'heartbeat' && event.position.n >= serving.feed.head().n)
    expect(JSON.stringify(reader.events)).not.toMatch(new RegExp(`${elsewhere.serial}|somebody-else|${last.name}`))
    expect(new Set(reader.events.slice(1).map(event => event.type))).toEqual(new Set(['heartbeat']))
    reader.close()
  })

  it('hears that its registration changed', async () => {
    const { reader } = await own('changes')
    await world.setAttributes('changes', { tier: 'gold' })
    expect(await reader.until(isType('agent'))).toMatchObject({
      principal: { attributes: { tier: 'gold' }, version: 2 },
    })
    reader.close()
  })

  it('hears of its certificate among those of others, alone, before its stream ends', async () => {
    const { holder, reader } = await own('in-a-crowd')
    const sibling = await world.holder('agent', 'in-a-crowd')
    const n = await world.revoke('agent', 'in-a-crowd')
    expect(await reader.ended()).toBe('certificate_revoked')
    const news = reader.events.filter(event => event.type === 'revoke')
    expect(news).toMatchObject([{ position: { n }, changes: [{ serial: holder.serial, notAfter: holder.notAfter }] }])
    expect(JSON.stringify(reader.events)).not.toContain(sibling.serial)
  })

  it('learns in its snapshot what became of its earlier certificates', async () => {
    const first = await world.holder('agent', 'has-a-past')
    const second = await world.renew(first)
    await world.revoke('serial', first.serial)
    await using reader = await serving.read(second)
    expect(await reader.until(isType('snapshot'))).toMatchObject({ revoked: [{ serial: first.serial }] })
  })

  it('acknowledges nothing: it refuses nobody', async () => {
    const { holder, reader } = await own('no-verifier')
    const reply = await serving.call('/v1/feed/ack', { shown: holder, body: { id: serving.id(1) } })
    expect([reply.status, reply.body.code]).toEqual([403, 'service_only'])
    reader.close()
  })
})
