import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  boolean,
  DerReader,
  derElement,
  explicit,
  implicitConstructed,
  implicitPrimitive,
  integer,
  octetString,
  oid,
  sequence,
} from '../../src/pki/der.ts'
import * as ext from '../../src/pki/extensions.ts'
import { encodeGeneralNames, type GeneralName, parseGeneralNames } from '../../src/pki/general-names.ts'
import { encodeName } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { codeOf } from './refusal.ts'

const ascii = fc.string({ unit: 'binary-ascii', maxLength: 20 })
const generalName: fc.Arbitrary<GeneralName> = fc.oneof(
  ascii.map((value): GeneralName => ({ kind: 'dns', value })),
  // RFC 3986 §2: no controls and no spaces.
  ascii.map((value): GeneralName => ({ kind: 'uri', value: value.replaceAll(/[^!-~]/g, '') })),
  ascii.map((value): GeneralName => ({ kind: 'email', value })),
  fc.uint8Array({ minLength: 4, maxLength: 4 }).map((bytes): GeneralName => ({ kind: 'ip', bytes })),
  fc.constant<GeneralName>({ kind: 'registeredId', oid: '1.2.3.4' }),
  fc.constant<GeneralName>({ kind: 'directory', nameDer: encodeName([['CN', 'x']]) }),
  fc.constant<GeneralName>({ kind: 'other', der: implicitConstructed(0, oid('1.2.3'), explicit(0, integer(1))) }),
)
const generalNames = fc.array(generalName, { minLength: 1, maxLength: 4 })

describe('what is encoded is parsed again', () => {
  it('general names of every kind', () => {
    fc.assert(
      fc.property(generalNames, names => {
        expect(parseGeneralNames(new DerReader(encodeGeneralNames(names)).readSequence())).toEqual(names)
        expect(ext.parseSubjectAltName(ext.subjectAltName(names).value)).toEqual(names)
      }),
    )
  })

  it('a URI with a control character or a space in it is refused', () => {
    for (const value of ['spiffe://x/\u0000', 'http://a b', 'http://a\n'])
      expect(codeOf(() => ext.parseSubjectAltName(ext.subjectAltName([{ kind: 'uri', value }]).value))).toBe(
        'extension_malformed',
      )
  })

  it('basic constraints', () => {
    for (const value of [
      { isCa: true, pathLength: 0 },
      { isCa: true, pathLength: 200 },
      { isCa: true, pathLength: null },
      { isCa: false, pathLength: null },
    ])
      expect(ext.parseBasicConstraints(ext.basicConstraints(value).value)).toEqual(value)
  })

  it('key usages in any combination', () => {
    fc.assert(
      fc.property(fc.subarray([...ext.keyUsageNames]), usages => {
        expect(ext.parseKeyUsage(ext.keyUsage(usages).value)).toEqual(usages)
      }),
    )
  })

  it('the others', () => {
    const id = new Uint8Array(20).fill(3)
    expect(ext.parseExtendedKeyUsage(ext.extendedKeyUsage([oidOf.clientAuth, oidOf.serverAuth]).value)).toEqual([
      oidOf.clientAuth,
      oidOf.serverAuth,
    ])
    expect(ext.parseSubjectKeyIdentifier(ext.subjectKeyIdentifier(id).value)).toEqual(id)
    expect(ext.parseAuthorityKeyIdentifier(ext.authorityKeyIdentifier(id).value)).toEqual({
      keyId: id,
      issuer: null,
      serial: null,
    })
    const uri: GeneralName = { kind: 'uri', value: 'http://ca.example/1.crl' }
    expect(ext.parseCrlDistributionPoints(ext.crlDistributionPoints(['http://ca.example/1.crl']).value)).toEqual([
      { fullName: [uri], relativeName: null, reasons: null, crlIssuer: null },
    ])
    const access = { ocsp: ['http://ca.example/ocsp'], caIssuers: ['http://ca.example/1.cer'] }
    expect(ext.parseAuthorityInfoAccess(ext.authorityInfoAccess(access).value)).toEqual(access)
    const constraints: ext.NameConstraints = {
      permitted: [{ kind: 'uri', value: 'example.org' }],
      excluded: [{ kind: 'dns', value: 'x.org' }],
    }
    expect(ext.parseNameConstraints(ext.nameConstraints(constraints).value)).toEqual(constraints)
    for (const version of [0, 1, 127, 128, Number.MAX_SAFE_INTEGER])
      expect(ext.parseScopesVersion(ext.scopesVersion(version).value)).toBe(version)
    const point = {
      fullName: [uri],
      onlyContainsUserCerts: true,
      onlyContainsCaCerts: false,
      indirectCrl: false,
      onlyContainsAttributeCerts: false,
    }
    expect(ext.parseIssuingDistributionPoint(ext.issuingDistributionPoint(point).value)).toEqual({
      ...point,
      relativeName: null,
      onlySomeReasons: null,
    })
  })
})

describe('foreign forms are read', () => {
  it('authority key identifier with issuer and serial (RFC 5280 §4.2.1.1)', () => {
    const name: GeneralName = { kind: 'directory', nameDer: encodeName([['CN', 'x']]) }
    const value = sequence(encodeGeneralNames([name], 0xa1), implicitPrimitive(2, Uint8Array.of(5)))
    expect(ext.parseAuthorityKeyIdentifier(value)).toEqual({ keyId: null, issuer: [name], serial: Uint8Array.of(5) })
  })

  it('distribution points with reasons, CRL issuer and a relative name (RFC 5280 §4.2.1.13)', () => {
    const issuer: GeneralName = { kind: 'directory', nameDer: encodeName([['CN', 'crl']]) }
    const relative = sequence(oid(oidOf.commonName), derElement(0x0c, [Uint8Array.of(0x78)]))
    const value = sequence(
      sequence(
        explicit(0, derElement(0xa1, [relative])),
        implicitPrimitive(1, Uint8Array.of(5, 0x60)),
        encodeGeneralNames([issuer], 0xa2),
      ),
    )
    expect(ext.parseCrlDistributionPoints(value)).toEqual([
      { fullName: null, relativeName: relative, reasons: [1, 2], crlIssuer: [issuer] },
    ])
  })

  it('certificate policies keep their qualifiers as they are', () => {
    const qualifiers = sequence(sequence(oid('1.3.6.1.5.5.7.2.1')))
    expect(ext.parseCertificatePolicies(sequence(sequence(oid('1.2.3')), sequence(oid('1.2.4'), qualifiers)))).toEqual([
      { policy: '1.2.3', qualifiersDer: null },
      { policy: '1.2.4', qualifiersDer: qualifiers },
    ])
  })
})

describe('refusals', () => {
  it('the same extension twice, whatever its value (RFC 5280 §4.2)', () => {
    const list = sequence(
      ext.encodeExtension(ext.keyUsage(['cRLSign'])),
      ext.encodeExtension(ext.noRevAvail()),
      ext.encodeExtension(ext.keyUsage([])),
    )
    expect(codeOf(() => ext.parseExtensions(new DerReader(list)))).toBe('extension_duplicate')
  })

  it('more extensions than anybody needs: looking for duplicates costs the square', () => {
    const some = (count: number) =>
      new DerReader(
        ext.encodeExtensions(
          Array.from({ length: count }, (_, i) => ({ oid: `1.2.${i}`, critical: false, value: new Uint8Array(0) })),
        ),
      )
    expect(ext.parseExtensions(some(64))).toHaveLength(64)
    expect(codeOf(() => ext.parseExtensions(some(65)))).toBe('extension_malformed')
  })

  it('critical FALSE that is encoded, and empty lists', () => {
    const encodedFalse = sequence(sequence(oid(oidOf.keyUsage), boolean(false), octetString(new Uint8Array(0))))
    expect(codeOf(() => ext.parseExtensions(new DerReader(encodedFalse)))).toBe('der_malformed')
    expect(codeOf(() => ext.parseExtensions(new DerReader(sequence())))).toBe('extension_malformed')
    for (const parse of [
      ext.parseSubjectAltName,
      ext.parseExtendedKeyUsage,
      ext.parseCrlDistributionPoints,
      ext.parseCertificatePolicies,
    ])
      expect(codeOf(() => parse(sequence()))).toBe('extension_malformed')
  })

  it('any value is parsed or refused by every parser, never more', () => {
    const parsers = Object.entries(ext).filter(([name]) => name.startsWith('parse') && name !== 'parseExtensions') as [
      string,
      (value: Uint8Array) => unknown,
    ][]
    expect(parsers.length).toBeGreaterThan(10)
    const seeds = [
      ext.subjectAltName([{ kind: 'uri', value: 'spiffe://a/b' }]),
      ext.crlDistributionPoints(['x']),
      ext.keyUsage(['cRLSign']),
      ext.issuingDistributionPoint({ indirectCrl: true }),
    ].map(e => e.value)
    const mutated = fc
      .tuple(fc.constantFrom(...seeds), fc.nat(40), fc.nat(255))
      .map(([seed, at, byte]) => seed.map((old, i) => (i === at % seed.length ? byte : old)))
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 40 }), mutated), value => {
        for (const [, parse] of parsers) codeOf(() => parse(value))
      }),
      { numRuns: 500 },
    )
  })
})
