// What is usual: robust against wild values, by the hour of the week; and what "in the last minute" means, in memory of fixed size.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { networkOf } from '../../src/monitor/networks.ts'
import { isWithinHours, localTime, matches } from '../../src/monitor/rules.ts'
import { createSeconds, spanSeconds } from '../../src/monitor/seconds.ts'
import {
  createPeaks,
  hourOfWeek,
  keptWeeks,
  median,
  medianAbsoluteDeviation,
  upperLimit,
  usualRate,
} from '../../src/monitor/statistics.ts'

const hour = 3_600_000
const week = 168 * hour
const monday = Date.UTC(2026, 10, 23)
const values = fc.array(fc.integer({ min: 0, max: 1_000_000 }), { minLength: 1, maxLength: 30 })

describe('the median and the median absolute deviation', () => {
  it('lie within the values, and half of the values lie on each side', () => {
    fc.assert(
      fc.property(values, list => {
        const centre = median(list)
        expect(list.filter(value => value <= centre).length * 2).toBeGreaterThanOrEqual(list.length)
        expect(list.filter(value => value >= centre).length * 2).toBeGreaterThanOrEqual(list.length)
        const spread = medianAbsoluteDeviation(list, centre)
        expect(spread).toBeGreaterThanOrEqual(0)
        expect(spread).toBeLessThanOrEqual(Math.max(...list) - Math.min(...list))
      }),
    )
  })

  it('move with the values: shifted by a shift, stretched by a factor', () => {
    fc.assert(
      fc.property(values, fc.integer({ min: 1, max: 1000 }), (list, by) => {
        const [centre, spread] = [median(list), medianAbsoluteDeviation(list, median(list))]
        const shifted = list.map(value => value + by)
        expect([median(shifted), medianAbsoluteDeviation(shifted, centre + by)]).toEqual([centre + by, spread])
        const stretched = list.map(value => value * by)
        expect([median(stretched), medianAbsoluteDeviation(stretched, centre * by)]).toEqual([centre * by, spread * by])
      }),
    )
  })

  it('are not moved out of the honest values by fewer wild ones', () => {
    const honest = fc.array(fc.integer({ min: 50, max: 100 }), { minLength: 5, maxLength: 8 })
    const wild = fc.array(fc.integer({ min: 1_000_000, max: 9_000_000 }), { maxLength: 2 })
    fc.assert(
      fc.property(honest, wild, (list, few) => {
        const usual = usualRate([...list, ...few], 3)!
        expect(usual.median).toBeLessThanOrEqual(100)
        expect(upperLimit(usual, 6, 1)).toBeLessThan(1_000_000)
      }),
    )
  })

  it('say nothing before the minimum of history, and never less than the floor', () => {
    expect(usualRate([10, 11], 3)).toBeNull()
    expect(usualRate([], 0)).toBeNull()
    expect(upperLimit(usualRate([10, 10, 10], 3)!, 6, 60)).toBe(60)
    expect(upperLimit(usualRate([100, 110, 120], 3)!, 6, 60)).toBe(199)
  })
})

describe('the hours of the week', () => {
  it('begin on Monday, are 168, and come again each week', () => {
    expect([monday, monday + 25 * hour, monday - 1].map(hourOfWeek)).toEqual([0, 25, 167])
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 4_000_000_000_000 }), at => {
        expect(hourOfWeek(at)).toBe(hourOfWeek(at + week))
        expect(new Date(at).getUTCHours()).toBe(hourOfWeek(at) % 24)
        expect((new Date(at).getUTCDay() + 6) % 7).toBe(Math.floor(hourOfWeek(at) / 24))
      }),
    )
  })

  it('are learned each for itself, for a season, and no single hour teaches more than three times what was usual', () => {
    const peaks = createPeaks()
    for (let i = 0; i < 12; i++) peaks.learn(monday + i * week, 100 + i)
    expect(peaks.like(monday)).toEqual([104, 105, 106, 107, 108, 109, 110, 111])
    expect(peaks.like(monday + hour)).toEqual([])
    peaks.learn(monday, 1_000_000)
    expect(peaks.like(monday).at(-1)).toBeLessThanOrEqual(3 * 111)
    expect(peaks.like(monday)).toHaveLength(keptWeeks)
    expect(createPeaks(peaks.stored()).like(monday)).toEqual(peaks.like(monday))
  })
})

describe('the ring of seconds', () => {
  it('sums what a list of everything would, in any order within its span, in memory of fixed size', () => {
    const event = fc.record({
      at: fc.integer({ min: 0, max: 3 * spanSeconds * 1000 }),
      allowed: fc.integer({ min: 0, max: 50 }),
      denied: fc.integer({ min: 0, max: 50 }),
    })
    fc.assert(
      fc.property(fc.array(event, { maxLength: 80 }), fc.integer({ min: 1, max: 400 }), (events, window) => {
        const seconds = createSeconds()
        const kept: typeof events = []
        let newest = Number.NEGATIVE_INFINITY
        for (const each of events) {
          const second = Math.floor(each.at / 1000)
          newest = Math.max(newest, second)
          if (newest - second < spanSeconds) kept.push(each)
          seconds.add(each.at, each.allowed, each.denied)
          const span = Math.min(window, spanSeconds)
          const inside = kept.filter(({ at }) => {
            const age = newest - Math.floor(at / 1000)
            return age < span
          })
          expect(seconds.sum(newest * 1000 + 999, window)).toEqual({
            allowed: inside.reduce((sum, { allowed }) => sum + allowed, 0),
            denied: inside.reduce((sum, { denied }) => sum + denied, 0),
          })
        }
      }),
    )
  })

  it('stays at its most where numbers are absurd', () => {
    const seconds = createSeconds()
    for (let i = 0; i < 5; i++) seconds.add(monday, 1_000_000_000, 0)
    expect(seconds.sum(monday, 1).allowed).toBe(0xffff_ffff)
  })

  it('has nothing left after its span', () => {
    const seconds = createSeconds()
    seconds.add(monday, 5, 1)
    expect(seconds.sum(monday + 59_000, 60)).toEqual({ allowed: 5, denied: 1 })
    expect(seconds.sum(monday + 60_000, 60)).toEqual({ allowed: 0, denied: 0 })
    expect(seconds.sum(monday + week, 300)).toEqual({ allowed: 0, denied: 0 })
  })
})

describe('office hours', () => {
  const office = { days: ['mon', 'fri'] as const, from: '08:00', until: '17:30', timezone: 'Europe/Berlin' }
  const within = (text: string, rule: Parameters<typeof isWithinHours>[0] = { ...office, days: [...office.days] }) =>
    isWithinHours(rule, Date.parse(text))

  it('are those of their time zone, summer time included', () => {
    expect(within('2026-11-23T07:00:00Z')).toBe(true)
    expect(within('2026-11-23T06:59:59Z')).toBe(false)
    expect(within('2026-11-23T16:30:00Z')).toBe(false)
    expect(within('2026-07-13T06:00:00Z')).toBe(true)
    expect(within('2026-11-24T10:00:00Z')).toBe(false)
    expect(localTime(Date.parse('2026-11-22T23:30:00Z'), 'Europe/Berlin')).toEqual(['mon', '00:30'])
  })

  it('may go over midnight: the night belongs to the day it began on', () => {
    const night = { days: ['fri' as const], from: '22:00', until: '06:00', timezone: 'UTC' }
    expect(within('2026-11-27T23:00:00Z', night)).toBe(true)
    expect(within('2026-11-28T05:59:00Z', night)).toBe(true)
    expect(within('2026-11-28T06:00:00Z', night)).toBe(false)
    expect(within('2026-11-27T05:00:00Z', night)).toBe(false)
    expect(within('2026-11-27T12:00:00Z', night)).toBe(false)
  })
})

describe('patterns and networks', () => {
  it('match whole names, a star stands for anything and nothing else is special', () => {
    expect(matches('office-*', 'office-7')).toBe(true)
    expect(matches('office-*', 'my-office-7')).toBe(false)
    expect(matches('a.c', 'abc')).toBe(false)
    expect(matches('/payroll/*/x', '/payroll/2026/11/x')).toBe(true)
  })

  it('are prefixes of the stated length', () => {
    const lengths = { ipv4: 20, ipv6: 48 }
    expect(networkOf('192.0.47.9', lengths)).toBe('192.0.32.0/20')
    expect(networkOf('2001:db8:1:2::9', lengths)).toBe('2001:db8:1::/48')
    expect(networkOf('fe80::1%eth0', lengths)).toBe('fe80::/48')
    expect(['unknown', '', 'proxy.example.org'].map(source => networkOf(source, lengths))).toEqual([null, null, null])
  })
})
