import { expect, it } from 'vitest'
import { createReleased } from '../../src/ca/released.ts'

const certificate = (n: number): Uint8Array => new TextEncoder().encode(`certificate ${n}`)

it('knows what was released by its whole bytes, at least the last ones up to its bound', () => {
  const released = createReleased(10)
  for (let n = 0; n < 25; n++) {
    expect(released.has(certificate(n))).toBe(false)
    released.add(certificate(n))
    for (let last = Math.max(0, n - 9); last <= n; last++) expect(released.has(certificate(last))).toBe(true)
  }
  expect(released.has(certificate(0))).toBe(false)
  const changed = certificate(24)
  changed[0] = changed[0]! ^ 1
  expect(released.has(changed)).toBe(false)
})
