import fc from 'fast-check'
import { expect, test } from 'vitest'
import { matchesWildcard, type Star } from '../../src/base/wildcard.ts'

const stars: readonly (readonly [Star, string])[] = [
  [{ atLeast: 0, never: null }, '[^]*'],
  [{ atLeast: 1, never: '/' }, '[^/]+'],
]

test('a pattern matches what the regular expression of the same meaning matches', () => {
  const letters = fc.string({ unit: fc.constantFrom('a', 'b', '/', '*'), maxLength: 12 })
  for (const [star, form] of stars)
    fc.assert(
      fc.property(letters, letters, (pattern, text) => {
        const expected = new RegExp(`^${pattern.replaceAll('*', form)}$`).test(text)
        expect(matchesWildcard(pattern, text, star), `${pattern} ${text}`).toBe(expected)
      }),
      { numRuns: 5000 },
    )
})

test('what a regular expression says with signs of its own stands for itself', () => {
  const [[star]] = stars as [readonly [Star, string]]
  expect(matchesWildcard('a.b(c)+[d]$', 'a.b(c)+[d]$', star)).toBe(true)
  expect(matchesWildcard('a.*', 'ab', star)).toBe(false)
})

test('a text that almost fits costs no more than one that does, however many stars there are', () => {
  for (const [star] of stars) expect(matchesWildcard(`${'*a'.repeat(100)}*b`, 'a'.repeat(100_000), star)).toBe(false)
})
