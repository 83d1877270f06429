import { expect, test } from 'vitest'
import { timeOrderedId } from '../../src/base/time-ordered-id.ts'

const random = (octet: number): Uint8Array => new Uint8Array(10).fill(octet)

test('an id is 48 bits of time in milliseconds and 80 drawn ones, in lower-case hex', () => {
  expect(timeOrderedId(0x0192_abcd_ef01, random(0x7f))).toBe('0192abcdef017f7f7f7f7f7f7f7f7f7f')
  expect(timeOrderedId(5, random(0))).toBe(`${'0'.repeat(11)}5${'0'.repeat(20)}`)
})

test('ids of a later millisecond come later, whatever was drawn', () => {
  const now = Date.UTC(2026, 10, 24)
  const ids = [now, now + 1, now + 255, now + 256, now + 70_000].map((at, i) => timeOrderedId(at, random(255 - i)))
  expect(ids.toSorted()).toEqual(ids)
})

test('ids of one millisecond differ by what was drawn, of which there must be enough', () => {
  expect(timeOrderedId(1, random(1))).not.toBe(timeOrderedId(1, random(2)))
  expect(() => timeOrderedId(1, new Uint8Array(9))).toThrow(TypeError)
})
