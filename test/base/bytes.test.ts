import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fromBase64, fromBase64url, fromHex, toBase64, toBase64url, toHex } from '../../src/base/bytes.ts'

describe('text forms of bytes', () => {
  it('read back what they wrote', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
        expect(fromHex(toHex(bytes))).toEqual(bytes)
        expect(fromBase64(toBase64(bytes))).toEqual(bytes)
        expect(fromBase64url(toBase64url(bytes))).toEqual(bytes)
      }),
    )
  })

  it('refuse what RFC 4648 does not allow', () => {
    for (const text of ['A', 'AA', 'AB==', 'AA==\n', ' AA==', 'A-==']) expect(fromBase64(text)).toBeNull()
    for (const text of ['A', 'AB', 'AA==', 'A+']) expect(fromBase64url(text)).toBeNull()
    // Node decodes characters by their low octet: š (U+0161) would be a.
    for (const text of ['0', 'zz', '0x', 'šš', 'aš']) expect(fromHex(text)).toBeNull()
  })
})
