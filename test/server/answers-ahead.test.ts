// The walk over what lives: newest first, in steps, bounded, and only while somebody can sign.
import { describe, expect, test } from 'vitest'
import { createAnswersAhead } from '../../src/server/answers-ahead.ts'
import type { CertificateFilter, CertificatesPort } from '../../src/store/ports.ts'
import type { CertificateRecord } from '../../src/store/records.ts'

const now = 1_000_000

/** Rows 1 to `count`, the newest first, as a ledger pages them. */
const world = (count: number, more: (n: number) => Partial<CertificateRecord> = () => ({})) => {
  const state = { signs: true, presigned: [] as number[], steps: 0, looked: 0 }
  const list: CertificatesPort['list'] = ({ before, limit }: CertificateFilter) => {
    const newest = before === undefined ? count : Number(before) - 1
    const rows = Array.from({ length: Math.min(limit, newest) }, (_, i) => newest - i).map(
      n => ({ serial: String(n), state: 'issued', notAfter: now + 1, ...more(n) }) as CertificateRecord,
    )
    state.looked += rows.length
    return { rows, next: newest > limit ? rows.at(-1)!.serial : null }
  }
  const step = createAnswersAhead({
    clock: { now: () => now, monotonic: () => 0 },
    certificates: { list },
    presign: serial => state.presigned.push(Number(serial)),
    canSign: () => state.signs,
  })
  return {
    state,
    steps: (n: number) => {
      for (let i = 0; i < n; i++) step()
    },
  }
}

describe('answers for what lives already', () => {
  test('are signed newest first, and again for what came in between after a rest', () => {
    const { state, steps } = world(250)
    steps(3)
    expect(state.presigned).toEqual(Array.from({ length: 250 }, (_, i) => 250 - i))
    steps(60)
    expect(state.looked).toBe(250)
    steps(3)
    expect(state.looked).toBe(500)
  })

  test('are not for what is expired, or has no answer of its own', () => {
    const states = ['issued', 'held', 'revoked', 'intent', 'orphaned', 'void'] as const
    const { state, steps } = world(7, n => (n === 7 ? { notAfter: now } : { state: states[n - 1]! }))
    steps(1)
    expect(state.presigned).toEqual([3, 2, 1])
  })

  test('wait while nobody can sign', () => {
    const { state, steps } = world(5)
    state.signs = false
    steps(5)
    expect(state.looked).toBe(0)
    state.signs = true
    steps(1)
    expect(state.presigned).toHaveLength(5)
  })

  test('are for the newest alone where there are more than the memory holds', () => {
    const { state, steps } = world(80_000)
    steps(500)
    expect([state.looked, state.presigned.at(-1)]).toEqual([50_000, 30_001])
    steps(61)
    expect(state.presigned.at(-1)).toBe(79_901)
  })
})
