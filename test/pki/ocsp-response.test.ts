import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { toHex } from '../../src/base/bytes.ts'
import { type RevocationReason, revocationReasons } from '../../src/pki/crl.ts'
import {
  assembleBasicOcspResponse,
  type BasicOcspResponse,
  type CertIdHash,
  type CertStatus,
  encodeCertId,
  encodeOcspError,
  encodeTbsResponseData,
  type OcspErrorStatus,
  parseOcspResponse,
} from '../../src/pki/ocsp.ts'
import { certificateFile, type TestParty } from './crl-authority.ts'
import { ca, certIdOf, leaf, mutated, opensslRequest, other, responder } from './ocsp-cast.ts'
import { type Bench, createBench } from './openssl.ts'
import { codeOf } from './refusal.ts'

const now = Math.floor(Date.now() / 1000) * 1000

interface Answering {
  readonly status: CertStatus
  readonly party?: TestParty
  readonly hash?: CertIdHash
  readonly signer?: TestParty
  readonly by?: 'name' | 'key'
  readonly nonce?: Uint8Array
}

const respond = ({
  status,
  party = leaf,
  hash = 'sha1',
  signer = responder,
  by = 'key',
  nonce,
}: Answering): Uint8Array => {
  const tbs = encodeTbsResponseData({
    responderId: by === 'name' ? { byName: signer.certificate.subjectDer } : { byKey: signer.keyId },
    producedAt: now,
    responses: [{ certIdDer: certIdOf(party, hash), status, thisUpdate: now - 60_000, nextUpdate: now + 3_600_000 }],
    ...(nonce === undefined ? {} : { nonce }),
  })
  return assembleBasicOcspResponse(
    tbs,
    signer.algorithm,
    signer.sign(tbs),
    signer === ca ? [] : [signer.certificate.der],
  )
}

describe('responses', () => {
  /** openssl's word on a response about the leaf; the digest has to stand before the certificate it is for. */
  const judge = (bench: Bench, response: Uint8Array, ...args: readonly [`-${CertIdHash}`, ...string[]]) => {
    const caFile = certificateFile(bench, 'ca.pem', ca)
    const about = ['-issuer', caFile, ...args, '-cert', certificateFile(bench, 'leaf.pem', leaf)]
    return bench.try('ocsp', '-respin', bench.file('response.der', response), ...about)
  }

  test.each([
    ['good', 'good', /leaf\.pem: good/],
    ['unknown', 'unknown', /leaf\.pem: unknown/],
    [
      'revoked with a reason',
      { revokedAt: Date.UTC(2026, 0, 2, 3, 4, 5), reason: 'keyCompromise' },
      /revoked\n[\s\S]*Reason: keyCompromise\n\tRevocation Time: Jan {2}2 03:04:05 2026 GMT/,
    ],
    [
      'revoked without one',
      { revokedAt: Date.UTC(2026, 0, 2), reason: 'unspecified' },
      /leaf\.pem: revoked\n[\s\S]*Revocation Time: Jan {2}2/,
    ],
    ['on hold', { revokedAt: Date.UTC(2026, 0, 2), reason: 'certificateHold' }, /Reason: certificateHold/],
  ] satisfies [string, CertStatus, RegExp][])('openssl verifies and understands: %s', (_, status, expected) => {
    for (const hash of ['sha1', 'sha256'] as const)
      for (const by of ['name', 'key'] as const) {
        using bench = createBench()
        const caFile = certificateFile(bench, 'trust.pem', ca)
        const judged = judge(bench, respond({ status, hash, by }), `-${hash}`, '-CAfile', caFile, '-no_nonce')
        expect(judged.output).toContain('Response verify OK')
        expect(judged.output).toMatch(expected)
      }
  })

  test('openssl accepts a response of the issuer itself, and one of a responder named by -VAfile', () => {
    using bench = createBench()
    const trust = ['-CAfile', certificateFile(bench, 'trust.pem', ca)]
    expect(judge(bench, respond({ status: 'good', signer: ca, by: 'name' }), '-sha1', ...trust).output).toContain(
      'Response verify OK',
    )
    const named = ['-VAfile', certificateFile(bench, 'va.pem', responder)]
    expect(judge(bench, respond({ status: 'good' }), '-sha1', ...named).output).toContain('Response verify OK')
  })

  test('openssl refuses a response under a certificate without OCSPSigning', () => {
    using bench = createBench()
    const trust = ['-CAfile', certificateFile(bench, 'trust.pem', ca)]
    expect(judge(bench, respond({ status: 'good', signer: other }), '-sha1', ...trust).output).toContain(
      'missing ocspsigning usage',
    )
  })

  test('openssl matches the nonce of its request with ours', () => {
    using bench = createBench()
    const { path, request } = opensslRequest(bench, '-cert', certificateFile(bench, 'leaf.pem', leaf))
    const trust = ['-reqin', path, '-CAfile', certificateFile(bench, 'trust.pem', ca)]
    const answer = bench.file('a.der', respond({ status: 'good', nonce: request.nonce! }))
    const wrong = bench.file('b.der', respond({ status: 'good', nonce: new Uint8Array(16) }))
    expect(bench.try('ocsp', '-respin', answer, ...trust).output).not.toMatch(/nonce/i)
    expect(bench.try('ocsp', '-respin', wrong, ...trust).output).toContain('Nonce Verify error')
  })

  test.each<OcspErrorStatus>(['malformedRequest', 'internalError', 'tryLater', 'sigRequired', 'unauthorized'])(
    'openssl and our reader understand the error %s (RFC 6960 §2.3)',
    status => {
      using bench = createBench()
      const der = encodeOcspError(status)
      expect(parseOcspResponse(der)).toEqual({ status })
      const text = bench.try('ocsp', '-respin', bench.file('e.der', der)).output.toLowerCase()
      expect(text).toContain(`responder error: ${status.toLowerCase()}`)
    },
  )

  test('are read back as they were written', () => {
    const times = fc.integer({ min: 0, max: 200_000_000_000 }).map(seconds => seconds * 1000)
    const reason = fc.constantFrom(...(Object.keys(revocationReasons) as RevocationReason[]))
    const answer = fc.record({
      status: fc.oneof(
        fc.constant('good' as const),
        fc.constant('unknown' as const),
        fc.record({ revokedAt: times, reason }),
      ),
      thisUpdate: times,
      validity: fc.option(fc.integer({ min: 1, max: 1_000_000 }), { nil: undefined }),
      hash: fc.constantFrom<CertIdHash>('sha1', 'sha256'),
      serial: fc.uint8Array({ minLength: 1, maxLength: 20 }),
    })
    fc.assert(
      fc.property(
        fc.array(answer, { minLength: 1, maxLength: 20 }),
        fc.option(fc.uint8Array({ minLength: 1, maxLength: 128 }), { nil: undefined }),
        times,
        (answers, nonce, producedAt) => {
          const responses = answers.map(({ status, thisUpdate, validity, hash, serial }) => ({
            certIdDer: encodeCertId({ hash, issuerNameDer: serial, issuerKeyBits: serial, serial }),
            status,
            thisUpdate,
            ...(validity === undefined ? {} : { nextUpdate: thisUpdate + validity * 1000 }),
          }))
          const tbs = encodeTbsResponseData({
            responderId: { byKey: responder.keyId },
            producedAt,
            responses,
            ...(nonce ? { nonce } : {}),
          })
          const signature = new Uint8Array(64).fill(7)
          const parsed = parseOcspResponse(
            assembleBasicOcspResponse(tbs, 'Ed25519', signature, [ca.certificate.der]),
          ) as BasicOcspResponse
          expect(parsed).toMatchObject({
            status: 'successful',
            producedAt,
            signatureAlgorithm: 'Ed25519',
            signature,
            nonce: nonce ?? null,
          })
          expect(toHex(parsed.tbs)).toBe(toHex(tbs))
          expect(parsed.certificates.map(toHex)).toEqual([toHex(ca.certificate.der)])
          expect(
            parsed.responses.map(read => ({
              certIdDer: read.certId.der,
              status: read.status,
              thisUpdate: read.thisUpdate,
              nextUpdate: read.nextUpdate,
            })),
          ).toEqual(responses.map(written => ({ nextUpdate: null, ...written })))
        },
      ),
      { numRuns: 50 },
    )
  })
})

describe('hostile bytes', () => {
  const valid = respond({ status: { revokedAt: now, reason: 'superseded' }, nonce: new Uint8Array(20) })

  test('give a response or a PkiError', () => {
    expect(codeOf(() => parseOcspResponse(valid))).toBe('accepted')
    fc.assert(
      fc.property(
        fc.oneof(fc.uint8Array({ maxLength: 300 }), mutated(valid)),
        der => codeOf(() => parseOcspResponse(der)) !== undefined,
      ),
      { numRuns: 3000 },
    )
  })

  test('cut off anywhere are refused', () => {
    for (let length = 0; length < valid.length; length++)
      expect(codeOf(() => parseOcspResponse(valid.subarray(0, length)))).toBe('der_malformed')
  })

  const fields = { responderId: { byKey: responder.keyId }, producedAt: now }
  const answer = { certIdDer: certIdOf(leaf), status: 'good' as const, thisUpdate: now }
  test.each([
    ['no answer', { ...fields, responses: [] }],
    ['nextUpdate in the second of thisUpdate', { ...fields, responses: [{ ...answer, nextUpdate: now + 999 }] }],
    ['a key hash of 32 bytes', { ...fields, responderId: { byKey: new Uint8Array(32) }, responses: [answer] }],
    ['an empty nonce', { ...fields, responses: [answer], nonce: new Uint8Array(0) }],
  ])('the writer refuses a response with %s', (_, wrong) => {
    expect(codeOf(() => encodeTbsResponseData(wrong))).toBe('not_encodable')
  })
})
