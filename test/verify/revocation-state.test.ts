// A verifier's state against a plain model of the ledger's, whatever the stream does to the events in between.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { FeedEvent, FeedPosition } from '../../src/verify/feed-event.ts'
import { createRevocationState, type RevocationState } from '../../src/verify/revocation-state.ts'
import { createSerialTable, serialKeyOf } from '../../src/verify/serial-table.ts'

const epoch = 'ab'.repeat(8)
const end = 4_000_000_000_000
const serialOf = (i: number): string => `01${i.toString(16).padStart(30, '0')}`
const change = (i: number) => ({ serial: serialOf(i), notAfter: end })
const at = (n: number): FeedPosition => ({ epoch, n })

interface Step {
  readonly type: 'revoke' | 'hold' | 'release'
  readonly serials: readonly number[]
}

/** The ledger: what each serial shows after each step. */
const replay = (steps: readonly Step[]): Map<string, string> => {
  const shown = new Map<string, string>()
  for (const { type, serials } of steps)
    for (const i of serials) {
      const serial = serialOf(i)
      if (type === 'revoke') shown.set(serial, 'revoked')
      else if (type === 'hold' && shown.get(serial) !== 'revoked') shown.set(serial, 'held')
      else if (type === 'release' && shown.get(serial) === 'held') shown.delete(serial)
    }
  return shown
}

const eventOf = (step: Step, n: number): FeedEvent => ({
  type: step.type,
  position: at(n),
  at: n,
  by: 'serial',
  value: '',
  reason: null,
  changes: step.serials.map(change),
})

const snapshotOf = (steps: readonly Step[], n: number, parts: number): FeedEvent[] => {
  const entries = [...replay(steps.slice(0, n))]
  const size = Math.max(1, Math.ceil(entries.length / parts))
  return Array.from({ length: parts }, (_, i) => {
    const page = entries.slice(i * size, (i + 1) * size)
    const pick = (status: string) =>
      page.filter(each => each[1] === status).map(([serial]) => ({ serial, notAfter: end }))
    return {
      type: 'snapshot' as const,
      position: at(n),
      at: n,
      part: i + 1,
      parts,
      revoked: pick('revoked'),
      held: pick('held'),
      principals: [],
    }
  })
}

const shownBy = (state: RevocationState): Map<string, string> =>
  new Map(
    (state.snapshot(0) ?? []).flatMap(part => [
      ...part.revoked.map(each => [each.serial, 'revoked'] as const),
      ...part.held.map(each => [each.serial, 'held'] as const),
    ]),
  )

const sorted = (map: Map<string, string>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1))

const step = fc.record({
  type: fc.constantFrom('revoke' as const, 'hold' as const, 'release' as const),
  serials: fc.array(fc.nat(40), { maxLength: 8 }),
})
/** What a connection does: how many events get through before it breaks, and which of them come twice. */
const connection = fc.record({
  through: fc.nat(12),
  twice: fc.nat(12),
  lost: fc.nat(20),
  parts: fc.integer({ min: 1, max: 4 }),
})

test('however connections break, lose and repeat events, the set ends up the ledger’s and is never ahead of its position', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.array(connection, { maxLength: 12 }), (steps, connections) => {
      const state = createRevocationState()
      const run = (from: FeedPosition | null, faults: (typeof connections)[number] | null): void => {
        const start = from?.n ?? steps.length
        const events = [
          ...(from === null ? snapshotOf(steps, start, faults?.parts ?? 2) : []),
          ...steps.slice(start).map((each, i) => eventOf(each, start + i + 1)),
        ]
        for (const [i, event] of events.entries()) {
          if (faults !== null && i >= faults.through) return
          if (faults !== null && i === faults.lost) continue
          const applied = state.apply(event)
          if (faults !== null && i === faults.twice && applied === 'applied' && event.type !== 'snapshot')
            expect(state.apply(event)).toBe('duplicate')
          const position = state.position()
          if (position !== null) expect(sorted(shownBy(state))).toEqual(sorted(replay(steps.slice(0, position.n))))
          if (applied === 'resync') return
        }
      }
      for (const faults of connections) run(state.position(), faults)
      run(state.position(), null)
      if (state.position() === null) run(null, null)
      // A cut snapshot may have been left behind: its first follower asks for another round.
      run(state.position(), null)
      expect(sorted(shownBy(state))).toEqual(sorted(replay(steps)))
    }),
  )
})

test('before the first snapshot nothing is known, and another epoch asks for one', () => {
  const state = createRevocationState()
  expect(state.position()).toBe(null)
  expect(state.apply(eventOf({ type: 'revoke', serials: [1] }, 1))).toBe('resync')
  for (const part of snapshotOf([], 0, 1)) state.apply(part)
  expect(state.apply({ type: 'heartbeat', position: { epoch: 'cd'.repeat(8), n: 0 }, at: 0, leaseSeconds: 15 })).toBe(
    'resync',
  )
  expect(state.apply({ type: 'heartbeat', position: at(0), at: 0, leaseSeconds: 15 })).toBe('applied')
})

test('a heartbeat ahead of what was applied says that something is missing', () => {
  const state = createRevocationState()
  for (const part of snapshotOf([], 0, 1)) state.apply(part)
  expect(state.apply({ type: 'heartbeat', position: at(1), at: 0, leaseSeconds: 15 })).toBe('resync')
})

test('a snapshot replaces the state only when its last part is there', () => {
  const state = createRevocationState()
  for (const part of snapshotOf([{ type: 'revoke', serials: [1] }], 1, 1)) state.apply(part)
  const [first] = snapshotOf(
    [
      { type: 'revoke', serials: [1] },
      { type: 'revoke', serials: [2, 3] },
    ],
    2,
    2,
  )
  expect(state.apply(first!)).toBe('part')
  expect(state.position()).toEqual(at(1))
  expect(state.status(serialKeyOf(serialOf(1)))).toBe('revoked')
  expect(state.status(serialKeyOf(serialOf(2)))).toBe(null)
  // The stream went on without the rest.
  expect(state.apply(eventOf({ type: 'revoke', serials: [9] }, 2))).toBe('resync')
})

test('entries end with their certificates, and serials of other lengths are known too', () => {
  const table = createSerialTable()
  table.set(serialKeyOf('0a'), 'held', 5_000)
  table.set(serialKeyOf(serialOf(1)), 'revoked', 5_000)
  table.set(serialKeyOf(serialOf(2)), 'held', 9_000)
  table.release(serialKeyOf(serialOf(1)))
  expect(table.get(serialKeyOf(serialOf(1)))).toBe('revoked')
  expect(table.size).toBe(3)
  table.expire(6_000)
  expect([...table.entries()]).toEqual([{ serial: serialOf(2), status: 'held', notAfter: 9_000 }])
  table.set(serialKeyOf('0a'), 'held', 8_000)
  table.release(serialKeyOf('0a'))
  expect(table.get(serialKeyOf('0a'))).toBe(null)
})

test('room that is made beforehand changes nothing of what is known, and has a bound', () => {
  const table = createSerialTable()
  table.set(serialKeyOf(serialOf(1)), 'revoked', end)
  table.set(serialKeyOf(serialOf(2)), 'held', end)
  table.reserve(Number.MAX_SAFE_INTEGER)
  table.release(serialKeyOf(serialOf(2)))
  table.reserve(0)
  for (let i = 3; i < 5000; i++) table.set(serialKeyOf(serialOf(i)), 'revoked', end)
  expect(table.get(serialKeyOf(serialOf(1)))).toBe('revoked')
  expect(table.get(serialKeyOf(serialOf(2)))).toBe(null)
  expect(table.get(serialKeyOf(serialOf(4999)))).toBe('revoked')
  expect(table.size).toBe(4998)
})

test('a million entries take less than 100 MB', () => {
  const before = process.memoryUsage()
  const table = createSerialTable()
  for (let i = 0; i < 1_000_000; i++)
    table.set(new Uint32Array([0x01000000, i, i * 7, Math.imul(i, 0x9e3779b1) >>> 0]), 'revoked', end)
  globalThis.gc?.()
  const after = process.memoryUsage()
  expect(table.size).toBe(1_000_000)
  expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(100_000_000)
})
