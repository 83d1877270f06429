// A verifier's set is the CA's, whatever happens to the stream on its way: the real feed over mTLS, cut off at any byte, said twice, gone
// away and come back.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { type FeedClient, startFeedClient } from '../../src/verifier/feed-client.ts'
import { createKeeper, type Keeper } from '../../src/verifier/keeper.ts'
import { createTiming } from '../agent/timing.ts'
import { leaf } from '../ca/authority.ts'
import { createFeedWorld, isType, type Serving, serveFeed, type World } from '../feed/world.ts'
import { until } from '../story/until.ts'
import { createDice, createTestIdentity, type TestIdentity } from './backend.ts'

let world: World
let serving: Serving
let backend: TestIdentity
let keeper: Keeper
let client: FeedClient
let readers = 0

beforeAll(async () => {
  world = await createFeedWorld()
  backend = await createTestIdentity(world, await world.holder('service', 'orders'))
}, 180_000)
afterAll(async () => {
  await backend?.identity[Symbol.asyncDispose]()
  await world?.front[Symbol.asyncDispose]()
})

const startClient = (): void => {
  const timing = createTiming()
  keeper = createKeeper({
    clock: world.deps.clock,
    log: silentLog,
    policy: { onStale: 'refuse', maxStalenessMs: 1000 },
    directory: null,
  })
  client = startFeedClient({
    identity: backend.identity,
    log: silentLog,
    subscriber: 'one',
    maxStalenessSeconds: 300,
    position: keeper.position,
    take: keeper.take,
    timing,
  })
}
beforeEach(async () => {
  backend.disturb(null)
  backend.streams.length = 0
  serving = await serveFeed(world)
  backend.moveTo(serving.port)
  startClient()
})
afterEach(async () => {
  await client.close()
  await serving[Symbol.asyncDispose]()
})

const listed = (of: Keeper): readonly string[] =>
  [...(of.state.snapshot(0) ?? [])]
    .flatMap(({ revoked, held }) => [
      ...revoked.map(each => `${each.serial} r`),
      ...held.map(each => `${each.serial} h`),
    ])
    .toSorted()

/** What the ledger says, by a snapshot of another reader that nobody disturbs. */
const listedByServer = async (): Promise<readonly string[]> => {
  const fresh = createKeeper({
    clock: world.deps.clock,
    log: silentLog,
    policy: { onStale: 'refuse', maxStalenessMs: 1000 },
    directory: null,
  })
  await using reader = await serving.read(await world.holder('service', `reader-${readers++}`))
  await reader.until(isType('heartbeat'))
  for (const event of reader.events) fresh.take(event)
  expect(fresh.position()).not.toBeNull()
  return listed(fresh)
}
const inStep = (): Promise<void> =>
  until(
    'in step',
    () => keeper.position()?.n === serving.feed.head().n && keeper.position()?.epoch === serving.feed.head().epoch,
    () => ({ known: keeper.position(), head: serving.feed.head(), streams: backend.streams.length }),
  )
const revokeOne = async (): Promise<string> => {
  const { serial } = await world.holder('agent', 'caller')
  await world.revoke('serial', serial)
  return serial
}

describe('the feed of a verifier', () => {
  it('leads to the set of the CA though it is cut off at random bytes and said twice', async () => {
    const dice = createDice(20_261_124)
    // Each stream ends after so many bytes; some of what came whole comes again.
    let [left, repeated] = [1, 0]
    let said = Buffer.alloc(0)
    backend.disturb(bytes => {
      if (left <= 0) {
        left = 1 + dice(5000)
        said = Buffer.alloc(0)
        return 'cut'
      }
      const passed = Buffer.from(bytes.subarray(0, left))
      left -= bytes.length
      said = Buffer.concat([said, passed])
      const whole = said.lastIndexOf('\n\n')
      const isWhole = whole === said.length - 2
      const from = said.lastIndexOf('\n\n', whole - 1)
      if (!isWhole || from < 0 || dice(2) === 0) return passed
      repeated++
      return Buffer.concat([passed, said.subarray(from + 2)])
    })
    const revoked: string[] = []
    for (let i = 0; i < 25; i++) revoked.push(await revokeOne())
    await world.setState('agent', 'caller', 'held')
    await world.setState('agent', 'caller', 'active')
    await inStep()
    expect(backend.streams.length).toBeGreaterThan(3)
    expect(repeated).toBeGreaterThan(3)
    const mine = listed(keeper)
    expect(mine).toEqual(await listedByServer())
    expect(revoked.filter(serial => !mine.includes(`${serial} r`))).toEqual([])
  })

  it('brings what was committed just before the CA was killed', async () => {
    await inStep()
    await serving[Symbol.asyncDispose]()
    const serial = await revokeOne()
    expect(listed(keeper)).not.toContain(`${serial} r`)
    serving = await serveFeed(world)
    backend.moveTo(serving.port)
    await inStep()
    expect(listed(keeper)).toContain(`${serial} r`)
    expect(backend.streams.at(-1)).toMatch(/^[0-9a-f]{16}\.\d+$/)
  })

  it('goes on under a renewed identity from where it stood, without a gap', async () => {
    await inStep()
    const before = backend.streams.length
    const first = revokeOne()
    backend.renew()
    const serials = [await first, await revokeOne()]
    await until('another stream', () => backend.streams.length > before && client.connected)
    await inStep()
    expect(listed(keeper)).toEqual(expect.arrayContaining(serials.map(serial => `${serial} r`)))
    expect(backend.streams.slice(before).every(since => since !== null)).toBe(true)
  })

  it('begins anew from a snapshot when the CA begins a new epoch', async () => {
    await inStep()
    await serving[Symbol.asyncDispose]()
    await world.ledger.feed.newEpoch(() => leaf('feed_epoch_changed'))
    const serial = await revokeOne()
    serving = await serveFeed(world)
    backend.moveTo(serving.port)
    await inStep()
    expect(listed(keeper)).toContain(`${serial} r`)
    expect(listed(keeper)).toEqual(await listedByServer())
  })
})
