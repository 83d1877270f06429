import { describe, expect, test } from 'vitest'
import { equalBytes } from '../../src/base/bytes.ts'
import { PkiError } from '../../src/pki/errors.ts'
import * as ext from '../../src/pki/extensions.ts'
import {
  assembleBasicOcspResponse,
  type CertStatus,
  checkOcspResponse,
  encodeCertId,
  encodeOcspError,
  encodeTbsResponseData,
  type OcspAnswer,
  type OcspCheck,
  parseOcspResponse,
} from '../../src/pki/ocsp.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { createParty, responderExtensions, type TestParty } from './crl-authority.ts'
import { codeOf } from './refusal.ts'

const ca = createParty({ name: 'check test' })
const impostor = createParty({ name: 'check test' })
const responder = createParty({ name: 'responder', issuer: ca, extensions: responderExtensions })
const leaf = createParty({ name: 'leaf', issuer: ca, extensions: [] })
const now = Math.floor(Date.now() / 1000) * 1000
const hour = 3_600_000

interface Made {
  readonly signer?: TestParty
  readonly key?: TestParty
  readonly certificates?: readonly TestParty[]
  readonly by?: 'name' | 'key'
  readonly issuer?: TestParty
  readonly statuses?: readonly CertStatus[]
  readonly times?: Partial<Pick<OcspAnswer, 'thisUpdate' | 'nextUpdate'>>
  readonly producedAt?: number
  readonly nonce?: Uint8Array
}

const make = (made: Made): Uint8Array => {
  const { signer = responder, key = signer, by = 'key', issuer = ca, statuses = ['good'] } = made
  const certificates = made.certificates ?? (signer === ca ? [] : [signer])
  const certIdDer = encodeCertId({
    hash: 'sha256',
    issuerNameDer: issuer.certificate.subjectDer,
    issuerKeyBits: issuer.certificate.spki.keyBytes,
    serial: leaf.certificate.serial,
  })
  const times = made.times ?? { nextUpdate: now + hour }
  const tbs = encodeTbsResponseData({
    responderId: by === 'name' ? { byName: signer.certificate.subjectDer } : { byKey: signer.keyId },
    producedAt: made.producedAt ?? now,
    responses: statuses.map(status => ({ certIdDer, status, thisUpdate: now, ...times })),
    ...(made.nonce === undefined ? {} : { nonce: made.nonce }),
  })
  return assembleBasicOcspResponse(
    tbs,
    key.algorithm,
    key.sign(tbs),
    certificates.map(party => party.certificate.der),
  )
}

const check = (made: Made, options: Partial<OcspCheck> = {}) =>
  checkOcspResponse({
    response: parseOcspResponse(make(made)),
    issuer: ca.certificate,
    serial: leaf.certificate.serial,
    at: now,
    clockSkewMs: 60_000,
    maxAgeMs: null,
    nonce: null,
    ...options,
  })

const factsOf = (call: () => unknown): unknown => {
  try {
    call()
  } catch (error) {
    if (error instanceof PkiError) return [error.code, error.facts.reason]
    throw error
  }
  return 'accepted'
}

describe('who may answer (RFC 6960 §4.2.2.2)', () => {
  test.each(['name', 'key'] as const)('a responder the issuer appointed, found by %s', by => {
    const { answer, responder: found } = check({ by })
    expect(answer.status).toBe('good')
    expect(found).toMatchObject({ kind: 'delegate', revocation: 'no-check' })
    expect(found.kind === 'delegate' && equalBytes(found.certificate.der, responder.certificate.der)).toBe(true)
  })

  test.each(['name', 'key'] as const)('the issuer itself, found by %s', by => {
    expect(check({ signer: ca, by }).responder).toEqual({ kind: 'issuer' })
  })

  test('a responder without ocsp-nocheck is reported as still to be checked (§4.2.2.2.1)', () => {
    const plain = createParty({ name: 'plain', issuer: ca, extensions: [ext.extendedKeyUsage([oidOf.ocspSigning])] })
    expect(check({ signer: plain }).responder).toMatchObject({ kind: 'delegate', revocation: 'to-be-checked' })
  })

  const party = (name: string, extensions: readonly ext.Extension[], rest: object = {}) =>
    createParty({ name, issuer: ca, extensions, ...rest })
  const signing = ext.extendedKeyUsage([oidOf.ocspSigning])
  test.each([
    [
      'appointed by another CA of the same name',
      { signer: createParty({ name: 'r', issuer: impostor, extensions: responderExtensions }) },
      'not_issued_by_issuer',
    ],
    [
      'appointed by an intermediate of the issuer',
      {
        signer: createParty({
          name: 'r',
          issuer: createParty({ name: 'sub', issuer: ca }),
          extensions: responderExtensions,
        }),
      },
      'not_issued_by_issuer',
    ],
    ['self-signed', { signer: createParty({ name: 'r', extensions: responderExtensions }) }, 'not_issued_by_issuer'],
    [
      'without the key usage OCSPSigning',
      { signer: party('r', [ext.keyUsage(['digitalSignature'])]) },
      'no_ocsp_signing',
    ],
    [
      'with anyExtendedKeyUsage instead',
      { signer: party('r', [ext.extendedKeyUsage([oidOf.anyExtendedKeyUsage])]) },
      'no_ocsp_signing',
    ],
    [
      'without digitalSignature',
      { signer: party('r', [signing, ext.keyUsage(['keyAgreement'])]) },
      'no_digital_signature',
    ],
    ['expired', { signer: party('r', [signing], { notAfter: now - 2_000 }) }, 'responder_expired'],
    ['not yet valid', { signer: party('r', [signing], { notBefore: now + 2_000 }) }, 'responder_expired'],
    [
      'with a critical extension not known',
      { signer: party('r', [signing, { oid: '1.2.3.4', critical: true, value: Uint8Array.of(5, 0) }]) },
      'unknown_critical_extension',
    ],
    ['whose certificate did not come along', { certificates: [] }, 'unknown_responder'],
    ['whose certificate is not the one that came along', { certificates: [leaf] }, 'unknown_responder'],
  ] satisfies [string, Made, string][])('not one %s', (_, made, reason) => {
    expect(factsOf(() => check(made))).toEqual(['ocsp_responder_not_authorized', reason])
  })

  test.each([
    ['of the responder by another key', { key: leaf }],
    ['of the issuer by another key', { signer: ca, key: impostor }],
  ] satisfies [string, Made][])('a signature %s is refused', (_, made) => {
    expect(codeOf(() => check(made))).toBe('signature_invalid')
  })
})

describe('what is answered (RFC 6960 §3.2)', () => {
  test('an error is no answer', () => {
    const response = parseOcspResponse(encodeOcspError('tryLater'))
    expect(codeOf(() => check({}, { response }))).toBe('ocsp_not_successful')
  })

  test('an answer about another serial or another issuer is none', () => {
    expect(codeOf(() => check({}, { serial: Uint8Array.of(1, 2, 3) }))).toBe('ocsp_answer_missing')
    expect(codeOf(() => check({ issuer: impostor }))).toBe('ocsp_answer_missing')
  })

  test('of two answers about one certificate, revoked counts', () => {
    const revoked = { revokedAt: now - hour, reason: 'keyCompromise' } as const
    for (const statuses of [
      ['good', revoked],
      [revoked, 'good'],
    ] satisfies CertStatus[][])
      expect(check({ statuses }).answer.status).toEqual(revoked)
  })

  test('unknown is passed on as such', () => {
    expect(check({ statuses: ['unknown'] }).answer.status).toBe('unknown')
  })
})

describe('how fresh it is (RFC 6960 §3.2, §4.2.2.1)', () => {
  const expired = { thisUpdate: now - 2 * hour, nextUpdate: now - hour }
  test.each([
    ['past nextUpdate', { times: expired }, {}, 'ocsp_not_current'],
    ['past nextUpdate by the skew', { times: expired }, { clockSkewMs: hour }, 'accepted'],
    ['past nextUpdate by more', { times: expired }, { clockSkewMs: hour - 1 }, 'ocsp_not_current'],
    ['from the future', { times: { thisUpdate: now + hour, nextUpdate: now + 2 * hour } }, {}, 'ocsp_not_current'],
    ['produced in the future', { producedAt: now + hour }, {}, 'ocsp_not_current'],
    ['without nextUpdate', { times: {} }, {}, 'ocsp_not_current'],
    ['without nextUpdate but young', { times: {} }, { maxAgeMs: 1 }, 'accepted'],
    ['older than asked for', { times: { ...expired, nextUpdate: now + hour } }, { maxAgeMs: hour }, 'ocsp_not_current'],
  ] satisfies [string, Made, Partial<OcspCheck>, string][])('a response %s', (_, made, options, code) => {
    expect(codeOf(() => check(made, options))).toBe(code)
  })

  const sent = new Uint8Array(32).fill(9)
  test.each([
    ['the same nonce', sent, 'refuse', 'accepted'],
    ['another nonce', new Uint8Array(32), 'accept', 'ocsp_nonce_mismatch'],
    ['no nonce, where that is accepted (RFC 5019 §4)', undefined, 'accept', 'accepted'],
    ['no nonce, where that is refused', undefined, 'refuse', 'ocsp_nonce_mismatch'],
  ] as const)('with %s', (_, nonce, absent, code) => {
    expect(codeOf(() => check(nonce === undefined ? {} : { nonce }, { nonce: { sent, absent } }))).toBe(code)
  })
})
