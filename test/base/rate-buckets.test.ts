import { expect, it } from 'vitest'
import { createRateBuckets } from '../../src/base/rate-buckets.ts'

const at = { ms: 0 }
const buckets = (bound = 10) => {
  at.ms = 0
  return createRateBuckets<string>({ monotonic: () => at.ms }, { burst: 3, perMinute: 2 }, bound)
}

it('gives a burst, then as many as a minute brings, and says how long the next one takes', () => {
  const { take } = buckets()
  expect([take('a'), take('a'), take('a'), take('a')]).toEqual([0, 0, 0, 30_000])
  at.ms = 29_000
  expect(take('a')).toBe(1000)
  at.ms = 30_000
  expect([take('a'), take('a'), take('b')]).toEqual([0, 30_000, 0])
  at.ms = 3_600_000
  expect([take('a'), take('a'), take('a'), take('a')]).toEqual([0, 0, 0, 30_000])
})

it('takes back what came to nothing, and never has more than a burst', () => {
  const { take, giveBack } = buckets()
  for (let i = 0; i < 10; i++) {
    expect(take('a')).toBe(0)
    giveBack('a')
    giveBack('a')
  }
  expect([take('a'), take('a'), take('a'), take('a') > 0]).toEqual([0, 0, 0, true])
})

it('forgets the longest silent first', () => {
  const { take } = buckets(2)
  for (const key of ['a', 'a', 'a', 'b', 'a', 'c']) take(key)
  expect([take('a') > 0, take('b')]).toEqual([true, 0])
})
