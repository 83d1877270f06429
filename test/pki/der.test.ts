import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { concatBytes, fromHex, toHex } from '../../src/base/bytes.ts'
import * as der from '../../src/pki/der.ts'
import { createBench } from './openssl.ts'
import { codeOf } from './refusal.ts'

const bytes = (hex: string): Uint8Array => fromHex(hex.replaceAll(' ', ''))!
const read = <T>(input: Uint8Array, body: (reader: der.DerReader) => T): T => {
  const reader = new der.DerReader(input)
  const value = body(reader)
  reader.end()
  return value
}

/** Goes through every element, descending wherever a reader would. */
const walk = (reader: der.DerReader): void => {
  while (!reader.atEnd) {
    const element = reader.readTlv()
    if ((element.tag & 0x20) !== 0) walk(element.reader())
  }
}

describe('reader(writer(x)) is x', () => {
  it('INTEGER of any size and sign', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 200n), max: 2n ** 200n }), value => {
        expect(read(der.integer(value), r => r.readBigInteger())).toBe(value)
      }),
    )
  })

  it('INTEGER from an unsigned magnitude', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 40 }), magnitude => {
        const value = BigInt(`0x${toHex(magnitude)}`)
        expect(read(der.integer(magnitude), r => r.readBigInteger())).toBe(value)
        expect(toHex(read(der.integer(magnitude), r => r.readUnsignedInteger())).replace(/^(00)+(?=..)/, '')).toBe(
          toHex(magnitude).replace(/^(00)+(?=..)/, ''),
        )
      }),
    )
  })

  it('OBJECT IDENTIFIER, with arcs larger than 64 bits', () => {
    const arc = fc.bigInt({ min: 0n, max: 2n ** 128n })
    fc.assert(
      fc.property(fc.constantFrom(0, 1, 2), fc.nat(39), fc.array(arc, { maxLength: 2 }), (first, second, rest) => {
        const dotted = [first, second, ...rest].join('.')
        expect(read(der.oid(dotted), r => r.readOid())).toBe(dotted)
      }),
    )
    expect(read(der.oid('2.999.3'), r => r.readOid())).toBe('2.999.3')
  })

  it('strings, octets, bits, booleans', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme' }),
        fc.uint8Array({ maxLength: 70_000 }),
        fc.boolean(),
        (text, octets, flag) => {
          expect(read(der.utf8String(text), r => r.readUtf8String())).toBe(text)
          expect(read(der.octetString(octets), r => r.readOctetString())).toEqual(octets)
          expect(read(der.bitString(octets), r => r.readOctetAlignedBitString())).toEqual(octets)
          expect(read(der.boolean(flag), r => r.readBoolean())).toBe(flag)
        },
      ),
      { numRuns: 50 },
    )
  })

  it('named bit lists, without trailing zeros (X.690 §11.2.2)', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(20)), bits => {
        expect(read(der.namedBitString(bits), r => r.readNamedBits())).toEqual(bits.toSorted((a, b) => a - b))
      }),
    )
  })

  it('times to the second, from year 0 to 9999', () => {
    const first = Date.UTC(2000, 0, 1) - 2000 * 365.2425 * 86_400_000
    fc.assert(
      fc.property(
        fc.integer({ min: Math.ceil(first / 1000) + 86_400, max: Date.UTC(9999, 11, 31) / 1000 }),
        seconds => {
          expect(read(der.time(seconds * 1000), r => r.readTime())).toBe(seconds * 1000)
          expect(read(der.generalizedTime(seconds * 1000 + 999), r => r.readGeneralizedTime())).toBe(seconds * 1000)
        },
      ),
    )
  })

  it('lengths on both sides of every form of the length octets', () => {
    for (const length of [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x10000]) {
      const value = new Uint8Array(length).fill(7)
      expect(read(der.octetString(value), r => r.readOctetString())).toEqual(value)
    }
  })
})

describe('the writer', () => {
  it('takes UTCTime through 2049 and GeneralizedTime from 2050 (RFC 5280 §4.1.2.5)', () => {
    expect(Buffer.from(der.time(Date.UTC(2049, 11, 31, 23, 59, 59))).toString('latin1')).toBe('\x17\x0d491231235959Z')
    expect(Buffer.from(der.time(Date.UTC(2050, 0, 1))).toString('latin1')).toBe('\x18\x0f20500101000000Z')
    expect(der.time(Date.UTC(1949, 11, 31))[0]).toBe(0x18)
  })

  it('sorts the elements of a SET OF (X.690 §11.6)', () => {
    expect(toHex(der.set(der.integer(300), der.integer(2), der.integer(1)))).toBe('310a0201010201020202012c')
  })

  it('refuses what has no encoding', () => {
    for (const call of [
      () => der.oid('3.1'),
      () => der.oid('1.40'),
      () => der.oid('1'),
      () => der.oid('1.2.03'),
      () => der.integer(1.5),
      () => der.integer(new Uint8Array(0)),
      () => der.printableString('a_b'),
      () => der.ia5String('é'),
      () => der.utf8String('\ud800'),
      () => der.bitString(Uint8Array.of(1), 1),
      () => der.bitString(new Uint8Array(0), 1),
      () => der.time(Number.NaN),
    ])
      expect(codeOf(call)).toBe('not_encodable')
  })

  it('is read by openssl asn1parse with the same values', () => {
    using bench = createBench()
    const input = der.sequence(
      der.integer(-129),
      der.oid('2.25.338429998881881818181818'),
      der.set(der.utf8String('grün')),
      der.enumerated(5),
    )
    const text = bench.openssl('asn1parse', '-inform', 'DER', '-in', bench.file('x.der', input))
    expect(text).toContain('INTEGER           :-81')
    expect(text).toContain('OBJECT            :2.25.338429998881881818181818')
    expect(text).toContain('ENUMERATED        :05')
  })
})

describe('the strict reader refuses', () => {
  const cases: readonly (readonly [string, string, (r: der.DerReader) => unknown])[] = [
    ['the empty input', '', r => r.readTlv()],
    ['a missing length', '30', r => r.readTlv()],
    ['a length that passes the end', '0403ffff', r => r.readTlv()],
    ['length octets cut off', '048201', r => r.readTlv()],
    ['the indefinite length (X.690 §10.1)', '3080 0201 01 0000', r => r.readTlv()],
    ['a long form where the short one fits', '048101ff', r => r.readTlv()],
    ['a long form with a leading zero', `04820080${'00'.repeat(128)}`, r => r.readTlv()],
    ['lengths of more than four octets', '0485000000000100', r => r.readTlv()],
    ['high tag numbers', '1f8101 00', r => r.readTlv()],
    ['tag 0', '0000', r => r.readTlv()],
    ['trailing bytes', '0500 00', r => r.readNull()],
    ['an element that is too long for its parent', '3003 0403 010203', r => walk(r)],
    ['an integer without content', '0200', r => r.readInteger()],
    ['an integer with a surplus zero (X.690 §8.3.2)', '02020001', r => r.readInteger()],
    ['an integer with a surplus FF', '0202ff80', r => r.readInteger()],
    ['a negative integer where none may be', '0201ff', r => r.readUnsignedInteger()],
    ['a BOOLEAN other than 00 and FF (X.690 §11.1)', '010101', r => r.readBoolean()],
    ['a BOOLEAN of two octets', '0102ffff', r => r.readBoolean()],
    ['an encoded default (X.690 §11.5)', '010100', r => r.readDefaultFalse()],
    ['a NULL with content', '050100', r => r.readNull()],
    ['bit string padding that is not zero', '03020101', r => r.readBitString()],
    ['a bit string without content', '0300', r => r.readBitString()],
    ['an empty bit string with unused bits', '030101', r => r.readBitString()],
    ['eight unused bits', '03020800', r => r.readBitString()],
    ['a named bit list with a trailing zero bit', '03020680', r => [r.readNamedBits()]],
    ['an object identifier without content', '0600', r => r.readOid()],
    ['an object identifier cut off', '06022a86', r => r.readOid()],
    ['an object identifier with a padded arc', '06032a8001', r => r.readOid()],
    ['a SET OF out of order', '3106 020102 020101', r => r.readSet()],
    ['a primitive where a sequence must be', '1000', r => r.readSequence()],
    ['a constructed octet string', '2403040101', r => r.readOctetString()],
    ['UTF-8 that is none', '0c02c080', r => r.readUtf8String()],
    ['IA5 above 127', '160180', r => r.readIa5String()],
    ['UTCTime without seconds', `170b${Buffer.from('2601010000Z').toString('hex')}`, r => r.readTime()],
    ['UTCTime with an offset', `1711${Buffer.from('260101000000+0000').toString('hex')}`, r => r.readTime()],
    ['February 30', `170d${Buffer.from('260230000000Z').toString('hex')}`, r => r.readTime()],
    ['hour 24', `170d${Buffer.from('260101240000Z').toString('hex')}`, r => r.readTime()],
    [
      'fractions of a second (RFC 5280 §4.1.2.5.2)',
      `1811${Buffer.from('20260101000000.5Z').toString('hex')}`,
      r => r.readTime(),
    ],
  ]
  it.each(cases)('%s', (_name, hex, body) => {
    const input = bytes(hex)
    expect(codeOf(() => read(input, body))).toBe('der_malformed')
  })

  it('nesting deeper than its bound', () => {
    let input: Uint8Array = new Uint8Array(0)
    for (let i = 0; i < 200; i++) input = der.sequence(input)
    expect(codeOf(() => read(input, walk))).toBe('der_malformed')
  })
})

describe('arbitrary bytes', () => {
  it('either read to their end or are refused as der_malformed', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), input => {
        expect(['accepted', 'der_malformed']).toContain(codeOf(() => walk(new der.DerReader(input))))
      }),
      { numRuns: 2000 },
    )
  })

  it('what a walk accepts, writing the same elements gives again: one encoding for one value', () => {
    const rewrite = (reader: der.DerReader): Uint8Array => {
      const parts: Uint8Array[] = []
      while (!reader.atEnd) {
        const element = reader.readTlv()
        const content = (element.tag & 0x20) !== 0 ? rewrite(element.reader()) : element.content
        parts.push(der.derElement(element.tag, [content]))
      }
      return concatBytes(parts)
    }
    const tree = fc.letrec(tie => ({
      node: fc.oneof(
        { maxDepth: 4 },
        fc.uint8Array({ maxLength: 8 }).map(der.octetString),
        fc.array(tie('node') as fc.Arbitrary<Uint8Array>, { maxLength: 4 }).map(parts => der.sequenceOf(parts)),
      ),
    })).node
    fc.assert(
      fc.property(tree, input => {
        expect(rewrite(new der.DerReader(input as Uint8Array))).toEqual(input)
      }),
    )
  })
})
