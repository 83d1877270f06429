import { describe, expect, it, vi } from 'vitest'
import type { Clock } from '../../src/base/clock.ts'
import { coalesced } from '../../src/base/coalesced.ts'
import { createUpkeep, type UpkeepDeps } from '../../src/base/upkeep.ts'

describe('coalesced work', () => {
  /** Work that ends when told to. */
  const stepped = () => {
    const ends: ((value: number) => void)[] = []
    const run = coalesced(() => new Promise<number>(resolve => ends.push(resolve)))
    const tick = () => new Promise(setImmediate)
    return { ends, run, tick }
  }

  it('runs once for everybody who asks while it goes on, and after their asking', async () => {
    const { ends, run, tick } = stepped()
    const first = run()
    await tick()
    const [second, third] = [run(), run()]
    await tick()
    expect(ends).toHaveLength(1)
    ends[0]!(1)
    expect(await first).toBe(1)
    await tick()
    expect(ends).toHaveLength(2)
    const fourth = run()
    ends[1]!(2)
    expect(await Promise.all([second, third])).toEqual([2, 2])
    await tick()
    ends[2]!(3)
    expect(await fourth).toBe(3)
  })

  it('goes on after a failure, which only those hear of who asked for that run', async () => {
    let runs = 0
    const run = coalesced(async () => {
      if (++runs === 1) throw new Error('first')
      return runs
    })
    const [first, second] = await Promise.allSettled([run(), run()])
    expect(first).toMatchObject({ status: 'rejected' })
    expect(second).toEqual({ status: 'fulfilled', value: 2 })
  })
})

describe('upkeep', () => {
  const setUp = (changes: Partial<UpkeepDeps> = {}) => {
    vi.useFakeTimers()
    const clock: Clock = { now: () => Date.now(), monotonic: () => Date.now() }
    const begins: number[] = []
    const failures: number[] = []
    const state = { due: Number.POSITIVE_INFINITY, fails: false }
    const origin = Date.now()
    const upkeep = createUpkeep({
      clock,
      work: async () => {
        begins.push(Date.now() - origin)
        state.due = Number.POSITIVE_INFINITY
        if (state.fails) throw new Error('no')
      },
      dueInMs: () => state.due,
      minIntervalMs: 500,
      failed: (_, inARow) => failures.push(inARow),
      ...changes,
    })
    return {
      upkeep,
      begins,
      failures,
      state,
      pass: (ms: number) => vi.advanceTimersByTimeAsync(ms),
      [Symbol.dispose]: () => vi.useRealTimers(),
    }
  }

  it('runs soon after it was woken, but not more often than the interval allows', async () => {
    using it = setUp()
    for (let i = 0; i < 19; i++) {
      it.state.due = 0
      it.upkeep.wake()
      await it.pass(100)
    }
    expect(it.begins).toEqual([0, 500, 1000, 1500])
  })

  it('runs when it is due, and now and then without', async () => {
    using it = setUp()
    it.state.due = 2000
    it.upkeep.wake()
    await it.pass(2000)
    expect(it.begins).toEqual([2000])
    await it.pass(30_000)
    expect(it.begins).toEqual([2000, 32_000])
  })

  it('tries again after a failure, ever more slowly, and forgets the failures at a success', async () => {
    using it = setUp()
    it.state.fails = true
    await expect(it.upkeep.run()).rejects.toThrow('no')
    await it.pass(13_500)
    expect(it.begins).toEqual([0, 500, 1500, 3500, 8500, 13_500])
    expect(it.failures).toEqual([1, 2, 3, 4, 5, 6])
    it.state.fails = false
    await it.pass(5000)
    expect(it.begins).toHaveLength(7)
    it.state.fails = true
    await expect(it.upkeep.run()).rejects.toThrow('no')
    expect(it.failures.at(-1)).toBe(1)
  })

  it('runs when it cannot be told whether it is due', async () => {
    using it = setUp({
      dueInMs: () => {
        throw new Error('the ledger is closed')
      },
    })
    it.upkeep.wake()
    await it.pass(500)
    expect(it.begins).toEqual([500])
  })

  it('ends with the run that goes on', async () => {
    let end = () => {}
    const ended: string[] = []
    using it = setUp({ work: () => new Promise(resolve => (end = resolve)) })
    const running = it.upkeep.run().then(() => ended.push('run'))
    await it.pass(0)
    const closing = it.upkeep.close().then(() => ended.push('close'))
    await it.pass(60_000)
    expect(ended).toEqual([])
    end()
    await Promise.all([running, closing])
    expect(ended).toEqual(['run', 'close'])
    await it.pass(60_000)
    await expect(it.upkeep.run()).rejects.toMatchObject({ code: 'shutting_down' })
  })
})
