// The last judge before the HSM: one row per violation, each made by changing one thing in bytes that pass.

import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { concatBytes, utf8 } from '../../src/base/bytes.ts'
import { derElement, explicit, integer, nullValue, sequence } from '../../src/pki/der.ts'
import { encodeName } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { parseTrustDomain } from '../../src/pki/spiffe.ts'
import { spkiHashHex } from '../../src/pki/spki.ts'
import { defaultCeilings } from '../../src/signer/config.ts'
import { createHighWater, type HighWater } from '../../src/signer/high-water.ts'
import type { SignPurpose } from '../../src/signer/port.ts'
import { checkPurpose, testSignPrefix } from '../../src/signer/purpose-checks.ts'
import type { PurposeKey } from '../../src/signer/refusal.ts'
import {
  authorityKey,
  basicConstraints,
  byKey,
  byName,
  type CertificateSample,
  type CrlSample,
  crlNumber,
  dns,
  type Extension,
  extendedKeyUsage,
  goodSerial,
  isCa,
  keyUsage,
  noCheck,
  responseData,
  ski,
  subjectAltName,
  tbsCertificate,
  tbsCertList,
  uri,
} from './tbs-samples.ts'

// Subjects' keys and stand-ins for the token's: nothing is signed in this file.
const newSpki = (namedCurve = 'P-256'): Uint8Array =>
  Uint8Array.from(generateKeyPairSync('ec', { namedCurve }).publicKey.export({ type: 'spki', format: 'der' }))
const issuerSpki = newSpki()
const otherSpki = newSpki()
const responderSpki = newSpki()
const leafSpki = newSpki()

const now = Date.UTC(2026, 5, 1, 12)
const day = 86_400_000
const issuerName = encodeName([['CN', 'issuing 1']])
const responderName = encodeName([['CN', 'OCSP responder']])
const issuer = { subjectDer: issuerName, keyIdentifier: ski(issuerSpki), notAfter: now + 60 * day }

const purposeKey = (label: string, spki: Uint8Array, purposes: readonly SignPurpose[]): PurposeKey => ({
  label,
  curve: 'P-256',
  spki,
  spkiSha256Hex: spkiHashHex(spki),
  purposes,
  issuer: label === 'issuing' ? issuer : undefined,
  ceilings: { ...defaultCeilings, maxLeafSeconds: { agent: 86_400, service: 30 * 86_400, operator: 3600 } },
})
const issuing = purposeKey('issuing', issuerSpki, ['leaf', 'crl', 'ocsp-responder', 'test-sign'])
const responder = purposeKey('ocsp', responderSpki, ['ocsp-response'])
const logKey = purposeKey('log', otherSpki, ['checkpoint'])

let directory: string
let highWater: HighWater
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-purpose-'))
  highWater = createHighWater(directory)
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const check = (key: PurposeKey, purpose: SignPurpose, tbs: Uint8Array): void =>
  checkPurpose(
    {
      trustDomain: parseTrustDomain('example.org'),
      highWater,
      keys: () => [issuing, responder, logKey],
      now: () => now,
    },
    key,
    { purpose, tbs },
  )()

const refused = (key: PurposeKey, purpose: SignPurpose, tbs: Uint8Array, rule: string): void => {
  expect(() => check(key, purpose, tbs)).toThrow(
    expect.objectContaining({ code: 'signer_refused', rule, hsmCalled: 'no' }),
  )
}

const agentSan = subjectAltName(uri('spiffe://example.org/agent/a/i/1'))
const leafExtensions = (
  changes: Partial<Record<'aki' | 'usage' | 'extended' | 'san', Extension | null>> = {},
  more: Extension[] = [],
): Extension[] =>
  [
    changes.aki === undefined ? authorityKey(issuerSpki) : changes.aki,
    changes.usage === undefined ? keyUsage(0) : changes.usage,
    changes.extended === undefined ? extendedKeyUsage(oidOf.clientAuth) : changes.extended,
    changes.san === undefined ? agentSan : changes.san,
    ...more,
  ].filter(e => e !== null)

const leaf = (changes: Partial<CertificateSample> = {}): Uint8Array =>
  tbsCertificate({
    issuer: issuerName,
    subject: encodeName([['CN', 'agent-a']]),
    spki: leafSpki,
    notBefore: now - 60_000,
    notAfter: now + 3_600_000,
    extensions: leafExtensions(),
    ...changes,
  })
const withSan = (...names: Uint8Array[]) => leaf({ extensions: leafExtensions({ san: subjectAltName(...names) }) })
const withSanAndName = (cn: string, ...names: Uint8Array[]) =>
  leaf({ subject: encodeName([['CN', cn]]), extensions: leafExtensions({ san: subjectAltName(...names) }) })
const plus = (...more: Extension[]) => leaf({ extensions: leafExtensions({}, more) })
const serial = (...bytes: number[]) => leaf({ serial: Uint8Array.from(bytes) })
const ip = (...bytes: number[]) => derElement(0x87, [Uint8Array.from(bytes)])
const trailing = (bytes: Uint8Array) => Uint8Array.from([...bytes, 0])

describe('purpose leaf', () => {
  test.each([
    ['an agent', () => leaf()],
    ['an agent with basicConstraints cA false', () => plus(basicConstraints())],
    ['an agent whose life is exactly the ceiling', () => leaf({ notAfter: now + 86_400_000 - 1000 })],
    [
      'an agent with a DNS name and both usages',
      () =>
        leaf({
          extensions: leafExtensions({
            san: subjectAltName(uri('spiffe://example.org/agent/a/i/1'), dns('a.example.org')),
            extended: extendedKeyUsage(oidOf.clientAuth, oidOf.serverAuth),
          }),
        }),
    ],
    [
      'a service with names and addresses',
      () =>
        withSanAndName(
          'svc-orders',
          uri('spiffe://example.org/service/orders'),
          dns('orders.example.org'),
          ip(127, 0, 0, 1),
        ),
    ],
    ['an operator', () => withSanAndName('op-eve', uri('spiffe://example.org/operator/eve'))],
    [
      'known extensions',
      () => plus({ oid: oidOf.noRevAvail, value: nullValue() }, { oid: oidOf.agentScopesVersion, value: integer(7) }),
    ],
    ['an empty subject', () => leaf({ subject: encodeName([]) })],
    ['a P-384 subject key', () => leaf({ spki: newSpki('P-384') })],
  ])('%s passes', (_, tbs) => {
    expect(() => check(issuing, 'leaf', tbs())).not.toThrow()
  })

  test.each<[string, string, () => Uint8Array]>([
    ['another issuer', 'issuer', () => leaf({ issuer: encodeName([['CN', 'issuing 2']]) })],
    [
      'another authority key',
      'authority_key',
      () => leaf({ extensions: leafExtensions({ aki: authorityKey(otherSpki) }) }),
    ],
    ['no authority key', 'authority_key', () => leaf({ extensions: leafExtensions({ aki: null }) })],
    ['a CA', 'not_a_ca', () => plus(isCa())],
    ['a path length', 'not_a_ca', () => plus(basicConstraints(integer(0)))],
    ['SHA-384 with a P-256 key', 'signature_algorithm', () => leaf({ algorithm: 'ecdsa-with-SHA384' })],
    ['an agent beyond its ceiling', 'lifetime', () => leaf({ notAfter: now + 86_400_000 + 121_000 })],
    [
      'an operator beyond its own ceiling',
      'lifetime',
      () =>
        leaf({
          subject: encodeName([['CN', 'op-eve']]),
          notAfter: now + 2 * 3_600_000,
          extensions: leafExtensions({ san: subjectAltName(uri('spiffe://example.org/operator/eve')) }),
        }),
    ],
    [
      'a service that outlives its issuer',
      'lifetime',
      () =>
        leaf({
          subject: encodeName([['CN', 'svc-o']]),
          notAfter: now + 61 * day,
          extensions: leafExtensions({ san: subjectAltName(uri('spiffe://example.org/service/o')) }),
        }),
    ],
    ['notAfter before notBefore', 'validity', () => leaf({ notAfter: now - 120_000 })],
    ['a notBefore in the future', 'not_before', () => leaf({ notBefore: now + 20 * 60_000 })],
    ['a notBefore far back', 'not_before', () => leaf({ notBefore: now - day })],
    ['no subject alternative name', 'san', () => leaf({ extensions: leafExtensions({ san: null }) })],
    ['no URI', 'san_uri', () => withSan(dns('a.example.org'))],
    [
      'two URIs',
      'san_uri',
      () => withSan(uri('spiffe://example.org/agent/a/i/1'), uri('spiffe://example.org/agent/b/i/1')),
    ],
    ['another trust domain', 'san_trust_domain', () => withSan(uri('spiffe://example.com/agent/a/i/1'))],
    ['a path of another form', 'san_path', () => withSan(uri('spiffe://example.org/agent/a'))],
    ['the trust domain itself', 'san_path', () => withSan(uri('spiffe://example.org'))],
    ['a path of another kind', 'san_path', () => withSan(uri('spiffe://example.org/ca/a'))],
    ['a URI that is no SPIFFE ID', 'not_parsable', () => withSan(uri('https://example.org/agent/a/i/1'))],
    [
      'an e-mail address',
      'san_kind',
      () => withSan(uri('spiffe://example.org/agent/a/i/1'), derElement(0x81, [utf8('a@example.org')])),
    ],
    ['an address for an agent', 'san_kind', () => withSan(uri('spiffe://example.org/agent/a/i/1'), ip(127, 0, 0, 1))],
    [
      'an address of 5 octets',
      'san_kind',
      () => withSanAndName('svc-o', uri('spiffe://example.org/service/o'), ip(1, 2, 3, 4, 5)),
    ],
    [
      'a DNS name for an operator',
      'san_dns',
      () => withSanAndName('op-eve', uri('spiffe://example.org/operator/eve'), dns('x.example.org')),
    ],
    [
      'a DNS name with a zero octet',
      'san_dns',
      () => withSan(uri('spiffe://example.org/agent/a/i/1'), dns('a\0.example.org')),
    ],
    ['a common name of its choice', 'common_name', () => leaf({ subject: encodeName([['CN', 'postgres']]) })],
    [
      'a second common name',
      'common_name',
      () =>
        leaf({
          subject: encodeName([
            ['CN', 'postgres'],
            ['CN', 'agent-a'],
          ]),
        }),
    ],
    [
      'code signing',
      'extended_key_usage',
      () => leaf({ extensions: leafExtensions({ extended: extendedKeyUsage(oidOf.clientAuth, oidOf.codeSigning) }) }),
    ],
    [
      'OCSP signing',
      'extended_key_usage',
      () => leaf({ extensions: leafExtensions({ extended: extendedKeyUsage(oidOf.ocspSigning) }) }),
    ],
    [
      'any usage',
      'extended_key_usage',
      () => leaf({ extensions: leafExtensions({ extended: extendedKeyUsage(oidOf.anyExtendedKeyUsage) }) }),
    ],
    ['no extended key usage', 'extended_key_usage', () => leaf({ extensions: leafExtensions({ extended: null }) })],
    [
      'an empty extended key usage',
      'extended_key_usage',
      () => leaf({ extensions: leafExtensions({ extended: extendedKeyUsage() }) }),
    ],
    ['certificate signing', 'key_usage', () => leaf({ extensions: leafExtensions({ usage: keyUsage(0, 5) }) })],
    ['key encipherment', 'key_usage', () => leaf({ extensions: leafExtensions({ usage: keyUsage(0, 2) }) })],
    ['no key usage', 'key_usage', () => leaf({ extensions: leafExtensions({ usage: null }) })],
    [
      'a key usage that is not critical',
      'key_usage',
      () => leaf({ extensions: leafExtensions({ usage: { ...keyUsage(0), critical: false } }) }),
    ],
    ['an unknown extension', 'extension', () => plus({ oid: '1.2.3.4', value: nullValue() })],
    ['name constraints', 'extension', () => plus({ oid: oidOf.nameConstraints, value: sequence() })],
    ['OCSP nocheck', 'extension', () => plus(noCheck())],
    ['a critical noRevAvail', 'extension', () => plus({ oid: oidOf.noRevAvail, critical: true, value: nullValue() })],
    ['an extension twice', 'not_parsable', () => plus(agentSan)],
    ['a serial of 15 octets', 'serial', () => serial(...goodSerial.slice(0, 15))],
    ['a serial of 17 octets', 'serial', () => serial(1, ...goodSerial)],
    ['a negative serial', 'serial', () => serial(0x80, ...goodSerial.slice(1))],
    ['version 1', 'not_parsable', () => leaf({ version: 0 })],
    ['this signer’s own key', 'subject_key', () => leaf({ spki: issuerSpki })],
    ['the log’s key', 'subject_key', () => leaf({ spki: otherSpki })],
    ['a key that is no key', 'not_parsable', () => leaf({ spki: sequence(nullValue()) })],
    ['trailing bytes', 'not_parsable', () => trailing(leaf())],
    ['no bytes', 'not_parsable', () => new Uint8Array(0)],
    ['a CRL', 'not_parsable', () => crl()],
  ])('refuses %s (%s)', (_, rule, tbs) => {
    refused(issuing, 'leaf', tbs(), rule)
  })

  test('a leaf may not outlive its issuer even below the ceiling', () => {
    const short: PurposeKey = { ...issuing, issuer: { ...issuer, notAfter: now + 1_800_000 } }
    refused(short, 'leaf', leaf(), 'lifetime_beyond_issuer')
  })
})

const crl = (changes: Partial<CrlSample> = {}): Uint8Array =>
  tbsCertList({
    issuer: issuerName,
    thisUpdate: now,
    nextUpdate: now + day,
    extensions: [authorityKey(issuerSpki), crlNumber(5)],
    ...changes,
  })
const numbered = (number: bigint | number, more: Extension[] = []) =>
  crl({ extensions: [authorityKey(issuerSpki), crlNumber(number), ...more] })
const scope = (...content: readonly Uint8Array[]): Extension => ({
  oid: oidOf.issuingDistributionPoint,
  critical: true,
  value: sequence(...content),
})
const idp = (text: string): Extension => scope(explicit(0, explicit(0, uri(text))))

describe('purpose crl', () => {
  test('a complete CRL passes, with and without entries', () => {
    check(issuing, 'crl', crl())
    check(
      issuing,
      'crl',
      numbered(5, [scope(explicit(0, explicit(0, uri('http://x/1'))), Uint8Array.of(0x81, 1, 0xff))]),
    )
    check(issuing, 'crl', crl({ revoked: [goodSerial], extensions: [authorityKey(issuerSpki), crlNumber(6)] }))
  })

  test.each<[string, string, () => Uint8Array]>([
    ['another issuer', 'crl_issuer', () => crl({ issuer: responderName })],
    ['another authority key', 'crl_authority_key', () => crl({ extensions: [authorityKey(otherSpki), crlNumber(5)] })],
    ['no authority key', 'crl_authority_key', () => crl({ extensions: [crlNumber(5)] })],
    ['no number', 'crl_number', () => crl({ extensions: [authorityKey(issuerSpki)] })],
    ['a negative number', 'crl_number', () => numbered(-1n)],
    [
      'a delta',
      'crl_extension',
      () => numbered(5, [{ oid: oidOf.deltaCrlIndicator, critical: true, value: integer(1) }]),
    ],
    ['an old thisUpdate', 'crl_this_update', () => crl({ thisUpdate: now - day })],
    ['a thisUpdate to come', 'crl_this_update', () => crl({ thisUpdate: now + day, nextUpdate: now + 2 * day })],
    ['nextUpdate before thisUpdate', 'crl_next_update', () => crl({ nextUpdate: now - 1000 })],
    ['a year of life', 'crl_lifetime', () => crl({ nextUpdate: now + 365 * day })],
    [
      'a scope that is not critical',
      'crl_distribution_point',
      () => numbered(5, [{ ...idp('http://x/1.crl'), critical: false }]),
    ],
    ['a scope of another scheme', 'crl_distribution_point', () => numbered(5, [idp('ldap://x/1.crl')])],
    ['a scope without an end', 'crl_distribution_point', () => numbered(5, [idp(`http://${'x'.repeat(3000)}`)])],
    [
      'a scope of two names',
      'crl_distribution_point',
      () => numbered(5, [scope(explicit(0, explicit(0, concatBytes([uri('http://x/1'), uri('http://x/2')]))))]),
    ],
    [
      'a scope of CA certificates alone',
      'crl_distribution_point',
      () => numbered(5, [scope(explicit(0, explicit(0, uri('http://x/1'))), Uint8Array.of(0x82, 1, 0xff))]),
    ],
    [
      'an indirect list',
      'crl_distribution_point',
      () => numbered(5, [scope(explicit(0, explicit(0, uri('http://x/1'))), Uint8Array.of(0x84, 1, 0xff))]),
    ],
    ['a scope without a name', 'not_parsable', () => numbered(5, [scope()])],
    ['another algorithm', 'crl_algorithm', () => crl({ algorithm: 'ecdsa-with-SHA384' })],
    ['a leaf', 'not_parsable', () => leaf()],
    ['trailing bytes', 'not_parsable', () => trailing(crl())],
  ])('refuses %s (%s)', (_, rule, tbs) => {
    refused(issuing, 'crl', tbs(), rule)
  })

  test('the number grows for ever per scope, over restarts (RFC 5280 §5.2.3)', () => {
    check(issuing, 'crl', numbered(5))
    refused(issuing, 'crl', numbered(5), 'crl_number')
    refused(issuing, 'crl', numbered(4), 'crl_number')
    highWater = createHighWater(directory)
    refused(issuing, 'crl', numbered(5), 'crl_number')
    check(issuing, 'crl', numbered(2n ** 100n))
    refused(issuing, 'crl', numbered(6), 'crl_number')
    check(issuing, 'crl', numbered(1, [idp('http://x/0.crl')]))
    refused(issuing, 'crl', numbered(1, [idp('http://x/0.crl')]), 'crl_number')
    check(issuing, 'crl', numbered(1, [idp('http://x/1.crl')]))
  })

  test('no further scope is begun after 1024 of one key; those that are go on', () => {
    const known = Array.from({ length: 1023 }, (_, i) => [`${issuing.spkiSha256Hex}/${i}`, '1'])
    writeFileSync(join(directory, 'high-water.json'), JSON.stringify({ crl: Object.fromEntries(known) }))
    highWater = createHighWater(directory)
    check(issuing, 'crl', numbered(5, [idp('http://x/last.crl')]))
    refused(issuing, 'crl', numbered(5, [idp('http://x/one-more.crl')]), 'crl_scopes')
    check(issuing, 'crl', numbered(5))
    check(issuing, 'crl', numbered(6, [idp('http://x/last.crl')]))
  })
})

const responderExtensions = (changes: Extension[] = [noCheck()], usage: string = oidOf.ocspSigning): Extension[] => [
  authorityKey(issuerSpki),
  keyUsage(0),
  extendedKeyUsage(usage),
  ...changes,
]
const responderCertificate = (changes: Partial<CertificateSample> = {}): Uint8Array =>
  tbsCertificate({
    issuer: issuerName,
    subject: responderName,
    spki: responderSpki,
    notBefore: now - 60_000,
    notAfter: now + 30 * day,
    extensions: responderExtensions(),
    ...changes,
  })

describe('purpose ocsp-responder', () => {
  test('a delegated responder for a key of this signer passes (RFC 6960 §4.2.2.2)', () => {
    check(issuing, 'ocsp-responder', responderCertificate())
  })

  test.each<[string, string, () => Uint8Array]>([
    ['no nocheck', 'ocsp_nocheck', () => responderCertificate({ extensions: responderExtensions([]) })],
    [
      'clientAuth',
      'extended_key_usage',
      () => responderCertificate({ extensions: responderExtensions([noCheck()], oidOf.clientAuth) }),
    ],
    ['more than 45 days', 'lifetime', () => responderCertificate({ notAfter: now + 46 * day })],
    ['a foreign key', 'subject_key', () => responderCertificate({ spki: leafSpki })],
    ['the issuing key itself', 'subject_key', () => responderCertificate({ spki: issuerSpki })],
    [
      'a name like an agent’s',
      'extension',
      () => responderCertificate({ extensions: responderExtensions([noCheck(), agentSan]) }),
    ],
    ['a CA', 'not_a_ca', () => responderCertificate({ extensions: responderExtensions([noCheck(), isCa()]) })],
    ['a leaf', 'extension', () => leaf()],
  ])('refuses %s (%s)', (_, rule, tbs) => {
    refused(issuing, 'ocsp-responder', tbs(), rule)
  })
})

const response = (changes: Partial<Parameters<typeof responseData>[0]> = {}): Uint8Array =>
  responseData({
    responderId: byKey(responderSpki),
    producedAt: now,
    thisUpdate: now,
    nextUpdate: now + 3_600_000,
    ...changes,
  })

describe('purpose ocsp-response', () => {
  test('an answer of this key passes, by key, and by name once its certificate was signed', () => {
    check(responder, 'ocsp-response', response())
    refused(responder, 'ocsp-response', response({ responderId: byName(responderName) }), 'ocsp_responder_id')
    check(issuing, 'ocsp-responder', responderCertificate())
    check(responder, 'ocsp-response', response({ responderId: byName(responderName) }))
  })

  test.each<[string, string, () => Uint8Array]>([
    ['another key', 'ocsp_responder_id', () => response({ responderId: byKey(issuerSpki) })],
    ['another name', 'ocsp_responder_id', () => response({ responderId: byName(issuerName) })],
    ['a producedAt of yesterday', 'ocsp_produced_at', () => response({ producedAt: now - day })],
    ['a thisUpdate to come', 'ocsp_this_update', () => response({ thisUpdate: now + day, nextUpdate: now + 2 * day })],
    ['no nextUpdate', 'ocsp_next_update', () => response({ nextUpdate: null })],
    ['a nextUpdate before thisUpdate', 'ocsp_next_update', () => response({ nextUpdate: now - 1000 })],
    ['a life of a month', 'ocsp_lifetime', () => response({ nextUpdate: now + 30 * day })],
    ['a leaf', 'not_parsable', () => leaf()],
    ['trailing bytes', 'not_parsable', () => trailing(response())],
  ])('refuses %s (%s)', (_, rule, tbs) => {
    refused(responder, 'ocsp-response', tbs(), rule)
  })
})

const head = (byte: number): string => Buffer.alloc(32, byte).toString('base64')
const checkpoint = (size: number | string, byte = 1, more = ''): Uint8Array =>
  utf8(`agentca-log/example.org\n${size}\n${head(byte)}\n${more}`)

describe('purpose checkpoint', () => {
  test('the log only grows, and one size has one head, over restarts', () => {
    check(logKey, 'checkpoint', checkpoint(0))
    check(logKey, 'checkpoint', checkpoint(10, 2, 'time 2026-06-01T12:00:00Z\n'))
    check(logKey, 'checkpoint', checkpoint(10, 2))
    refused(logKey, 'checkpoint', checkpoint(10, 3), 'checkpoint_fork')
    refused(logKey, 'checkpoint', checkpoint(9), 'checkpoint_size')
    highWater = createHighWater(directory)
    refused(logKey, 'checkpoint', checkpoint(10, 3), 'checkpoint_fork')
    check(logKey, 'checkpoint', checkpoint(11, 3))
  })

  test.each<[string, Uint8Array]>([
    ['a leading zero', checkpoint('01')],
    ['a short head', utf8('agentca-log/x\n1\nAAAA\n')],
    ['no last newline', utf8(`agentca-log/x\n1\n${head(1)}`)],
    ['an empty extension line', checkpoint(1, 1, '\n')],
    ['a signature line', checkpoint(1, 1, '\u2014 x AAAA\n')],
    ['an origin with a space', utf8(`a b\n1\n${head(1)}\n`)],
    ['a DER sequence as origin', utf8(`0a\n1\n${head(1)}\n`)],
    ['nothing', new Uint8Array(0)],
  ])('refuses %s', (_, tbs) => {
    refused(logKey, 'checkpoint', tbs, 'checkpoint_form')
  })
})

describe('purposes and keys', () => {
  test('test-sign signs only what begins with its prefix', () => {
    check(issuing, 'test-sign', utf8(`${testSignPrefix}x`))
    refused(issuing, 'test-sign', leaf(), 'test_sign_prefix')
    refused(issuing, 'test-sign', utf8(testSignPrefix.slice(0, -1)), 'test_sign_prefix')
    refused(issuing, 'test-sign', utf8(testSignPrefix + 'x'.repeat(1024)), 'test_sign_prefix')
  })

  test('a key signs for its own purposes only', () => {
    refused(logKey, 'leaf', leaf(), 'key_purpose')
    refused(responder, 'crl', crl(), 'key_purpose')
    refused(issuing, 'checkpoint', checkpoint(1), 'key_purpose')
    refused(issuing, 'everything' as SignPurpose, leaf(), 'key_purpose')
  })

  test('a key without a certificate signs no certificate', () => {
    refused({ ...issuing, issuer: undefined }, 'leaf', leaf(), 'key_without_certificate')
  })

  test('random changes of one octet never raise anything but a refusal', () => {
    const samples: [PurposeKey, SignPurpose, Uint8Array][] = [
      [issuing, 'leaf', leaf()],
      [issuing, 'crl', crl()],
      [responder, 'ocsp-response', response()],
    ]
    for (const [key, purpose, good] of samples) {
      for (let at = 0; at < good.length; at++) {
        const bad = good.slice()
        bad[at]! ^= 1 << (at % 8)
        try {
          check(key, purpose, bad)
        } catch (error) {
          expect(error).toMatchObject({ code: 'signer_refused' })
        }
      }
    }
  })

  test('a leaf like one that passed is judged as if it were the first, whichever octet is another one', () => {
    const good = leaf()
    const passes = (key: PurposeKey, tbs: Uint8Array): boolean => {
      try {
        check(key, 'leaf', tbs)
        return true
      } catch (error) {
        expect(error).toMatchObject({ code: 'signer_refused' })
        return false
      }
    }
    let refusals = 0
    for (let at = 0; at < good.length; at++)
      for (const change of [0x01, 0x02, 0x20, 0x80]) {
        const changed = good.slice()
        changed[at]! ^= change
        expect(passes(issuing, good)).toBe(true)
        // Facts of its own: nothing was ever signed under them.
        const expected = passes({ ...issuing, issuer: { ...issuer } }, changed)
        expect(passes(issuing, changed), `octet ${at} changed by ${change}`).toBe(expected)
        if (!expected) refusals++
      }
    expect(refusals).toBeGreaterThan(good.length)
  })

  test('a leaf like one that passed is held against ceilings, clock, keys and algorithm of now', () => {
    const good = leaf()
    check(issuing, 'leaf', good)
    const { ceilings } = issuing
    const low = { ...ceilings, maxLeafSeconds: { ...ceilings.maxLeafSeconds, agent: 60 } }
    refused({ ...issuing, ceilings: low }, 'leaf', good, 'lifetime')
    refused({ ...issuing, curve: 'P-384' }, 'leaf', good, 'signature_algorithm')
    const later = (): void =>
      checkPurpose(
        {
          trustDomain: parseTrustDomain('example.org'),
          highWater,
          keys: () => [issuing, purposeKey('other', leafSpki, [])],
          now: () => now,
        },
        issuing,
        { purpose: 'leaf', tbs: good },
      )()
    expect(later).toThrow(expect.objectContaining({ rule: 'subject_key' }))
    const elsewhere = (): void =>
      checkPurpose(
        { trustDomain: parseTrustDomain('example.net'), highWater, keys: () => [issuing], now: () => now },
        issuing,
        { purpose: 'leaf', tbs: good },
      )()
    expect(elsewhere).toThrow(expect.objectContaining({ rule: 'san_trust_domain' }))
  })
})
