// Who has a place at the feed, and who can take one from whom.
import { describe, expect, it } from 'vitest'
import { createSubscribers, type SubscriberIdentity } from '../../src/feed/subscribers.ts'

const hour = 3_600_000

const createBench = () => {
  let now = Date.UTC(2026, 5, 1)
  const subscribers = createSubscribers({ clock: { now: () => now, monotonic: () => now }, leaseSeconds: 30 })
  const connect = (identity: Partial<SubscriberIdentity>, serial = '01') =>
    subscribers.connect(
      { kind: 'service', name: 'rogue', replica: 'r', maxStalenessSeconds: 86_400, ...identity },
      0,
      serial,
    )
  /** Connects and drops under ever new names until it is refused. @returns how often it was let in */
  const exhaust = (identityOf: (i: number) => Partial<SubscriberIdentity>): number => {
    for (let i = 0; i < 20_000; i++)
      try {
        subscribers.disconnect(connect(identityOf(i)))
      } catch (error) {
        expect(error).toMatchObject({ code: 'too_many_subscribers' })
        return i
      }
    return 20_000
  }
  const pass = (ms: number): void => {
    now += ms
    subscribers.sweep()
  }
  return { subscribers, connect, exhaust, pass }
}

describe('places at the feed', () => {
  it('are free once the certificate was revoked that they were taken with, and nobody else’s', () => {
    const { subscribers, connect, exhaust } = createBench()
    connect({ replica: 'renewed' })
    expect(exhaust(i => ({ replica: `r${i}` }))).toBe(1999)
    connect({ replica: 'renewed' }, '02')
    connect({ name: 'billing' }, '03')
    expect(subscribers.forgetCertificates(new Set(['01', '04']))).toHaveLength(1999)
    expect([...subscribers.all()].map(({ label }) => label)).toEqual(['rogue/renewed', 'billing/r'])
    expect(exhaust(i => ({ replica: `again${i}` }))).toBe(1999)
  })

  it('are bounded for each service, so that one key under many names takes none from the verifiers of others', () => {
    const { connect, exhaust, pass } = createBench()
    expect(exhaust(i => ({ replica: `r${i}` }))).toBe(2000)
    pass(23 * hour)
    expect(connect({ name: 'billing' }).label).toBe('billing/r')
  })

  it('stay with those who had them when their registration has no more', () => {
    const { connect, exhaust } = createBench()
    exhaust(i => ({ replica: `r${i}` }))
    expect(connect({ replica: 'r1999' }).disconnectedAt).toBeNull()
  })

  it('are not the agents’, however many of them listen', () => {
    const { connect, exhaust } = createBench()
    expect(exhaust(i => ({ kind: 'agent', name: 'crawler', replica: `i${i}` }))).toBe(10_000)
    expect(connect({ name: 'billing' }).label).toBe('billing/r')
  })

  it('are free again once their holders are forgotten: left, gone for too long, or retired', () => {
    const { subscribers, connect, exhaust, pass } = createBench()
    exhaust(i => ({ replica: `r${i}` }))
    subscribers.forget({ kind: 'service', name: 'rogue', replica: 'r0' })
    subscribers.forget({ kind: 'service', name: 'rogue', replica: 'r0' })
    expect(exhaust(i => ({ replica: `again${i}` }))).toBe(1)
    pass(25 * hour)
    expect(exhaust(i => ({ replica: `r${i}` }))).toBe(2000)
    connect({ name: 'billing' })
    expect(subscribers.forgetRegistration({ kind: 'service', name: 'rogue' })).toHaveLength(2000)
    expect([...subscribers.all()].map(({ label }) => label)).toEqual(['billing/r'])
    expect(exhaust(i => ({ replica: `r${i}` }))).toBe(2000)
  })
})
