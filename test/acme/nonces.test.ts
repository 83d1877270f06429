// Replay-Nonces (RFC 8555 §6.5): once, only here, and in bounded memory.
import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { createNonces } from '../../src/acme/nonces.ts'

const key = () => new Uint8Array(randomBytes(32))

describe('a nonce', () => {
  it('is taken once', () => {
    const nonces = createNonces(key())
    const nonce = nonces.create()
    expect(nonce).toMatch(/^[A-Za-z0-9_-]+$/)
    expect([nonces.take(nonce), nonces.take(nonce)]).toEqual([true, false])
  })

  it('of another process, or of nobody, is not taken', () => {
    const nonces = createNonces(key())
    expect(nonces.take(createNonces(key()).create())).toBe(false)
    for (const text of ['', 'AAAA', 'not base64url!', 'A'.repeat(30), `${nonces.create()}A`]) {
      expect(nonces.take(text), text).toBe(false)
    }
  })

  it('with one bit changed is not taken', () => {
    const nonces = createNonces(key())
    const bytes = Buffer.from(nonces.create(), 'base64url')
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = Buffer.from(bytes)
      changed[bit >> 3]! ^= 1 << (bit & 7)
      expect(nonces.take(changed.toString('base64url')), `bit ${bit}`).toBe(false)
    }
    expect(nonces.take(bytes.toString('base64url'))).toBe(true)
  })

  it('is forgotten when so many others came after it, used or not', () => {
    const nonces = createNonces(key(), 64)
    const [used, unused] = [nonces.create(), nonces.create()]
    expect(nonces.take(used)).toBe(true)
    const later = Array.from({ length: 64 }, () => nonces.create())
    expect([nonces.take(used), nonces.take(unused)]).toEqual([false, false])
    expect(later.map(each => nonces.take(each))).toEqual(later.map(() => true))
    expect(later.map(each => nonces.take(each))).toEqual(later.map(() => false))
  })
})
