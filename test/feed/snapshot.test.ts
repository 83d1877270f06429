// Snapshots: the same bytes in streams and files, parts of bounded size, one position whatever is written meanwhile, one for everybody.
import { describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { createSnapshots, type Snapshot, takeSnapshot } from '../../src/feed/snapshot.ts'
import { encodeFeedData, encodePosition, type FeedEvent, readFeedEvent } from '../../src/verify/feed-event.ts'
import { createRevocationState } from '../../src/verify/revocation-state.ts'
import { serialKeyOf } from '../../src/verify/serial-table.ts'
import * as w from '../store/make-ledger.ts'

type SnapshotEvent = Extract<FeedEvent, { type: 'snapshot' }>
const textOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('utf8')
const eventsOf = ({ parts, position }: Snapshot): readonly SnapshotEvent[] =>
  parts.map(data => readFeedEvent('snapshot', encodePosition(position), JSON.parse(textOf(data))) as SnapshotEvent)

const withRevoked = async (count: number) => {
  const world = await w.makeWorld()
  const intents = await Promise.all(Array.from({ length: count }, () => w.issue(world)))
  await world.ledger.revocations.revoke({
    selector: { by: 'agent', value: 'crawler' },
    reason: 'superseded',
    at: w.now,
    expected: null,
    leaf: () => w.leaf('revoked'),
  })
  return { ...world, serials: intents.map(({ serial }) => serial) }
}

describe('a snapshot', () => {
  it('is whole, in parts of at most a thousand changes, each written as any event is', async () => {
    const { ledger, serials } = await withRevoked(2500)
    for (let i = 0; i < 70; i++) await w.addAgent(ledger, `agent-${i}`)
    const snapshot = await takeSnapshot(ledger.feed, w.now)
    const events = eventsOf(snapshot)
    expect(snapshot.position).toEqual(ledger.feed.head())
    expect(events.map(({ part, parts }) => [part, parts])).toEqual(events.map((_, i) => [i + 1, events.length]))
    expect(events.map(({ revoked }) => revoked.length).filter(n => n > 0)).toEqual([1000, 1000, 500])
    expect(events.map(({ principals }) => principals.length).filter(n => n > 0)).toEqual([32, 32, 7])
    expect(events.flatMap(({ revoked }) => revoked.map(({ serial }) => serial)).sort()).toEqual(serials.toSorted())
    expect(snapshot.parts.map(textOf)).toEqual(events.map(encodeFeedData))
    const id = encodePosition(snapshot.position)
    expect(textOf(snapshot.file)).toBe(
      events.map(event => `{"event":"snapshot","id":"${id}","data":${encodeFeedData(event)}}\n`).join(''),
    )
  })

  it('is one empty part where there is nothing', async () => {
    const snapshot = await takeSnapshot(w.makeLedger().feed, w.now)
    const nothing = { revoked: [], held: [], principals: [], policies: { version: 0, hash: '' } }
    expect(eventsOf(snapshot)).toMatchObject([{ part: 1, parts: 1, ...nothing }])
  })

  it('says once which policies are in force', async () => {
    const { ledger } = await withRevoked(1)
    const version = { hash: 'abcd', files: {}, author: 'root', why: null }
    const leaves = { stepLeaf: () => w.leaf('scopes_changed'), leaf: () => w.leaf('policy_activated') }
    const request = { version, expected: null, resolve: () => [], at: w.now, ...leaves }
    await ledger.policies.activate(request)
    const events = eventsOf(await takeSnapshot(ledger.feed, w.now))
    expect(events.flatMap(({ policies = [] }) => policies)).toEqual([{ version: 1, hash: 'abcd' }])
  })

  it('is all that a verifier needs to know', async () => {
    const { ledger, serials } = await withRevoked(3)
    const world = { ledger, issuer: ledger.issuers.list()[0]!, agent: await w.addAgent(ledger, 'second') }
    const state = createRevocationState()
    for (const event of eventsOf(await takeSnapshot(ledger.feed, w.now))) state.apply(event)
    expect(serials.map(serial => state.status(serialKeyOf(serial)))).toEqual(['revoked', 'revoked', 'revoked'])
    expect(state.principal('agent', world.agent.name)).toMatchObject({ state: 'active', roles: ['reader'] })
    expect(state.position()).toEqual(ledger.feed.head())
  })

  it('has one position, whatever is committed while it is read', async () => {
    using file = w.temporaryDatabase()
    const ledger = w.makeLedger(file.path)
    await w.makeWorld(ledger)
    for (let i = 0; i < 200; i++) await w.addAgent(ledger, `before-${i}`)
    const { n } = ledger.feed.head()
    const taking = takeSnapshot(ledger.feed, w.now)
    const writing = Array.from({ length: 50 }, (_, i) => w.addAgent(ledger, `meanwhile-${i}`))
    const snapshot = await taking
    await Promise.all(writing)
    expect(snapshot.position.n).toBe(n)
    const names = eventsOf(snapshot).flatMap(({ principals }) => principals.map(({ name }) => name))
    expect([names.length, names.filter(name => name.startsWith('meanwhile'))]).toEqual([201, []])
    await ledger.close()
  })
})

describe('a recent snapshot', () => {
  it('is made once for all who ask, and again only when it is too far behind or of another epoch', async () => {
    const ledger = w.makeLedger()
    await w.makeWorld(ledger)
    let taken = 0
    const snapshots = createSnapshots({
      clock: systemClock,
      feed: {
        head: ledger.feed.head,
        snapshot: at => {
          taken++
          return ledger.feed.snapshot(at)
        },
      },
    })
    const [first, ...others] = await Promise.all(Array.from({ length: 50 }, () => snapshots.recent(0)))
    expect([new Set([first, ...others]).size, taken]).toEqual([1, 1])
    await w.addAgent(ledger, 'one')
    expect(await snapshots.recent(1)).toBe(first)
    expect((await snapshots.recent(0)).position).toEqual(ledger.feed.head())
    await ledger.feed.newEpoch(() => w.leaf('feed_epoch_changed'))
    expect((await snapshots.recent(1000)).position).toEqual(ledger.feed.head())
    expect(taken).toBe(3)
  })
})
