// Each rule by itself: what is right passes all of them, and every deviation is found by the rule that is there for it and by no other.
// The certificates are signed in software here, because no token would make most of them.
import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { assembleCertificate, Certificate, encodeTbsCertificate, parseCertificate } from '../../src/pki/certificate.ts'
import { assembleCrl, encodeTbsCertList, parseCrl } from '../../src/pki/crl.ts'
import * as ext from '../../src/pki/extensions.ts'
import { uriName } from '../../src/pki/general-names.ts'
import { encodeName } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { buildCaCertificate } from '../../src/pki/peculiar.ts'
import { encodeSerial, serialFromHex } from '../../src/pki/serial.ts'
import { keyIdentifier } from '../../src/pki/spki.ts'
import { certificateRules, type ExpectedCa, rootRules } from '../../src/server/ceremony/certificate-rules.ts'
import { crlRules, type ExpectedCrl } from '../../src/server/ceremony/crl-rules.ts'
import type { CaDraft } from '../../src/server/ceremony/draft.ts'
import { applyRules, type Rule, requireRules } from '../../src/server/ceremony/rules.ts'
import { createTestKey } from '../pki/keys.ts'
import { code } from './ceremony-bench.ts'

const day = 86_400_000
const now = Date.UTC(2027, 0, 1)
const rootKey = createTestKey('P-384')
const issuingKey = createTestKey('P-256')
const otherKey = createTestKey('P-256')
const serial = () => encodeSerial({ prefix: 1, nowMs: now, random10: randomBytes(10) })

const rootDraft: CaDraft = {
  subject: [['CN', 'Root']],
  notBefore: now - day,
  notAfter: now + 3650 * day,
  pathLength: null,
}
const root = await buildCaCertificate({
  ...rootDraft,
  spki: rootKey.spki,
  issuer: 'self',
  issuerKey: rootKey.external,
  serial: serial(),
})
const draft: CaDraft = {
  subject: [['CN', 'Issuing']],
  notBefore: now - day,
  notAfter: now + 365 * day,
  pathLength: 0,
  crlDistributionPoints: ['http://ca.example.org/crl/root-1.crl'],
  authorityInfoAccess: { ocsp: [], caIssuers: ['http://ca.example.org/aia/root-1.cer'] },
  permittedNames: [uriName('example.org')],
  spiffeId: 'spiffe://example.org',
}
const issuing = await buildCaCertificate({
  ...draft,
  spki: issuingKey.spki,
  issuer: root,
  issuerKey: rootKey.external,
  serial: serial(),
})
const expected: ExpectedCa = { madeBy: 'us', issuer: root, spki: issuingKey.spki, draft, now }

const broken = <S, E>(rules: readonly Rule<S, E>[], subject: S, wanted: E): readonly string[] =>
  applyRules(rules, subject, wanted).flatMap(({ rule, fault }) => (fault === null ? [] : [rule]))

/** The issuing CA with some fields changed, signed by the root as if it were right. */
const forged = (change: {
  readonly extensions?: (extensions: readonly ext.Extension[]) => readonly ext.Extension[]
  readonly serial?: Uint8Array
  readonly issuerDer?: Uint8Array
  readonly notAfter?: number
}): Certificate => {
  const tbs = encodeTbsCertificate({
    serial: change.serial ?? issuing.serial,
    signatureAlgorithm: 'ecdsa-with-SHA384',
    issuerDer: change.issuerDer ?? issuing.issuerDer,
    notBefore: issuing.notBefore,
    notAfter: change.notAfter ?? issuing.notAfter,
    subjectDer: issuing.subjectDer,
    spkiDer: issuing.spkiDer,
    extensions: change.extensions?.(issuing.extensions) ?? issuing.extensions,
  })
  return parseCertificate(assembleCertificate(tbs, 'ecdsa-with-SHA384', rootKey.signDer(tbs)))
}
const replaced = (next: ext.Extension) => ({
  extensions: (all: readonly ext.Extension[]) => all.map(each => (each.oid === next.oid ? next : each)),
})
const without = (oid: string) => ({
  extensions: (all: readonly ext.Extension[]) => all.filter(each => each.oid !== oid),
})
const softened = (oid: string) => ({
  extensions: (all: readonly ext.Extension[]) =>
    all.map(each => (each.oid === oid ? { ...each, critical: !each.critical } : each)),
})

describe('certificates of ours', () => {
  test('root and issuing CA as they should be pass every rule', () => {
    expect(broken(certificateRules, issuing, expected)).toEqual([])
    expect(
      broken(certificateRules, root, { madeBy: 'us', issuer: 'self', spki: rootKey.spki, draft: rootDraft, now }),
    ).toEqual([])
    expect(requireRules(certificateRules, issuing, expected)).toMatchObject({ 'serial number': expect.anything() })
  })

  const path = 'basic constraints: critical, a CA, path length'
  const usage = 'key usage: critical, certificates and CRLs'
  const signature = 'the signature verifies with the issuer’s key'
  const other = 'no other extensions'
  test.each<readonly [string, Certificate, readonly string[]]>([
    ['a short serial', forged({ serial: Uint8Array.of(1, 2, 3) }), ['serial number']],
    ['a negative serial', forged({ serial: Uint8Array.from({ length: 16 }, () => 0x80) }), ['serial number']],
    ['another issuer name', forged({ issuerDer: encodeName([['CN', 'Somebody']]) }), ['issuer name']],
    ['another end', forged({ notAfter: issuing.notAfter + 1000 }), ['validity']],
    [
      'an end after the root’s',
      forged({ notAfter: root.notAfter + 1000 }),
      ['validity', 'validity within the issuer’s'],
    ],
    ['no CA', forged(replaced(ext.basicConstraints({ isCa: false, pathLength: null }))), [path]],
    ['another path length', forged(replaced(ext.basicConstraints({ isCa: true, pathLength: 1 }))), [path]],
    ['basic constraints that are not critical', forged(softened(oidOf.basicConstraints)), [path]],
    ['no basic constraints', forged(without(oidOf.basicConstraints)), [path, other]],
    ['no CRL signing', forged(replaced(ext.keyUsage(['keyCertSign']))), [usage]],
    ['a key usage too many', forged(replaced(ext.keyUsage(['digitalSignature', 'keyCertSign', 'cRLSign']))), [usage]],
    ['a key usage that is not critical', forged(softened(oidOf.keyUsage)), [usage]],
    [
      'an extended key usage without the leaves’',
      forged({ extensions: all => [...all, ext.extendedKeyUsage([oidOf.ocspSigning])] }),
      ['extended key usage leaves the leaves theirs', other],
    ],
    ['another subject key', forged(replaced(ext.subjectKeyIdentifier(Uint8Array.of(1)))), ['subject key identifier']],
    ['a critical subject key', forged(softened(oidOf.subjectKeyIdentifier)), ['subject key identifier']],
    [
      'another authority key',
      forged(replaced(ext.authorityKeyIdentifier(Uint8Array.of(1)))),
      ['authority key identifier'],
    ],
    ['no authority key', forged(without(oidOf.authorityKeyIdentifier)), ['authority key identifier', other]],
    ['no name constraints', forged(without(oidOf.nameConstraints)), ['name constraints', other]],
    ['name constraints that are not critical', forged(softened(oidOf.nameConstraints)), ['name constraints']],
    ['no SPIFFE ID', forged(without(oidOf.subjectAltName)), ['SPIFFE ID', other]],
    ['no CRL distribution point', forged(without(oidOf.crlDistributionPoints)), ['status URLs', other]],
    [
      'another CRL distribution point',
      forged(replaced(ext.crlDistributionPoints(['http://elsewhere.example.org/x']))),
      ['status URLs'],
    ],
    ['an extension too many', forged({ extensions: all => [...all, ext.noRevAvail()] }), [other]],
    [
      'a damaged signature',
      parseCertificate(assembleCertificate(issuing.tbs, 'ecdsa-with-SHA384', rootKey.signDer(Uint8Array.of(1)))),
      [signature],
    ],
  ])('%s', (_, certificate, rules) => {
    expect(broken(certificateRules, certificate, expected)).toEqual(rules)
  })

  test('another key than the token’s, and another subject than the input’s', () => {
    expect(broken(certificateRules, issuing, { ...expected, spki: otherKey.spki })).toEqual([
      'the public key is the one in the token',
      'subject key identifier',
    ])
    expect(
      broken(certificateRules, issuing, { ...expected, draft: { ...draft, subject: [['CN', 'Another']] } }),
    ).toEqual(['subject name'])
  })

  test('all faults come in one error, each with its section', () => {
    const certificate = forged({ serial: Uint8Array.of(1), ...without(oidOf.keyUsage) })
    expect(() => requireRules(certificateRules, certificate, expected)).toThrow(
      expect.objectContaining({
        code: 'self_check_failed',
        message: expect.stringMatching(/serial number \(RFC 5280 §4\.1\.2\.2\).*key usage.*\(RFC 5280 §4\.2\.1\.3\)/),
      }),
    )
  })
})

describe('a root that is to sign or to be checked against', () => {
  test('is self-signed, a CA, and valid now', () => {
    expect(broken(rootRules, root, { now })).toEqual([])
    expect(broken(rootRules, issuing, { now })).toEqual(['self-signed'])
    expect(broken(rootRules, root, { now: root.notAfter + 1000 })).toEqual(['valid now'])
    expect(
      broken(rootRules, forged(replaced(ext.basicConstraints({ isCa: false, pathLength: null }))), { now }),
    ).toEqual(['self-signed', 'a CA that may sign certificates'])
  })
})

describe('CRLs', () => {
  const entries = [{ serial: serialFromHex('0a'), revokedAt: now, reason: 'superseded' }] as const
  const wanted: ExpectedCrl = {
    issuer: root,
    number: 7n,
    previousNumber: 6n,
    thisUpdate: now,
    nextUpdate: now + 400 * day,
    entries,
  }
  const list = (change: Partial<Parameters<typeof encodeTbsCertList>[0]> = {}, key = rootKey) => {
    const tbs = encodeTbsCertList({
      issuerName: root.subjectDer,
      signatureAlgorithm: 'ecdsa-with-SHA384',
      authorityKeyId: keyIdentifier(rootKey.spki),
      crlNumber: 7n,
      thisUpdate: wanted.thisUpdate,
      nextUpdate: wanted.nextUpdate,
      entries,
      ...change,
    })
    return parseCrl(assembleCrl(tbs, 'ecdsa-with-SHA384', key.signDer(tbs)))
  }
  const names = 'issuer name and key identifier'
  const numbers = 'the number grows'

  test('as it should be passes every rule', () => {
    expect(broken(crlRules, list(), wanted)).toEqual([])
  })

  test.each<readonly [string, ReturnType<typeof list>, readonly string[]]>([
    [
      'only a part',
      list({ distributionPoint: { uris: ['http://x.example.org/'], onlyContains: 'ca-certificates' } }),
      ['version 2, no delta, complete for its issuer'],
    ],
    ['another issuer', list({ issuerName: issuing.subjectDer }), [names]],
    ['another authority key', list({ authorityKeyId: Uint8Array.of(1) }), [names]],
    ['another key’s signature', list({}, createTestKey('P-384')), ['the signature verifies with the issuer’s key']],
    ['another number', list({ crlNumber: 8n }), [numbers]],
    ['another end', list({ nextUpdate: wanted.nextUpdate + 1000 }), ['this update and next update']],
    ['no entry', list({ entries: [] }), ['the entries are those of the input']],
    [
      'another reason',
      list({ entries: [{ ...entries[0], reason: 'keyCompromise' }] }),
      ['the entries are those of the input'],
    ],
  ])('%s', (_, crl, rules) => {
    expect(broken(crlRules, crl, wanted)).toEqual(rules)
  })

  test('a number that does not grow', () => {
    expect(broken(crlRules, list(), { ...wanted, previousNumber: 7n })).toEqual([numbers])
  })
})

test('a rule that cannot read its field has found a fault', () => {
  const certificate = forged(replaced({ oid: oidOf.keyUsage, critical: true, value: Uint8Array.of(1) }))
  expect(certificate).toBeInstanceOf(Certificate)
  expect(() => requireRules(certificateRules, certificate, expected)).toThrow(code('self_check_failed'))
})
