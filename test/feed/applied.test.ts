// What is known of how far a revocation has got: who applied it, who is stale since when and covered until when, and its receipt.
import { describe, expect, it } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { createReceipts } from '../../src/feed/receipts.ts'
import type { Ledger } from '../../src/store/ports.ts'
import type { LeafDraft } from '../../src/store/records.ts'
import * as w from '../store/make-ledger.ts'
import { acknowledge, createTestClock, type Listening, listen, openFeed } from './listening.ts'
import { isType, reaches } from './world.ts'

const lease = 15_000
const maxStaleness = 300_000

/** A feed whose clock stands still, with verifiers of `billing` that are live; without beats, unless a test waits for them. */
const withVerifiers = async (replicas: readonly string[], heartbeatSeconds = 3600) => {
  const ledger: Ledger = w.makeLedger()
  const world = await w.makeWorld(ledger)
  const time = createTestClock()
  const { feed, counting } = openFeed(ledger, { clock: time.clock, heartbeatSeconds })
  const open = async (replica: string, more: Parameters<typeof listen>[1] = {}): Promise<Listening> => {
    const reader = listen(feed, { replica, ...more })
    await reader.until(isType('heartbeat'))
    return reader
  }
  const verifiers = new Map<string, Listening>()
  for (const replica of replicas) verifiers.set(replica, await open(replica))
  for (const replica of replicas) acknowledge(feed, replica)
  const revoke = async (value?: string) => {
    const serial = value ?? (await w.issue(world)).serial
    const { feedN } = await ledger.revocations.revoke({
      selector: { by: 'serial', value: serial },
      reason: 'keyCompromise',
      at: time.clock.now(),
      expected: null,
      leaf: () => w.leaf('revoked'),
    })
    return feedN
  }
  /** What a verifier does once it has got an entry. */
  const apply = async (replica: string, n = feed.head().n): Promise<void> => {
    await verifiers.get(replica)!.until(reaches(n))
    acknowledge(feed, replica, n)
  }
  const receipts = () =>
    ledger.audit
      .tail({ event: 'revocation_applied', limit: 100 })
      .map(({ bytes }) => JSON.parse(Buffer.from(bytes).toString('utf8')))
  /** Two beats: what one of them finds is done. */
  const beats = async (reader: Listening) => {
    const seen = reader.events.length
    await reader.until(() => reader.events.slice(seen).filter(isType('heartbeat')).length > 1)
  }
  return { ...world, time, feed, counting, open, verifiers, apply, revoke, receipts, beats }
}

describe('a revocation', () => {
  it('is applied once every subscriber said so, and says after how long the slowest did', async () => {
    const { feed, ledger, time, revoke, receipts, counting, apply } = await withVerifiers(['1', '2', '3'])
    const n = await revoke()
    time.pass(12)
    await apply('1', n)
    await apply('2', n)
    const waiting = feed.applied(n, 90_000)
    time.pass(26)
    await apply('3', n)
    expect(await waiting).toEqual({ of: 3, afterMs: 38, missing: [] })
    expect(counting.counted.filter(({ name }) => name === 'agentca_feed_applied_seconds')).toHaveLength(3)
    await feed.close()
    const [leaf] = ledger.audit.tail({ event: 'revocation_applied', limit: 1 })
    expect(leaf?.subject).toMatch(/^agent:/)
    expect(receipts()).toMatchObject([
      {
        ...{ type: 'revoke', by: 'serial', feed: `${feed.head().epoch}.${n}`, of: 3, applied: 3 },
        afterMs: { 'billing/1': 12, 'billing/2': 12, 'billing/3': 38 },
        missing: [],
      },
    ])
  })

  it('names who is missing: since when, and until when it is covered by its lease and its own bound', async () => {
    const { feed, time, revoke, verifiers, apply } = await withVerifiers(['1', '2'])
    const heard = time.clock.now()
    verifiers.get('2')!.close()
    while (!feed.status().subscribers.some(({ state }) => state === 'stale'))
      await new Promise(resolve => setImmediate(resolve))
    const left = time.clock.now()
    time.pass(7000)
    const n = await revoke()
    await apply('1', n)
    expect(await feed.applied(n, 1)).toEqual({
      of: 2,
      afterMs: 0,
      missing: [{ subscriber: 'billing/2', staleSince: left, coveredUntil: heard + lease + maxStaleness }],
    })
    await feed.close()
  })

  it('is overdue where somebody hears it and does not say that it is applied', async () => {
    const { feed, time, revoke, verifiers } = await withVerifiers(['1'])
    const heard = time.clock.now()
    time.pass(500)
    const n = await revoke()
    const at = time.clock.now()
    await verifiers.get('1')!.until(reaches(n))
    time.pass(2000)
    expect((await feed.applied(n, 1)).missing).toEqual([
      { subscriber: 'billing/1', staleSince: at, coveredUntil: heard + lease + maxStaleness },
    ])
    expect(feed.status().subscribers).toMatchObject([{ state: 'lagging', lag: 1 }])
    await feed.close()
  })

  it('is not waited for from whoever left, only looks, or came later', async () => {
    const { feed, revoke, open, apply } = await withVerifiers(['1', '2'])
    await open('looks', { kind: 'operator', name: 'alice' })
    await open('itself', { kind: 'agent', name: 'crawler' })
    const n = await revoke()
    await open('3')
    await apply('1', n)
    const waiting = feed.applied(n, 90_000)
    feed.leave({ kind: 'service', name: 'billing', replica: '2' }, { ...feed.head(), n: n - 1 })
    expect(await waiting).toMatchObject({ of: 2, missing: [] })
    expect(feed.status().subscribers.map(({ subscriber }) => subscriber.label)).toEqual([
      'billing/1',
      'alice/looks',
      expect.stringMatching('crawler/'),
      'billing/3',
    ])
    await feed.close()
  })

  it('is let go of, as covered, once who was not reached refuses everybody by itself', async () => {
    const { feed, time, revoke, verifiers, beats, receipts, apply } = await withVerifiers(['1', '2'], 0.02)
    verifiers.get('2')!.close()
    const n = await revoke()
    await apply('1', n)
    time.pass(lease + maxStaleness - 1)
    await beats(verifiers.get('1')!)
    expect((await feed.applied(n, 1)).missing).toHaveLength(1)
    time.pass(1)
    await beats(verifiers.get('1')!)
    expect((await feed.applied(n, 1)).missing).toEqual([])
    expect(feed.status().subscribers).toHaveLength(1)
    await feed.close()
    expect(receipts()).toMatchObject([{ of: 2, applied: 1, missing: [{ subscriber: 'billing/2' }] }])
  })

  it('over several entries is one, applied with its last', async () => {
    const { ledger, feed, verifiers, time, apply } = await withVerifiers(['1'])
    const world = { ledger, issuer: ledger.issuers.list()[0]!, agent: await w.addAgent(ledger, 'large') }
    await Promise.all(Array.from({ length: 1001 }, () => w.issue(world)))
    const first = feed.head().n + 1
    const { feedN } = await ledger.revocations.revoke({
      selector: { by: 'agent', value: 'large' },
      reason: 'superseded',
      at: time.clock.now(),
      expected: null,
      leaf: () => w.leaf('revoked'),
    })
    expect(feedN).toBe(first + 1)
    await verifiers.get('1')!.until(reaches(feedN))
    acknowledge(feed, '1', first)
    expect((await feed.applied(feedN, 1)).missing).toHaveLength(1)
    expect((await feed.applied(first, 1)).missing).toHaveLength(1)
    await apply('1', feedN)
    expect((await feed.applied(feedN, 1)).missing).toEqual([])
    await feed.close()
    expect(ledger.audit.tail({ event: 'revocation_applied', limit: 9 }).map(({ subject }) => subject)).toEqual([
      'agent:large',
    ])
  })

  it('that nobody remembers, and any other entry, is told by the numbers', async () => {
    const { ledger, feed, apply } = await withVerifiers(['1', '2'])
    await w.addAgent(ledger, 'no-revocation')
    const { n } = feed.head()
    await apply('1', n)
    expect(await feed.applied(n, 1)).toMatchObject({ of: 2, afterMs: null, missing: [{ subscriber: 'billing/2' }] })
    const waiting = feed.applied(n, 90_000)
    await apply('2', n)
    expect((await waiting).missing).toEqual([])
    await feed.close()
  })

  it('is waited for no longer when the server stops', async () => {
    const { feed, revoke } = await withVerifiers(['1'])
    const waiting = feed.applied(await revoke(), 20_000)
    await feed.close()
    expect((await waiting).missing).toHaveLength(1)
  })
})

describe('an acknowledgement', () => {
  it('is of what was sent to this subscriber, and of this epoch', async () => {
    const { feed } = await withVerifiers(['1'])
    const { epoch, n } = feed.head()
    const codeOf = (replica: string, position: { epoch: string; n: number }) => {
      try {
        feed.acknowledge({ kind: 'service', name: 'billing', replica }, position)
        return 'taken'
      } catch (error) {
        return (error as { code: string }).code
      }
    }
    expect(codeOf('1', { epoch, n })).toBe('taken')
    expect(codeOf('1', { epoch, n: n + 1 })).toBe('position_unknown')
    expect(codeOf('1', { epoch: '0123456789abcdef', n })).toBe('position_unknown')
    expect(codeOf('nobody', { epoch, n })).toBe('subscriber_unknown')
    await feed.close()
  })

  it('holds over a reconnect, and never goes back', async () => {
    const { ledger, feed, open, apply } = await withVerifiers(['1'])
    await w.addAgent(ledger, 'next')
    const { n } = feed.head()
    await apply('1', n)
    acknowledge(feed, '1', n - 1)
    await open('1')
    expect(feed.status().subscribers).toMatchObject([{ state: 'live', lag: 0, subscriber: { acked: n } }])
    await feed.close()
  })
})

describe('a receipt', () => {
  it('is written after a minute, with who is missing, and no second one when they come', async () => {
    const { feed, time, revoke, verifiers, beats, receipts, apply } = await withVerifiers(['1', '2'], 0.02)
    const n = await revoke()
    await apply('1', n)
    time.pass(59_999)
    await beats(verifiers.get('1')!)
    expect(receipts()).toEqual([])
    time.pass(1)
    await beats(verifiers.get('1')!)
    await verifiers.get('1')!.until(() => receipts().length > 0)
    expect(receipts()).toMatchObject([{ of: 2, applied: 1, missing: [{ subscriber: 'billing/2' }] }])
    await apply('2', n)
    await feed.close()
    expect(receipts()).toHaveLength(1)
  })

  it('is of a hold as of a revocation, and of nothing where nobody follows the feed', async () => {
    const { ledger, agent, issuer, feed, receipts, apply } = await withVerifiers(['1'])
    await w.issue({ ledger, agent, issuer })
    await w.setState({ ledger, agent, issuer }, 'held')
    await apply('1')
    await feed.close()
    expect(receipts()).toMatchObject([{ type: 'hold', by: 'agent', value: 'crawler', of: 1, applied: 1 }])

    const alone = await withVerifiers([])
    await alone.revoke()
    await alone.feed.close()
    expect(alone.receipts()).toEqual([])
  })

  it('is bounded in number: beyond the bound the oldest is written with what is known', async () => {
    const { feed, revoke, receipts } = await withVerifiers(['1'])
    const numbers: number[] = []
    for (let i = 0; i < 66; i++) numbers.push(await revoke())
    await feed.close()
    expect(receipts().map(({ feed: id }) => Number(id.split('.')[1]))).toEqual([numbers[1], numbers[0]])
  })

  it('is kept while the ledger cannot be written', async () => {
    const written: LeafDraft[] = []
    let failing = true
    const receipts = createReceipts({
      clock: createTestClock().clock,
      log: silentLog,
      audit: {
        append: async leaves => {
          if (failing) throw new Error('disk full')
          written.push(...leaves)
          return { size: 0, head: new Uint8Array(32) }
        },
      },
      registrationOf: () => null,
    })
    const position = { epoch: '0123456789abcdef', n: 5 }
    const event = { type: 'revoke', position, at: 1, by: 'serial', value: '0a', reason: null, changes: [] } as const
    receipts.add({
      ...{ event, n: 5, startedAt: 0, of: 1, waiting: new Map(), applied: new Map(), slowestMs: 0 },
      receipted: false,
    })
    await receipts.write()
    expect(written).toEqual([])
    failing = false
    await receipts.write()
    expect(written.map(({ event: name }) => name)).toEqual(['revocation_applied'])
  })
})
