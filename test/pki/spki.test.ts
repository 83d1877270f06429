import { createHash, generateKeyPairSync } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fromHex, toHex } from '../../src/base/bytes.ts'
import { bitString, integer, nullValue, oid, sequence } from '../../src/pki/der.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { keyIdentifier, parseSubjectPublicKeyInfo, spkiHashHex, toKeyObject } from '../../src/pki/spki.ts'
import { createTestKey, spkiDerOf } from './keys.ts'
import { codeOf, reasonOf } from './refusal.ts'

const ecSpki = (curve: string, point: Uint8Array): Uint8Array =>
  sequence(sequence(oid(oidOf.ecPublicKey), oid(curve)), bitString(point))
const rsaSpki = (modulus: bigint, exponent: bigint): Uint8Array =>
  sequence(sequence(oid(oidOf.rsaEncryption), nullValue()), bitString(sequence(integer(modulus), integer(exponent))))
const edSpki = (key: Uint8Array): Uint8Array => sequence(sequence(oid(oidOf.ed25519)), bitString(key))
const odd = (bits: number): bigint => (1n << BigInt(bits - 1)) + 1n
const curveSpki = (namedCurve: string): Uint8Array => spkiDerOf(generateKeyPairSync('ec', { namedCurve }).publicKey)

describe('parseSubjectPublicKeyInfo', () => {
  it.each([
    ['P-256', 256],
    ['P-384', 384],
    ['Ed25519', 256],
    ['RSA', 2048],
  ] as const)('reads a %s key made by OpenSSL', (algorithm, bits) => {
    const { spki } = createTestKey(algorithm)
    expect(spki).toMatchObject({ algorithm, bits })
    expect(new Uint8Array(toKeyObject(spki).export({ type: 'spki', format: 'der' }))).toEqual(spki.der)
    expect(toKeyObject(spki)).toBe(toKeyObject(spki))
  })

  it.each(['secp224r1', 'secp256k1', 'secp521r1'])('refuses curve %s by name', curve => {
    expect(reasonOf(() => parseSubjectPublicKeyInfo(curveSpki(curve)))).toBe('unsupported_curve')
  })

  it('refuses explicit curve parameters (RFC 5480 §2.1.1)', () => {
    const der = spkiDerOf(generateKeyPairSync('ec', { namedCurve: 'P-256', paramEncoding: 'explicit' }).publicKey)
    expect(reasonOf(() => parseSubjectPublicKeyInfo(der))).toBe('unsupported_curve')
  })

  it('refuses points off the curve: any flipped bit of a coordinate', () => {
    for (const algorithm of ['P-256', 'P-384'] as const) {
      const { spki } = createTestKey(algorithm)
      const curve = algorithm === 'P-256' ? oidOf.p256 : oidOf.p384
      fc.assert(
        fc.property(fc.integer({ min: 8, max: spki.keyBytes.length * 8 - 1 }), bit => {
          const point = spki.keyBytes.slice()
          point[bit >> 3]! ^= 1 << (bit & 7)
          expect(reasonOf(() => parseSubjectPublicKeyInfo(ecSpki(curve, point)))).toBe('point_not_on_curve')
        }),
      )
    }
  })

  it('refuses a coordinate that is its reduced value plus p', () => {
    const p = 0xffffffff00000001000000000000000000000000ffffffffffffffffffffffffn
    const x = fromHex((5n + p).toString(16).padStart(64, '0'))!
    // x = 5 is on P-256; with x + p only the range check can refuse.
    const y = fromHex('459243b9aa581806fe913bce99817ade11ca503c64d9a3c533415c083248fbcc')!
    expect(
      reasonOf(() => parseSubjectPublicKeyInfo(ecSpki(oidOf.p256, Uint8Array.of(4, ...new Uint8Array(31), 5, ...y)))),
    ).toBe('accepted')
    expect(reasonOf(() => parseSubjectPublicKeyInfo(ecSpki(oidOf.p256, Uint8Array.of(4, ...x, ...y))))).toBe(
      'point_not_on_curve',
    )
  })

  it('refuses compressed points, the point at infinity and points of another length', () => {
    const { keyBytes } = createTestKey('P-256').spki
    expect(
      reasonOf(() => parseSubjectPublicKeyInfo(ecSpki(oidOf.p256, Uint8Array.of(2, ...keyBytes.subarray(1, 33))))),
    ).toBe('compressed_point')
    expect(reasonOf(() => parseSubjectPublicKeyInfo(ecSpki(oidOf.p256, Uint8Array.of(0))))).toBe('malformed_point')
    expect(reasonOf(() => parseSubjectPublicKeyInfo(ecSpki(oidOf.p384, keyBytes)))).toBe('malformed_point')
  })

  it('refuses RSA moduli below 2048 and above 8192 bits, and even ones', () => {
    const reason = (bits: number) => reasonOf(() => parseSubjectPublicKeyInfo(rsaSpki(odd(bits), 65537n)))
    expect([1024, 2040, 2047, 2048, 8192, 8193].map(reason)).toEqual([
      'rsa_too_small',
      'rsa_too_small',
      'rsa_too_small',
      'accepted',
      'accepted',
      'rsa_too_large',
    ])
    expect(reasonOf(() => parseSubjectPublicKeyInfo(rsaSpki(1n << 2047n, 65537n)))).toBe('rsa_even_modulus')
    const small = spkiDerOf(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey)
    expect(reasonOf(() => parseSubjectPublicKeyInfo(small))).toBe('rsa_too_small')
  })

  it('refuses RSA exponents that are tiny, even or beyond 32 bits (FIPS 186-5 §5.1)', () => {
    for (const exponent of [0n, 1n, 3n, 17n, 65536n, 65538n, 1n + (1n << 32n)])
      expect(reasonOf(() => parseSubjectPublicKeyInfo(rsaSpki(odd(2048), exponent)))).toBe('rsa_exponent')
  })

  it('refuses Ed25519 keys of small order and non-canonical ones (RFC 8032 §5.1)', () => {
    const p = (1n << 255n) - 19n
    const little = (y: bigint) => fromHex(y.toString(16).padStart(64, '0'))!.toReversed()
    const smallOrder = [
      '0100000000000000000000000000000000000000000000000000000000000000',
      'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
      '0000000000000000000000000000000000000000000000000000000000000080',
      '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
      '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85',
      'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
    ]
    for (const hex of smallOrder)
      expect(reasonOf(() => parseSubjectPublicKeyInfo(edSpki(fromHex(hex)!)))).toBe('small_order_point')
    expect(reasonOf(() => parseSubjectPublicKeyInfo(edSpki(little(p + 3n))))).toBe('malformed_point')
    expect(codeOf(() => parseSubjectPublicKeyInfo(edSpki(new Uint8Array(31))))).toBe('key_malformed')
  })

  it('demands NULL for RSA (RFC 3279 §2.3.1) and nothing for Ed25519 (RFC 8410 §3) as parameters', () => {
    const { keyBytes } = createTestKey('RSA').spki
    expect(
      codeOf(() => parseSubjectPublicKeyInfo(sequence(sequence(oid(oidOf.rsaEncryption)), bitString(keyBytes)))),
    ).toBe('der_malformed')
    const ed = createTestKey('Ed25519').spki.keyBytes
    expect(
      codeOf(() => parseSubjectPublicKeyInfo(sequence(sequence(oid(oidOf.ed25519), nullValue()), bitString(ed)))),
    ).toBe('key_malformed')
  })

  it('refuses non-minimal integers and trailing bytes inside an RSA key', () => {
    const key = createTestKey('RSA').spki.keyBytes
    const wrap = (bytes: Uint8Array) => sequence(sequence(oid(oidOf.rsaEncryption), nullValue()), bitString(bytes))
    expect(codeOf(() => parseSubjectPublicKeyInfo(wrap(Uint8Array.of(...key, 0))))).toBe('der_malformed')
    expect(codeOf(() => parseSubjectPublicKeyInfo(wrap(sequence(Uint8Array.of(2, 2, 0, 5), integer(65537)))))).toBe(
      'der_malformed',
    )
  })
})

describe('names of a key', () => {
  it('the hash is SHA-256 over the DER, the identifier SHA-1 over the bits (RFC 5280 §4.2.1.2)', () => {
    const { spki } = createTestKey('P-256')
    expect(spkiHashHex(spki.der)).toBe(createHash('sha256').update(spki.der).digest('hex'))
    expect(toHex(keyIdentifier(spki))).toBe(createHash('sha1').update(spki.keyBytes).digest('hex'))
  })
})
