// Entries, positions and readers over a real ledger: nothing before its commit, nothing lost over a restart, slow readers cost no memory.
import { copyFileSync } from 'node:fs'
import { PassThrough, Writable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import type { Ledger } from '../../src/store/ports.ts'
import type { FeedEvent } from '../../src/verify/feed-event.ts'
import * as w from '../store/make-ledger.ts'
import { until } from '../story/until.ts'
import { createTestClock, idAt, listen, openFeed } from './listening.ts'
import { isType, reaches, readEvents } from './world.ts'

const numbers = (events: readonly FeedEvent[]): readonly number[] =>
  events.filter(({ type }) => type === 'agent').map(({ position }) => position.n)
const upTo = (from: number, to: number): readonly number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)

const revokeAll = (ledger: Ledger, agent = 'crawler') =>
  ledger.revocations.revoke({
    selector: { by: 'agent', value: agent },
    reason: 'superseded',
    at: w.now,
    expected: null,
    leaf: () => w.leaf('revoked'),
  })

describe('an entry', () => {
  it('is sent once its transaction is durable, and never when that one failed', async () => {
    using file = w.temporaryDatabase()
    let atCommit = (): void => {}
    const ledger = w.makeLedger(file.path, {
      before: point => {
        if (point === 'commit') atCommit()
      },
    })
    await w.makeWorld(ledger)
    const { feed } = openFeed(ledger)
    const reader = listen(feed)
    await reader.until(isType('heartbeat'))
    const seen = reader.events.length
    const { n } = feed.head()

    atCommit = () => {
      expect(feed.head().n).toBe(n)
      throw new Error('disk I/O error')
    }
    await expect(w.addAgent(ledger, 'lost')).rejects.toMatchObject({ code: 'store_failed' })
    atCommit = () => {}
    await w.addAgent(ledger, 'kept')
    // The number of the one that failed is used again: whoever had seen that one would take this one for it.
    expect(await reader.until(reaches(n + 1))).toMatchObject({ type: 'agent', principal: { name: 'kept' } })
    expect(reader.events.slice(seen).map(event => event.position.n)).toEqual([n + 1])
    await ledger.close()
  })

  it('reaches everybody in order when many are written at once', async () => {
    const ledger = w.makeLedger()
    await w.makeWorld(ledger)
    const { feed } = openFeed(ledger)
    const readers = Array.from({ length: 20 }, () => listen(feed))
    await Promise.all(readers.map(reader => reader.until(isType('heartbeat'))))
    const { n } = feed.head()
    await Promise.all(Array.from({ length: 300 }, (_, i) => w.addAgent(ledger, `many-${i}`)))
    await Promise.all(readers.map(reader => reader.until(reaches(n + 300))))
    for (const { events } of readers) expect(numbers(events)).toEqual(upTo(n + 1, n + 300))
  })
})

describe('a position', () => {
  it('is good over a restart: the epoch stays, the numbers go on', async () => {
    using file = w.temporaryDatabase()
    const before = w.makeLedger(file.path)
    await w.makeWorld(before)
    const { feed: first } = openFeed(before)
    const { epoch, n } = first.head()
    await first.close()
    await w.addAgent(before, 'while-nobody-listened')
    await before.close()

    const ledger = w.makeLedger(file.path)
    const { feed } = openFeed(ledger)
    expect(feed.head()).toEqual({ epoch, n: n + 1 })
    const reader = listen(feed, { since: `${epoch}.${n}` })
    await w.addAgent(ledger, 'after')
    await reader.until(reaches(n + 2))
    expect(numbers(reader.events)).toEqual([n + 1, n + 2])
    expect(reader.events.some(isType('snapshot'))).toBe(false)
    await ledger.close()
  })

  it('leads to a snapshot in an older ledger that was put back, and nowhere in another epoch', async () => {
    using file = w.temporaryDatabase()
    using backup = w.temporaryDatabase()
    const ledger = w.makeLedger(file.path)
    await w.makeWorld(ledger)
    await ledger.close()
    copyFileSync(file.path, backup.path)
    const later = w.makeLedger(file.path)
    await w.addAgent(later, 'lost-by-the-restore')
    const { epoch, n } = later.feed.head()
    await later.close()

    const restored = w.makeLedger(backup.path)
    const { feed } = openFeed(restored)
    expect(feed.head()).toEqual({ epoch, n: n - 1 })
    const ahead = listen(feed, { since: `${epoch}.${n}` })
    await ahead.until(isType('heartbeat'))
    expect(ahead.events[0]).toMatchObject({ type: 'snapshot', position: { n: n - 1 } })

    await restored.feed.newEpoch(() => w.leaf('feed_epoch_changed'))
    expect(await ahead.ended()).toBe('position_lost')
    const again = listen(feed, { since: `${epoch}.${n - 1}` })
    await again.until(isType('heartbeat'))
    expect(again.events[0]).toMatchObject({ type: 'snapshot', position: feed.head() })
    expect(feed.head().epoch).not.toBe(epoch)
    await restored.close()
  })

  it('leads to a snapshot once what comes after it is pruned', async () => {
    const ledger = w.makeLedger()
    await w.makeWorld(ledger)
    for (let i = 0; i < 50; i++) await w.addAgent(ledger, `old-${i}`)
    await ledger.feed.prune({ keep: 10, before: w.now + 1, limit: 1000 })
    const { feed } = openFeed(ledger)
    const { n } = feed.head()
    const firstOf = async (since: number) => {
      const reader = listen(feed, { since: idAt(feed, since) })
      await reader.until(isType('heartbeat'))
      return reader.events[0]
    }
    expect(await firstOf(n - 11)).toMatchObject({ type: 'snapshot' })
    expect(await firstOf(n - 10)).toMatchObject({ type: 'agent', position: { n: n - 9 } })
  })

  it('far behind is caught up with from the ledger, page after page', async () => {
    const ledger = w.makeLedger()
    await w.makeWorld(ledger)
    await Promise.all(Array.from({ length: 400 }, (_, i) => w.addAgent(ledger, `page-${i}`)))
    const { feed } = openFeed(ledger)
    const { n } = feed.head()
    const reader = listen(feed, { since: idAt(feed, 1) })
    await reader.until(isType('heartbeat'))
    expect(numbers(reader.events)).toEqual(upTo(2, n))
  })
})

describe('a heartbeat', () => {
  it('is of the head, after everything up to it, and again at each beat', async () => {
    const ledger = w.makeLedger()
    await w.makeWorld(ledger)
    const { feed } = openFeed(ledger, { heartbeatSeconds: 0.02 })
    const reader = listen(feed)
    const beats = () => reader.events.filter(isType('heartbeat')).length
    for (let i = 0; i < 5; i++) {
      const before = beats()
      await w.addAgent(ledger, `beat-${i}`)
      await reader.until(() => beats() > before + 1)
    }
    let last = 0
    for (const { type, position } of reader.events) {
      // Never ahead of what was sent, never behind it.
      if (type === 'heartbeat') expect(position.n).toBe(last)
      last = Math.max(last, position.n)
    }
    await feed.close()
  })
})

describe('a ledger that cannot be read', () => {
  it('gives nobody the impression that all is well: no heartbeat until everything is sent', async () => {
    const ledger = w.makeLedger()
    await w.makeWorld(ledger)
    let failing = false
    let failures = 0
    const read = (afterN: number, limit: number) => {
      if (failing) failures++
      if (failing) throw new Error('disk I/O error')
      return ledger.feed.read(afterN, limit)
    }
    const { feed } = openFeed(ledger, { feed: { ...ledger.feed, read }, heartbeatSeconds: 0.02 })
    const reader = listen(feed)
    await reader.until(isType('heartbeat'))
    const { n } = feed.head()
    failing = true
    await w.addAgent(ledger, 'unread')
    const seen = reader.events.length
    // Whoever comes now is told nothing of the present either.
    const later = listen(feed, { since: idAt(feed, n) })
    // Both were tried, and at the heartbeats that would have been theirs since.
    const tried = failures
    await until('it was read in vain again and again', () => failures >= tried + 4)
    expect([reader.events.length, later.events]).toEqual([seen, []])
    failing = false
    for (const each of [reader, later]) {
      await each.until(event => event.type === 'heartbeat' && event.position.n === n + 1)
      expect(numbers(each.events)).toEqual([n + 1])
    }
    await feed.close()
  })

  it('ends the streams of agents when it cannot say whom an entry concerns', async () => {
    const ledger = w.makeLedger()
    const world = await w.makeWorld(ledger)
    const { serial } = await w.issue(world)
    const list = () => {
      throw new Error('disk I/O error')
    }
    const { feed } = openFeed(ledger, {
      certificates: { list: filter => (filter.serials ? list() : ledger.certificates.list(filter)) },
    })
    const agent = listen(feed, { kind: 'agent', name: 'crawler' })
    await agent.until(isType('heartbeat'))
    await ledger.revocations.revoke({
      selector: { by: 'serial', value: serial },
      reason: 'superseded',
      at: w.now,
      expected: null,
      leaf: () => w.leaf('revoked'),
    })
    expect(await agent.ended()).toBe('position_lost')
  })
})

/** Takes what its buffer takes, and not a byte more until it is told to. */
const createDeaf = () => {
  let go: (() => void) | null = null
  let taken = 0
  let deaf = true
  const out = new Writable({
    highWaterMark: 65_536,
    write: (chunk: Buffer, _encoding, done) => {
      taken += chunk.length
      if (deaf) go = done
      else done()
    },
  })
  let last = ''
  const end = out.end.bind(out)
  out.end = ((frame: Buffer) => {
    last = frame.toString()
    return end(frame)
  }) as typeof out.end
  return {
    out: out as PassThrough,
    last: () => last,
    buffered: () => out.writableLength,
    taken: () => taken,
    hear: () => {
      deaf = false
      go?.()
    },
  }
}

describe('a slow reader', () => {
  const bigEntries = async (ledger: Ledger, count: number): Promise<void> => {
    for (let i = 0; i < count; i++)
      await ledger.registrations.change({
        kind: 'agent',
        name: 'crawler',
        at: w.now,
        decide: () => ({ set: { attributes: { big: `${i}`.repeat(100_000) } }, state: 'active' }),
        leaf: () => w.leaf('registration_changed'),
      })
  }

  it('costs one frame beyond what its connection buffers, whatever it misses, and holds up nobody', async () => {
    const ledger = w.makeLedger()
    await w.makeWorld(ledger)
    const { feed } = openFeed(ledger)
    const deaf = createDeaf()
    feed.subscribe(subscriptionOf('deaf'), deaf.out)
    const other = listen(feed)
    await other.until(isType('heartbeat'))
    const { n } = feed.head()
    await bigEntries(ledger, 150)
    await other.until(reaches(n + 150))
    expect(deaf.buffered()).toBeLessThan(65_536 + 400_000)
    deaf.hear()
    await feed.close()
  })

  it('whose certificate is revoked is not kept until its lease is over', async () => {
    const ledger = w.makeLedger()
    const world = await w.makeWorld(ledger)
    const { serial } = await w.issue(world)
    const { feed } = openFeed(ledger, { heartbeatSeconds: 0.02, leaseSeconds: 3600 })
    const deaf = createDeaf()
    const subscription = subscriptionOf('deaf')
    feed.subscribe({ ...subscription, peer: { ...subscription.peer, serial } }, deaf.out)
    await bigEntries(ledger, 3)
    const closed = new Promise(resolve => deaf.out.once('close', resolve))
    await revokeAll(ledger)
    await closed
    expect(deaf.last()).toContain('"code":"certificate_revoked"')
    await feed.close()
  })

  it('goes on where it was once it reads again', async () => {
    const ledger = w.makeLedger()
    await w.makeWorld(ledger)
    const { feed } = openFeed(ledger)
    const { n } = feed.head()
    const through = new PassThrough({ highWaterMark: 1024 })
    feed.subscribe({ ...subscriptionOf('pauses'), since: idAt(feed, n) }, through)
    await bigEntries(ledger, 60)
    const reading = readEvents(through)
    await reading.until(reaches(n + 60))
    expect(numbers(reading.events)).toEqual(upTo(n + 1, n + 60))
  })

  it('is told off when it has taken nothing for as long as a lease, and cut when it does not hear that either', async () => {
    const ledger = w.makeLedger()
    await w.makeWorld(ledger)
    const time = createTestClock()
    const { feed } = openFeed(ledger, { clock: time.clock, heartbeatSeconds: 0.02, leaseSeconds: 15 })
    const [deaf, hearing] = [createDeaf(), createDeaf()]
    feed.subscribe(subscriptionOf('deaf'), deaf.out)
    feed.subscribe(subscriptionOf('hears-late'), hearing.out)
    await bigEntries(ledger, 3)
    const other = listen(feed)
    await other.until(isType('heartbeat'))
    const beats = () => other.events.filter(isType('heartbeat')).length
    const nextBeats = async () => {
      const before = beats()
      await other.until(() => beats() > before + 1)
    }
    time.pass(14_999)
    await nextBeats()
    expect(deaf.out.writableEnded).toBe(false)
    hearing.hear()
    time.pass(1)
    const closed = new Promise(resolve => deaf.out.once('close', resolve))
    await nextBeats()
    expect([deaf.out.writableEnded, hearing.out.writableEnded]).toEqual([true, false])
    expect(deaf.last()).toMatch(/^event: end\n.*"code":"slow_reader"/s)
    await closed
    const states = feed.status().subscribers.map(({ subscriber, state }) => [subscriber.replica, state])
    expect(states).toContainEqual(['deaf', 'stale'])
    await feed.close()
  })
})

const subscriptionOf = (replica: string) => ({
  peer: {
    kind: 'service' as const,
    name: 'slow',
    instanceId: replica,
    serial: 'ff',
    notAfter: Number.MAX_SAFE_INTEGER,
  },
  identity: { kind: 'service' as const, name: 'slow', replica, maxStalenessSeconds: 300 },
  since: null,
})

describe('a stream whose ledger names its registration', () => {
  it('ends when the registration is not active any more, whatever its certificates are', async () => {
    const ledger = w.makeLedger()
    const world = await w.makeWorld(ledger)
    const { feed } = openFeed(ledger)
    const reader = listen(feed, { kind: 'agent', name: 'crawler', serial: 'aa' })
    await reader.until(isType('heartbeat'))
    await w.setState(world, 'held')
    expect(await reader.ended()).toBe('registration_changed')
    await revokeAll(ledger)
  })
})
