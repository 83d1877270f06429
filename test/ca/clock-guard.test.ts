import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Clock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { type ClockGuard, createClockGuard } from '../../src/ca/clock-guard.ts'
import type { Ledger } from '../../src/store/ports.ts'
import { makeLedger } from '../store/make-ledger.ts'

const start = Date.UTC(2026, 5, 1, 12)
const second = 1000
const minute = 60 * second
const hour = 60 * minute
const context = { requestId: 'r1', who: 'operator:alice', source: '127.0.0.1' }

/** Wall and monotonic time that move only when told to. */
const createTestClock = () => {
  let wall = start
  let monotonic = 0
  const clock: Clock = { now: () => wall, monotonic: () => monotonic }
  return {
    clock,
    /** Time goes by. */
    pass: (ms: number) => {
      wall += ms
      monotonic += ms
    },
    /** Somebody sets the clock. */
    step: (ms: number) => {
      wall += ms
    },
    /** The machine is off, or asleep. */
    reboot: (downMs: number) => {
      wall += downMs
      monotonic = 0
    },
  }
}

const guardOf = (ledger: Ledger, clock: Clock): ClockGuard =>
  createClockGuard({ clock, meta: ledger.meta, audit: ledger.audit, log: silentLog })

const signs = (guard: ClockGuard, clock: Clock): boolean => {
  try {
    guard.check(clock.now())
    return true
  } catch (error) {
    expect(error).toMatchObject({ code: 'clock_refused', hint: expect.stringContaining('agentca clock accept') })
    return false
  }
}

const eventsOf = (ledger: Ledger): readonly string[] => ledger.audit.read(0, 1000).map(({ event }) => event)

const createBench = () => {
  const time = createTestClock()
  const ledger = makeLedger()
  const guard = guardOf(ledger, time.clock)
  return { ...time, ledger, guard, signs: () => signs(guard, time.clock) }
}

describe('a clock that goes back', () => {
  it('is trusted up to 5 s behind the last signing time, and no further', () => {
    const { step, signs } = createBench()
    expect(signs()).toBe(true)
    step(-5 * second)
    expect(signs()).toBe(true)
    step(-1)
    expect(signs()).toBe(false)
  })

  it('is trusted again once it is right, without anybody', () => {
    const { step, pass, signs } = createBench()
    expect(signs()).toBe(true)
    step(-10 * second)
    expect(signs()).toBe(false)
    pass(5 * second)
    expect(signs()).toBe(true)
  })

  it('is refused after a restart too', async () => {
    const { ledger, guard, clock, reboot, signs: signsNow } = createBench()
    expect(signsNow()).toBe(true)
    await guard.close()
    reboot(-6 * second)
    const restarted = guardOf(ledger, clock)
    expect(restarted.state()).toMatchObject({ state: 'refused', lastSigning: start })
    expect(signs(restarted, clock)).toBe(false)
  })
})

describe('a clock that goes ahead', () => {
  it('is trusted up to 10 min further than the monotonic clock, and no further, in one step or in many', () => {
    const { step, pass, signs } = createBench()
    for (let i = 0; i < 10; i++) {
      step(minute)
      pass(3 * hour)
      expect(signs()).toBe(true)
    }
    step(1)
    expect(signs()).toBe(false)
  })

  it('is trusted after any time without a process: nothing measured it', async () => {
    const { ledger, guard, clock, reboot, signs: signsNow } = createBench()
    expect(signsNow()).toBe(true)
    await guard.close()
    reboot(400 * 24 * hour)
    expect(signs(guardOf(ledger, clock), clock)).toBe(true)
  })
})

describe('a clock that a process begins with', () => {
  const day = 24 * hour
  /** The CA was off for so long, by a clock that may be wrong. */
  const restartedAfter = async (downMs: number) => {
    const bench = createBench()
    expect(bench.signs()).toBe(true)
    await bench.guard.close()
    bench.reboot(downMs)
    return { ...bench, restarted: guardOf(bench.ledger, bench.clock) }
  }

  it('ends things for good where it is no more than a day past the last time that was known', async () => {
    const { restarted } = await restartedAfter(day)
    expect([restarted.mayEnd(), restarted.state().state]).toEqual([true, 'ok'])
    expect(guardOf(makeLedger(), createTestClock().clock).mayEnd()).toBe(true)
  })

  it('signs and ends nothing for good where it is further, however long it runs and whatever it signs, until it is accepted', async () => {
    const { restarted, clock, pass, step, reboot, ledger } = await restartedAfter(day + 1)
    expect([restarted.mayEnd(), restarted.state().state]).toEqual([false, 'unconfirmed'])
    expect(signs(restarted, clock)).toBe(true)
    pass(3 * day)
    expect(signs(restarted, clock)).toBe(true)
    await restarted.confirm()
    step(hour)
    expect([restarted.mayEnd(), restarted.state().state]).toEqual([false, 'refused'])
    step(-hour)
    await restarted.close()
    reboot(minute)
    const third = guardOf(ledger, clock)
    expect([third.mayEnd(), third.state().state]).toEqual([false, 'unconfirmed'])
    await expect(third.accept(context)).resolves.toMatchObject({ state: 'ok' })
    expect(third.mayEnd()).toBe(true)
    await third.close()
    reboot(minute)
    expect(guardOf(ledger, clock).mayEnd()).toBe(true)
  })

  it('is trusted again once it is set right, where nothing was signed by it', async () => {
    const { restarted, step } = await restartedAfter(400 * day)
    expect(restarted.mayEnd()).toBe(false)
    step(-399 * day)
    expect([restarted.mayEnd(), restarted.state().state]).toEqual([true, 'ok'])
  })

  it('is known from the last confirmation where nothing was signed for long', async () => {
    const { restarted, clock, pass, reboot, ledger } = await restartedAfter(minute)
    pass(9 * day)
    await restarted.confirm()
    reboot(hour)
    expect(guardOf(ledger, clock).mayEnd()).toBe(true)
  })
})

describe('the time to act on', () => {
  it('is the wall clock’s, behind too, as long as that one has not jumped ahead', () => {
    const { step, pass, clock, guard } = createBench()
    expect(guard.now()).toBe(start)
    pass(3 * hour)
    step(10 * minute)
    expect(guard.now()).toBe(clock.now())
    step(-2 * hour)
    expect(guard.now()).toBe(clock.now())
  })

  it('goes on with the monotonic clock after a jump ahead, until an operator accepts it', async () => {
    const { step, pass, clock, guard, signs } = createBench()
    expect(signs()).toBe(true)
    step(400 * 24 * hour)
    expect(guard.now()).toBe(start)
    pass(hour)
    expect(guard.now()).toBe(start + hour)
    await guard.accept(context)
    expect(guard.now()).toBe(clock.now())
  })
})

describe('accepting', () => {
  it.each([-2 * hour, 2 * hour])(
    'after a step of %i ms signs from there on, and is audited with its reason',
    async step => {
      const bench = createBench()
      expect(bench.signs()).toBe(true)
      bench.step(step)
      expect(bench.signs()).toBe(false)
      await expect(bench.guard.accept(context, 'the battery was replaced')).resolves.toMatchObject({ state: 'ok' })
      expect(bench.signs()).toBe(true)
      expect(bench.ledger.meta.get('last_signing_time')).toBe(String(start + step))
      await bench.guard.close()
      const leaf = bench.ledger.audit.tail({ event: 'clock_accepted', limit: 1 })[0]!
      expect(JSON.parse(new TextDecoder().decode(leaf.bytes))).toMatchObject({
        who: 'operator:alice',
        req: 'r1',
        why: 'the battery was replaced',
        lastSigning: start,
        accepted: start + step,
      })
    },
  )

  it('changes nothing when the ledger cannot record it', async () => {
    const { guard, ledger, step, signs } = createBench()
    expect(signs()).toBe(true)
    step(-hour)
    await ledger.close()
    await expect(guard.accept(context)).rejects.toMatchObject({ code: 'store_failed' })
    expect(signs()).toBe(false)
  })
})

describe('the ledger', () => {
  it('gets one leaf for one jump, however many requests meet it', async () => {
    const { guard, ledger, step, signs } = createBench()
    expect(signs()).toBe(true)
    step(-hour)
    for (let i = 0; i < 100; i++) expect(signs()).toBe(false)
    step(hour)
    expect(signs()).toBe(true)
    step(hour)
    for (let i = 0; i < 100; i++) expect(signs()).toBe(false)
    await guard.close()
    expect(eventsOf(ledger)).toEqual(['clock_jump', 'clock_jump'])
  })

  it('gets the last signing time every 5 s and at the end, not for every certificate', async () => {
    const time = createTestClock()
    await using ledger = makeLedger()
    let writes = 0
    const meta: Ledger['meta'] = {
      ...ledger.meta,
      set: values => {
        writes++
        return ledger.meta.set(values)
      },
    }
    const guard = createClockGuard({ clock: time.clock, meta, audit: ledger.audit, log: silentLog })
    for (let i = 0; i < 1000; i++) {
      expect(signs(guard, time.clock)).toBe(true)
      // The writes run between requests.
      await new Promise(setImmediate)
      time.pass(10)
    }
    await guard.close()
    // At 0 s, 5 s, and the last 4.99 s at the end.
    expect(writes).toBe(3)
    expect(ledger.meta.get('last_signing_time')).toBe(String(start + 9_990))
  })
})

type Move =
  | { readonly move: 'pass' | 'step'; readonly ms: number }
  | { readonly move: 'restart'; readonly ms: number; readonly end: 'close' | 'crash' }
  | { readonly move: 'sign' | 'accept' }

const around = (ms: number) => fc.integer({ min: ms - 2, max: ms + 2 })
const distance = fc.oneof(
  fc.integer({ min: -20 * minute, max: 20 * minute }),
  ...[0, 5 * second, -5 * second, 10 * minute, -10 * minute].map(around),
)
const anyMove: fc.Arbitrary<Move> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ move: fc.constant('sign' as const) }) },
  { weight: 2, arbitrary: fc.record({ move: fc.constant('pass' as const), ms: fc.nat({ max: 20 * minute }) }) },
  { weight: 2, arbitrary: fc.record({ move: fc.constant('step' as const), ms: distance }) },
  { weight: 1, arbitrary: fc.record({ move: fc.constant('accept' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      move: fc.constant('restart' as const),
      ms: distance,
      end: fc.constantFrom('close' as const, 'crash' as const),
    }),
  },
)

describe('for any sequence of clock moves', () => {
  it('nothing is signed 5 s before an earlier signature (10 s after a crash) or beyond 10 min of unmeasured time, and all else is', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyMove, { maxLength: 40 }), async moves => {
        const { clock, pass, step, reboot } = createTestClock()
        await using ledger = makeLedger()
        let guard = guardOf(ledger, clock)
        // The model: latest signature since an operator last accepted a time; how far steps alone took the clock, from the lowest
        // point where it was trusted.
        let latest = Number.NEGATIVE_INFINITY
        let afterCrash = false
        let stepped = 0
        let lowest = 0
        for (const each of moves) {
          switch (each.move) {
            case 'pass':
              pass(each.ms)
              break
            case 'step':
              step(each.ms)
              stepped += each.ms
              break
            case 'accept':
              await guard.accept(context)
              latest = clock.now()
              afterCrash = false
              lowest = stepped
              break
            case 'restart':
              if (each.end === 'close') await guard.close()
              else afterCrash = true
              reboot(each.ms)
              guard = guardOf(ledger, clock)
              stepped = 0
              lowest = 0
              break
            case 'sign': {
              const behind = latest - clock.now()
              const ahead = stepped - lowest
              const signed = signs(guard, clock)
              if (behind > 10 * second || (behind > 5 * second && !afterCrash) || ahead > 10 * minute)
                expect(signed).toBe(false)
              else if (behind <= 5 * second) expect(signed).toBe(true)
              if (!signed) break
              lowest = Math.min(lowest, stepped)
              if (clock.now() >= latest) {
                latest = clock.now()
                afterCrash = false
              }
              // What the guard began to write is durable before the next move: a later write is.
              await new Promise(setImmediate)
              await ledger.meta.set({})
            }
          }
        }
        await guard.close()
      }),
      { numRuns: 300 },
    )
  })
})
