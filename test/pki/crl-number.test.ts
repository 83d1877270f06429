// The number of a list without its entries: a list of which no entry can be read still says which it is.
import { describe, expect, it } from 'vitest'
import { assembleCrl, encodeTbsCertList, parseCrl, parseCrlNumberOf } from '../../src/pki/crl.ts'
import { encodeName } from '../../src/pki/names.ts'

const algorithm = 'ecdsa-with-SHA256'
const serial = Uint8Array.of(0x55, 1, 2, 3, 4, 5, 6, 7)
const list = (entries: boolean): Uint8Array => {
  const tbs = encodeTbsCertList({
    issuerName: encodeName([['CN', 'numbers']]),
    signatureAlgorithm: algorithm,
    authorityKeyId: new Uint8Array(20),
    crlNumber: 77n,
    thisUpdate: Date.UTC(2026, 0, 1),
    nextUpdate: Date.UTC(2026, 0, 2),
    entries: entries ? [{ serial, revokedAt: Date.UTC(2026, 0, 1) }] : [],
  })
  return assembleCrl(tbs, algorithm, new Uint8Array(70))
}

describe('parseCrlNumberOf', () => {
  it.for([true, false])('is the number and the issuer of the whole list (entries: %s)', entries => {
    const { issuerName, crlNumber } = parseCrl(list(entries))
    expect(parseCrlNumberOf(list(entries))).toEqual({ issuerName, crlNumber })
    expect(crlNumber).toBe(77n)
  })

  it('looks at no entry', () => {
    const spoilt = Buffer.from(list(true))
    // The tag of the serial.
    spoilt[spoilt.indexOf(serial) - 2] = 0x04
    expect(() => parseCrl(spoilt)).toThrow()
    expect(parseCrlNumberOf(spoilt).crlNumber).toBe(77n)
  })
})
