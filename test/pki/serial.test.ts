import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { toHex } from '../../src/base/bytes.ts'
import { DerReader, integer } from '../../src/pki/der.ts'
import { encodeSerial, parseSerialHex, serialFromHex, serialHex } from '../../src/pki/serial.ts'
import { codeOf } from './refusal.ts'

const random10 = new Uint8Array(10).fill(0xff)

describe('serials', () => {
  it('are 16 bytes, positive, minimal as INTEGER (RFC 5280 §4.1.2.2), and text comes back', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 0x7f }),
        fc.nat(2 ** 43),
        fc.uint8Array({ minLength: 10, maxLength: 10 }),
        (prefix, nowMs, random) => {
          const serial = encodeSerial({ prefix, nowMs, random10: random })
          expect(serial).toHaveLength(16)
          const content = new DerReader(integer(serial)).readInteger()
          expect(content).toEqual(serial)
          expect(serialHex(content)).toBe(toHex(serial))
          expect(serialFromHex(parseSerialHex(serialHex(content)))).toEqual(serial)
        },
      ),
    )
  })

  it('sort by replica, then by time', () => {
    const at = (prefix: number, nowMs: number) => serialHex(encodeSerial({ prefix, nowMs, random10 }))
    const zero = serialHex(encodeSerial({ prefix: 1, nowMs: 1_800_000_000_016, random10: new Uint8Array(10) }))
    expect(at(1, 1_800_000_000_000) < zero).toBe(true)
    expect(at(1, 4_000_000_000_000) < at(2, 0)).toBe(true)
  })

  it('refuse a prefix, a time or a random part out of range', () => {
    for (const parts of [
      { prefix: 0, nowMs: 1, random10 },
      { prefix: 0x80, nowMs: 1, random10 },
      { prefix: 1.5, nowMs: 1, random10 },
      { prefix: 1, nowMs: -1, random10 },
      { prefix: 1, nowMs: Number.NaN, random10 },
      { prefix: 1, nowMs: 2 ** 44, random10 },
      { prefix: 1, nowMs: 1, random10: new Uint8Array(9) },
    ])
      expect(codeOf(() => encodeSerial(parts))).toBe('not_encodable')
  })

  it('of others: leading zero dropped, negative ones marked as OpenSSL does', () => {
    expect(serialHex(Uint8Array.of(0, 0xff))).toBe('ff')
    expect(serialHex(Uint8Array.of(0xff))).toBe('-01')
    expect(serialHex(Uint8Array.of(0x80))).toBe('-80')
    expect(serialHex(Uint8Array.of(0xff, 0))).toBe('-0100')
    expect(serialHex(Uint8Array.of(0))).toBe('00')
  })

  it.each([
    ['01:AB:ff', '01abff'],
    [' 0x1AB ', '01ab'],
    ['0001', '01'],
    ['0', '00'],
  ])('%j is understood as %s', (text, expected) => {
    expect(parseSerialHex(text)).toBe(expected)
  })

  it.each(['', 'xyz', '01::02', ':01', '-01', '12 34', 'f'.repeat(41)])('%j is refused', text => {
    expect(codeOf(() => parseSerialHex(text))).toBe('serial_malformed')
  })
})
