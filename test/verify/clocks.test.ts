// Clocks that are wrong, put back, put ahead, and news that lay somewhere for a while.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createSaidAt } from '../../src/verify/said-at.ts'
import { createVotedClock } from '../../src/verify/voted-clock.ts'

const hour = 3_600_000

describe('what was said', () => {
  it('counts from then, though it arrives in a heap a minute later', () => {
    const said = createSaidAt()
    expect(said.of(hour, 0)).toBe(0)
    expect(said.of(hour + 5000, 60_000)).toBeCloseTo(5060, -1)
    expect(said.of(hour + 60_000, 60_001)).toBeCloseTo(60_000, -2)
  })

  it('is never later than it arrived, never earlier than what came before it, whatever the speaker says', () => {
    const steps = fc.array(fc.record({ passed: fc.nat(60_000), at: fc.integer({ min: -hour, max: 2 * hour }) }), {
      minLength: 1,
    })
    fc.assert(
      fc.property(steps, list => {
        const said = createSaidAt()
        let [arrived, before] = [0, Number.NEGATIVE_INFINITY]
        for (const { passed, at } of list) {
          arrived += passed
          const found = said.of(at, arrived)
          expect(found).toBeLessThanOrEqual(arrived)
          expect(found).toBeGreaterThanOrEqual(before)
          before = found
        }
      }),
    )
  })

  it('is no older than the question that it answers, however far the speaker put its clock back meanwhile', () => {
    const said = createSaidAt()
    said.of(hour, 0)
    expect(said.of(hour - 60_000, 600_040, 600_000)).toBeGreaterThanOrEqual(600_000)
  })

  it('is found again after the speaker put its clock back, and as clocks run apart for a week', () => {
    const said = createSaidAt()
    let [at, arrived, last] = [100 * hour, 0, 0]
    for (let beat = 0; beat < 120_000; beat++) {
      arrived += 5000
      at += beat === 10 ? -hour : 4999.5
      last = said.of(at, arrived)
      if (beat === 10) expect(arrived - last).toBeGreaterThan(4000)
      if (beat > 10) expect(arrived - last).toBeLessThan(5100)
    }
    expect(arrived - last).toBeLessThan(100)
  })
})

describe('the time that certificates are judged by', () => {
  const create = () => {
    const clock = { wall: 1000 * hour, mono: 7, now: () => clock.wall, monotonic: () => clock.mono }
    const voted = createVotedClock(clock)
    return {
      clock,
      voted,
      pass: (ms: number) => {
        clock.wall += ms
        clock.mono += ms
      },
    }
  }

  it('is the machine’s before the CA was heard', () => {
    const { clock, voted } = create()
    clock.wall += hour
    expect(voted.now()).toBe(clock.wall)
  })

  it.each([-hour, hour, -400 * hour, 400 * hour])('does not follow a step of the machine’s clock by %i', step => {
    const { clock, voted, pass } = create()
    voted.heard(clock.wall - 50, clock.mono)
    const before = voted.now()
    clock.wall += step
    pass(10 * hour)
    expect(Math.abs(voted.now() - before - 10 * hour)).toBeLessThanOrEqual(50)
  })

  it.each([-hour, hour])('does not follow a step of the CA’s clock by %i', step => {
    const { clock, voted, pass } = create()
    voted.heard(clock.wall, clock.mono)
    pass(1000)
    voted.heard(clock.wall + step, clock.mono)
    expect(voted.now()).toBe(clock.wall)
  })

  it('follows a machine’s clock that is put right', () => {
    const { clock, voted, pass } = create()
    const right = clock.wall
    clock.wall -= 5 * hour
    voted.heard(right, clock.mono)
    expect(voted.now()).toBe(clock.wall)
    clock.wall = right
    expect(voted.now()).toBe(right)
    pass(1000)
    voted.heard(right - 9 * hour, clock.mono)
    expect(voted.now()).toBe(clock.wall)
  })
})
