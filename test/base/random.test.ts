// Pooled random bytes: no byte is given out twice, and what was given out does not change.
import { expect, test } from 'vitest'
import { toHex } from '../../src/base/bytes.ts'
import { pooledRandomBytes } from '../../src/base/random.ts'

test('are of the length asked for, and never the same, across the ends of the pool', () => {
  const drawn = Array.from({ length: 2_000 }, (_, i) => pooledRandomBytes(16 + (i % 3)))
  expect(drawn.map(bytes => bytes.length)).toEqual(drawn.map((_, i) => 16 + (i % 3)))
  expect(new Set(drawn.map(bytes => toHex(bytes.subarray(0, 16)))).size).toBe(drawn.length)
})

test('stay what they were while others are drawn', () => {
  const bytes = pooledRandomBytes(16)
  const text = toHex(bytes)
  for (let i = 0; i < 1_000; i++) pooledRandomBytes(16)
  expect(toHex(bytes)).toBe(text)
})
