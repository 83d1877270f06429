// Contract of the feed: who is told of new entries and when, the state as of one position, what is pruned, and epochs.
import { describe, expect, test } from 'vitest'
import type { FeedSnapshot, Ledger } from '../../src/store/ports.ts'
import * as w from './make-ledger.ts'

const revoke = (world: w.World, selector: { by: 'serial' | 'agent'; value: string }) =>
  world.ledger.revocations.revoke({
    selector,
    reason: 'keyCompromise',
    at: w.now + 50,
    expected: null,
    leaf: () => w.leaf('revoked'),
  })

const drain = <T>(page: (limit: number) => readonly T[]): readonly T[] => {
  const all: T[] = []
  for (let rows = page(2); rows.length > 0; rows = page(2)) all.push(...rows)
  return all
}
const serialsOf = (snapshot: FeedSnapshot, held: boolean) =>
  drain(snapshot.statuses)
    .filter(each => each.held === held)
    .map(each => each.serial)
    .sort()

test('a listener hears of new entries after their commit and before whoever made them, and of nothing else', async () => {
  const world = await w.makeWorld()
  const told: number[] = []
  const stop = world.ledger.feed.onAppend(() => told.push(world.ledger.feed.head().n))
  const intent = await w.issue(world)
  expect(told).toEqual([])
  await revoke(world, { by: 'serial', value: intent.serial }).then(({ feedN }) => told.push(-feedN))
  const { n } = world.ledger.feed.head()
  expect(told).toEqual([n, -n])
  stop()
  await w.addAgent(world.ledger, 'other')
  expect(told).toHaveLength(2)
})

test('a listener hears nothing of what failed to commit, and everything after the next commit', async () => {
  using file = w.temporaryDatabase()
  let fail = false
  const ledger = w.makeLedger(file.path, {
    before: point => {
      if (fail && point === 'commit') throw new Error('disk I/O error')
    },
  })
  const world = await w.makeWorld(ledger)
  const before = ledger.feed.head().n
  const told: number[] = []
  ledger.feed.onAppend(() => told.push(ledger.feed.head().n))
  fail = true
  await expect(w.addAgent(ledger, 'lost')).rejects.toMatchObject({ code: 'store_failed' })
  fail = false
  expect([told, ledger.feed.head().n, ledger.feed.read(before, 10)]).toEqual([[], before, []])
  await w.addAgent(world.ledger, 'kept')
  expect(told).toEqual([before + 1])
  expect(ledger.feed.read(before, 10).map(entry => entry.body.value)).toEqual(['kept'])
  await ledger.close()
})

describe.each(['a file', 'memory'])('a snapshot of %s', place => {
  const inWorld = async (use: (world: w.World) => Promise<void>): Promise<void> => {
    using file = w.temporaryDatabase()
    const ledger: Ledger = w.makeLedger(place === 'memory' ? ':memory:' : file.path)
    try {
      await use(await w.makeWorld(ledger))
    } finally {
      await ledger.close()
    }
  }

  test('has what was committed before it, and nothing later, however late it is read', () =>
    inWorld(async world => {
      const { ledger } = world
      const [first, second, later] = [await w.issue(world), await w.issue(world), await w.issue(world)]
      await revoke(world, { by: 'serial', value: first.serial })
      await revoke(world, { by: 'serial', value: second.serial })
      {
        using snapshot = ledger.feed.snapshot(w.now)
        expect(snapshot).toMatchObject(ledger.feed.head())
        await revoke(world, { by: 'serial', value: later.serial })
        await w.addAgent(ledger, 'later')
        expect(snapshot.n).toBeLessThan(ledger.feed.head().n)
        expect(serialsOf(snapshot, false)).toEqual([first.serial, second.serial].sort())
        expect(drain(snapshot.registrations).map(each => each.name)).toEqual(['crawler'])
      }
      using next = ledger.feed.snapshot(w.now)
      expect(serialsOf(next, false)).toEqual([first.serial, second.serial, later.serial].sort())
    }))

  test('tells held from revoked, and leaves out what was released or has expired', () =>
    inWorld(async world => {
      const { ledger } = world
      const [held, gone] = [await w.issue(world), await w.issue(world)]
      await revoke(world, { by: 'serial', value: gone.serial })
      await w.setState(world, 'held')
      {
        using snapshot = ledger.feed.snapshot(w.now)
        expect(serialsOf(snapshot, true)).toEqual([held.serial])
      }
      using expired = ledger.feed.snapshot(gone.notAfter)
      expect(drain(expired.statuses)).toEqual([])
      await w.setState(world, 'active')
      using released = ledger.feed.snapshot(w.now)
      expect(drain(released.statuses).map(({ serial }) => serial)).toEqual([gone.serial])
    }))

  test('keeps a retired registration as long as its latest certificate, and every other one', () =>
    inWorld(async world => {
      const { ledger } = world
      const { notAfter } = await w.issue(world)
      await w.addAgent(ledger, 'idle')
      await w.addAgent(ledger, 'never-enrolled')
      await w.setState(world, 'retired')
      await w.setState(world, 'retired', 'never-enrolled')
      const names = (at: number) => {
        using snapshot = ledger.feed.snapshot(at)
        return drain(snapshot.registrations).map(each => `${each.name} ${each.state} ${each.version}`)
      }
      expect(names(notAfter - 1)).toEqual(['crawler retired 2', 'idle active 1'])
      expect(names(notAfter)).toEqual(['idle active 1'])
    }))

  test('can be given back half read', () =>
    inWorld(async world => {
      await revoke(world, { by: 'serial', value: (await w.issue(world)).serial })
      const snapshot = world.ledger.feed.snapshot(w.now)
      snapshot.registrations(1)
      snapshot[Symbol.dispose]()
      await w.addAgent(world.ledger, 'after')
    }))
})

test('pruning takes the oldest in steps, and nothing that is recent by number or by time', async () => {
  const world = await w.makeWorld()
  const { feed } = world.ledger
  for (let i = 0; i < 9; i++) await w.addAgent(world.ledger, `agent-${i}`)
  expect([feed.oldest(), feed.head().n]).toEqual([1, 10])
  const step = { keep: 4, before: w.now + 1, limit: 5 }
  expect(await feed.prune({ ...step, before: w.now })).toBe(0)
  expect([await feed.prune(step), feed.oldest()]).toEqual([5, 6])
  expect([await feed.prune(step), feed.oldest()]).toEqual([1, 7])
  expect([await feed.prune(step), feed.oldest()]).toEqual([0, 7])
  expect(await feed.prune({ ...step, keep: 0 })).toBe(4)
  expect([feed.oldest(), feed.head().n]).toEqual([11, 10])
})

test('a new epoch keeps the numbers, is told to listeners and written down', async () => {
  using file = w.temporaryDatabase()
  const ledger = w.makeLedger(file.path)
  await w.makeWorld(ledger)
  const before = ledger.feed.head()
  let told = 0
  ledger.feed.onAppend(() => told++)
  const after = await ledger.feed.newEpoch((from, to) => w.leaf('feed_epoch_changed', `${from.epoch} ${to.epoch}`))
  expect(after.n).toBe(before.n)
  expect(after.epoch).not.toBe(before.epoch)
  expect([told, ledger.feed.head()]).toEqual([1, after])
  expect(ledger.audit.tail({ limit: 1 })[0]?.subject).toBe(`${before.epoch} ${after.epoch}`)
  await ledger.close()
  const again = w.makeLedger(file.path)
  expect(again.feed.head()).toEqual(after)
  await again.close()
})
