import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { fromHex, toHex } from '../../src/base/bytes.ts'
import { encodeSignatureAlgorithm } from '../../src/pki/algorithms.ts'
import { assembleCrl, type CrlFields, encodeTbsCertList, parseCrl, parseCrlInSlices } from '../../src/pki/crl.ts'
import { enumerated, explicit, generalizedTime, integer, sequence, time } from '../../src/pki/der.ts'
import { authorityKeyIdentifier, type Extension, encodeExtensions } from '../../src/pki/extensions.ts'
import { encodeGeneralNames } from '../../src/pki/general-names.ts'
import { encodeName } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { codeOf } from './refusal.ts'

const algorithm = 'ecdsa-with-SHA256'
const issuerName = encodeName([['CN', 'reader test']])
const otherName = encodeName([['CN', 'another issuer']])
const fields: CrlFields = {
  issuerName,
  signatureAlgorithm: algorithm,
  authorityKeyId: new Uint8Array(20),
  crlNumber: 7n,
  thisUpdate: Date.UTC(2026, 0, 1),
  nextUpdate: Date.UTC(2026, 0, 2),
}
const frame = (tbs: Uint8Array): Uint8Array => assembleCrl(tbs, algorithm, new Uint8Array(70))
const bytes = (hex: string): Uint8Array => fromHex(hex)!

interface ForeignList {
  readonly version?: Uint8Array[]
  readonly algorithm?: Uint8Array
  readonly issuer?: Uint8Array
  readonly nextUpdate?: Uint8Array[]
  readonly entries?: readonly Uint8Array[]
  readonly extensions?: readonly Extension[]
}

/** Lists as others make them, or as nobody should. */
const foreign = (list: ForeignList): Uint8Array =>
  frame(
    sequence(
      ...(list.version ?? [integer(1)]),
      list.algorithm ?? encodeSignatureAlgorithm(algorithm),
      list.issuer ?? issuerName,
      time(fields.thisUpdate),
      ...(list.nextUpdate ?? [time(fields.nextUpdate)]),
      ...(list.entries === undefined ? [] : [sequence(...list.entries)]),
      ...(list.extensions === undefined ? [] : [explicit(0, encodeExtensions(list.extensions))]),
    ),
  )

const entry = (serial: number, ...extensions: readonly Extension[]): Uint8Array =>
  sequence(integer(serial), time(fields.thisUpdate), ...(extensions.length === 0 ? [] : [encodeExtensions(extensions)]))

const extension = (oid: string, value: Uint8Array, critical = false): Extension => ({ oid, critical, value })
const reason = (number: number): Extension => extension(oidOf.reasonCode, enumerated(number))
const certificateIssuer = (nameDer: Uint8Array): Extension =>
  extension(oidOf.certificateIssuer, encodeGeneralNames([{ kind: 'directory', nameDer }]), true)

describe('lists of others', () => {
  test('an unsorted list is searched as well as a sorted one', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 1_000_000 }), { minLength: 1, maxLength: 60 }), serials => {
        const crl = parseCrl(foreign({ entries: serials.map(serial => entry(serial)) }))
        const content = (serial: number) => integer(serial).subarray(2)
        for (const serial of serials)
          expect(toHex(crl.findRevoked(content(serial))!.serial)).toBe(toHex(content(serial)))
        expect(crl.findRevoked(content(1_000_001))).toBeUndefined()
        expect([...crl.entries()].map(each => toHex(each.serial))).toEqual(serials.map(each => toHex(content(each))))
      }),
    )
  })

  test('a list of version 1 without nextUpdate is read (RFC 5280 §5.1.2.1)', () => {
    const crl = parseCrl(foreign({ version: [], nextUpdate: [], entries: [entry(5)] }))
    expect(crl).toMatchObject({ version: 1, nextUpdate: null, crlNumber: null, size: 1 })
    expect(crl.findRevoked(bytes('05'))).toMatchObject({ reason: 'unspecified', revokedAt: fields.thisUpdate })
  })

  test('in an indirect list a certificate issuer holds until the next one (RFC 5280 §5.3.3)', () => {
    const crl = parseCrl(
      foreign({
        entries: [
          entry(1),
          entry(2, certificateIssuer(otherName)),
          entry(3),
          entry(1, reason(1)),
          entry(4, certificateIssuer(issuerName)),
        ],
      }),
    )
    expect([...crl.entries()].map(each => toHex(each.certificateIssuer))).toEqual(
      [issuerName, otherName, otherName, otherName, issuerName].map(toHex),
    )
    expect(crl.findRevoked(bytes('03'))).toBeUndefined()
    expect(crl.findRevoked(bytes('03'), otherName)).toBeDefined()
    expect(crl.findRevoked(bytes('01'))?.reason).toBe('unspecified')
    expect(crl.findRevoked(bytes('01'), otherName)?.reason).toBe('keyCompromise')
    expect(crl.findRevoked(bytes('04'))).toBeDefined()
    expect(crl.unknownCritical).toEqual([])
  })

  test('reason and invalidity date are read (RFC 5280 §5.3.1, §5.3.2)', () => {
    const at = Date.UTC(2025, 5, 1)
    const crl = parseCrl(
      foreign({ entries: [entry(1, reason(8), extension(oidOf.invalidityDate, generalizedTime(at)))] }),
    )
    expect(crl.findRevoked(bytes('01'))).toMatchObject({ reason: 'removeFromCRL', invalidityDate: at })
  })

  test('critical extensions nobody knows are shown, of the list and of its entries (RFC 5280 §5.2, §5.3)', () => {
    const unknown = (oid: string) => extension(oid, integer(1), true)
    const crl = parseCrl(
      foreign({
        entries: [entry(1, unknown('1.2.3.4'))],
        extensions: [unknown('1.2.3.5'), extension('1.2.3.6', integer(1))],
      }),
    )
    expect(crl.unknownCritical).toEqual(['1.2.3.5', '1.2.3.4'])
  })

  test('a delta list shows the number of its base (RFC 5280 §5.2.4)', () => {
    const crl = parseCrl(
      foreign({
        extensions: [
          authorityKeyIdentifier(new Uint8Array(20)),
          extension(oidOf.crlNumber, integer(9)),
          extension(oidOf.deltaCrlIndicator, integer(4), true),
        ],
      }),
    )
    expect(crl).toMatchObject({ crlNumber: 9n, deltaCrlIndicator: 4n, unknownCritical: [] })
  })
})

describe('what is no list', () => {
  test.each([
    ['version 3', { version: [integer(2)] }, 'crl_malformed'],
    ['an encoded version 1', { version: [integer(0)] }, 'crl_malformed'],
    ['two signature algorithms', { algorithm: encodeSignatureAlgorithm('ecdsa-with-SHA384') }, 'crl_malformed'],
    ['an empty issuer', { issuer: sequence() }, 'crl_malformed'],
    ['an empty list of entries', { entries: [] }, 'crl_malformed'],
    ['extensions in version 1', { version: [], extensions: [extension(oidOf.crlNumber, integer(1))] }, 'crl_malformed'],
    ['entry extensions in version 1', { version: [], entries: [entry(1, reason(1))] }, 'crl_malformed'],
    ['reason 7', { entries: [entry(1, reason(7))] }, 'crl_malformed'],
    ['a negative number', { extensions: [extension(oidOf.crlNumber, integer(-1))] }, 'crl_malformed'],
    ['a number of 21 octets', { extensions: [extension(oidOf.crlNumber, integer(2n ** 160n))] }, 'crl_malformed'],
    ['a reason twice', { entries: [entry(1, reason(1), reason(1))] }, 'extension_duplicate'],
    [
      'a certificate issuer without a name',
      {
        entries: [
          entry(1, extension(oidOf.certificateIssuer, encodeGeneralNames([{ kind: 'uri', value: 'x:y' }]), true)),
        ],
      },
      'crl_malformed',
    ],
    ['an entry without a date', { entries: [sequence(integer(1))] }, 'der_malformed'],
    [
      'an entry with something behind its extensions',
      { entries: [sequence(integer(1), time(0), encodeExtensions([reason(1)]), integer(1))] },
      'der_malformed',
    ],
  ] satisfies [string, ForeignList, string][])('%s is refused', (_, list, code) => {
    expect(codeOf(() => parseCrl(foreign(list)))).toBe(code)
  })

  const valid = frame(
    encodeTbsCertList({
      ...fields,
      distributionPoint: { uris: ['http://status.example.org/a.crl'] },
      entries: [
        { serial: bytes('01'), revokedAt: 0, reason: 'keyCompromise' },
        { serial: bytes('0102030405'), revokedAt: Date.UTC(2055, 0, 1) },
      ],
    }),
  )

  test('every truncation and every trailing byte is refused', () => {
    for (let length = 0; length < valid.length; length++)
      expect(codeOf(() => parseCrl(valid.subarray(0, length)))).toBe('der_malformed')
    expect(codeOf(() => parseCrl(Uint8Array.of(...valid, 0)))).toBe('der_malformed')
  })

  test('arbitrary and mutated bytes give a list that can be read to its end, or a PkiError', () => {
    const mutated = fc
      .array(fc.tuple(fc.nat(valid.length - 1), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 3 })
      .map(changes => changes.reduce((der, [at, byte]) => der.with(at, byte), valid))
    const read = (der: Uint8Array) => {
      const crl = parseCrl(der)
      // Reading entries later must not fail any more: outside codeOf, so that even a PkiError fails the test.
      return () => [...crl.entries()].map(each => crl.findRevoked(each.serial, each.certificateIssuer) !== undefined)
    }
    let accepted = 0
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 400 }), mutated), der => {
        let readAll: (() => boolean[]) | undefined
        const code = codeOf(() => {
          readAll = read(der)
        })
        if (code !== 'accepted') return
        accepted++
        expect(readAll!()).not.toContain(false)
      }),
      { numRuns: 4000 },
    )
    expect(accepted).toBeGreaterThan(0)
  })

  test('reading in slices pauses after as many entries as asked for and gives the same list', () => {
    const der = foreign({ entries: Array.from({ length: 25 }, (_, i) => entry(i + 1)) })
    const steps = parseCrlInSlices(der, 10)
    let pauses = 0
    let step = steps.next()
    for (; !step.done; step = steps.next()) pauses++
    expect(pauses).toBe(2)
    expect(step.value.size).toBe(25)
  })
})
