// Calls like the one before on the same connection: let in by comparing revision and time, counted without a judgement of each, and never
// for longer than what they were let in by holds.
import { describe, expect, it } from 'vitest'
import { systemTiming } from '../../src/agent/backoff.ts'
import { reportDecisions } from '../../src/verifier/decision-report.ts'
import { type Call, createJudging } from '../../src/verifier/judgement.ts'
import { Pass } from '../../src/verifier/pass.ts'
import type { VerifiedPeer } from '../../src/verify/decision.ts'
import { type Confirmations, freshnessAt, trustedForMs } from '../../src/verify/freshness.ts'

const peer = { spiffeId: 'spiffe://example.org/agent/caller/i/1', name: 'caller' } as unknown as VerifiedPeer
const call: Call = { demand: {}, request: { method: 'GET', url: '/orders', socket: { remoteAddress: '192.0.2.7' } } }
const judged = (judging: ReturnType<typeof createJudging>) => {
  judging.judge(
    call,
    () => peer,
    () => peer,
  )
  return judging.counted()
}

describe('a call like the last one', () => {
  const demand = { scopes: ['orders:read'] }
  const remembered = () => {
    const pass = new Pass(peer, 1, 1)
    pass.remember({ method: 'GET', url: '/orders' }, demand, null)
    return pass
  }

  it('has its URL, method and the very same demand', () => {
    expect(remembered().isLast({ method: 'GET', url: '/orders' }, demand)).toBe(true)
    expect(remembered().isLast({ method: 'POST', url: '/orders' }, demand)).toBe(false)
    expect(remembered().isLast({ method: 'GET', url: '/orders?all' }, demand)).toBe(false)
    expect(remembered().isLast({ method: 'GET', url: '/orders' }, { ...demand })).toBe(false)
  })

  it('is none where policies were asked', () => {
    const conditional = { conditional: { action: 'orders:read' } }
    const pass = remembered()
    pass.remember({ method: 'GET', url: '/orders' }, conditional, null)
    expect(pass.isLast({ method: 'GET', url: '/orders' }, conditional)).toBe(false)
  })

  it('is judged on its own while somebody hears of every call or is asked of it, and anew once that changes', () => {
    const judging = createJudging(systemTiming.clock)
    expect(judging.repeat(judged(judging), 0)).toBe(true)
    judging.observe(() => {}, 'refusals')
    expect(judging.repeat(judged(judging), 0)).toBe(true)
    for (const begin of [() => judging.observe(() => {}), () => judging.addCondition(() => {})]) {
      const before = judging.version()
      const end = begin()
      expect(judging.version()).toBeGreaterThan(before)
      expect(judging.repeat(judged(judging), 0)).toBe(false)
      const during = judging.version()
      end()
      expect(judging.version()).toBeGreaterThan(during)
      expect(judging.repeat(judged(judging), 0)).toBe(true)
    }
  })

  it('is counted where that one was, until that is on its way', async () => {
    const told: number[] = []
    const judging = createJudging(systemTiming.clock)
    const report = reportDecisions({
      verifier: judging,
      identity: {
        current: () => ({ url: 'https://ca.invalid', trustDomain: 'example.org' }) as never,
        fetch: async (_, { body }) => {
          const { decisions } = JSON.parse(body as string) as { decisions: Record<string, number>[] }
          for (const decision of decisions) {
            expect(decision).not.toHaveProperty('isTaken')
            told.push(decision.count as number)
          }
          return new Response(null, { status: 204 }) as never
        },
      },
      sampleAbovePerSecond: 1_000_000,
    })
    const counted = judged(judging)
    for (let i = 0; i < 100; i++) expect(judging.repeat(counted, i)).toBe(true)
    await report[Symbol.asyncDispose]()
    expect(told).toEqual([101])
    expect(judging.repeat(counted, 0)).toBe(false)
  })
})

it('is trusted for exactly so long as nobody says anything more', () => {
  const policy = { onStale: 'refuse', maxStalenessMs: 1000 } as const
  const now = { wall: 50_000, monotonic: 20_000 }
  const later = (ms: number) => ({ wall: now.wall + ms, monotonic: now.monotonic + ms })
  const grounds: readonly Confirmations[] = [
    { confirmedAt: 19_500, leaseUntil: null, publishedUntil: null },
    { confirmedAt: 1000, leaseUntil: 23_000, publishedUntil: null },
    { confirmedAt: 1000, leaseUntil: 20_100, publishedUntil: 55_000 },
    { confirmedAt: 19_900, leaseUntil: 20_100, publishedUntil: 50_200 },
  ]
  expect(grounds.map(known => trustedForMs(known, policy, now))).toEqual([500, 3000, 5000, 900])
  for (const known of grounds) {
    const ms = trustedForMs(known, policy, now)
    expect(freshnessAt(known, policy, later(ms - 1)).trusted).toBe(true)
    expect(freshnessAt(known, policy, later(ms + 1)).trusted).toBe(false)
  }
  expect(trustedForMs({ confirmedAt: 1000, leaseUntil: 2000, publishedUntil: 3000 }, policy, now)).toBe(0)
  expect(trustedForMs({ confirmedAt: null, leaseUntil: null, publishedUntil: null }, policy, now)).toBe(0)
})
