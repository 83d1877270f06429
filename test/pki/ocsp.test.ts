import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { fromHex, toBase64, toBase64url, toHex } from '../../src/base/bytes.ts'
import { type RevocationReason, revocationReasons } from '../../src/pki/crl.ts'
import { explicit, integer, octetString, sequence } from '../../src/pki/der.ts'
import { encodeExtensions } from '../../src/pki/extensions.ts'
import {
  assembleBasicOcspResponse,
  type BasicOcspResponse,
  type CertIdHash,
  type CertStatus,
  encodeCertId,
  encodeOcspError,
  encodeOcspRequest,
  encodeTbsResponseData,
  issuerHashes,
  type OcspErrorStatus,
  parseOcspPath,
  parseOcspRequest,
  parseOcspResponse,
} from '../../src/pki/ocsp.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { certificateFile, createParty, responderExtensions, type TestParty } from './crl-authority.ts'
import { type Bench, createBench } from './openssl.ts'
import { codeOf } from './refusal.ts'

const ca = createParty({ name: 'ocsp test' })
const responder = createParty({ name: 'responder', issuer: ca, extensions: responderExtensions })
const leaf = createParty({ name: 'leaf', issuer: ca, extensions: [] })
const other = createParty({ name: 'other', issuer: ca, extensions: [] })

const certIdOf = (party: TestParty, hash: CertIdHash = 'sha1', issuer = ca): Uint8Array =>
  encodeCertId({
    hash,
    issuerNameDer: issuer.certificate.subjectDer,
    issuerKeyBits: issuer.certificate.spki.keyBytes,
    serial: party.certificate.serial,
  })

const readBytes = (path: string): Uint8Array => new Uint8Array(readFileSync(path))

/** A request as openssl makes it, and our reading of it. */
const opensslRequest = (bench: Bench, ...args: string[]) => {
  const path = bench.path('request.der')
  bench.openssl('ocsp', '-issuer', certificateFile(bench, 'ca.pem', ca), ...args, '-reqout', path)
  return { path, der: readBytes(path), request: parseOcspRequest(readBytes(path)) }
}

describe('requests', () => {
  test.each<CertIdHash>(['sha1', 'sha256'])('of openssl with %s are read, with the nonce it adds by itself', hash => {
    using bench = createBench()
    const cert = certificateFile(bench, 'leaf.pem', leaf)
    const { request } = opensslRequest(bench, `-${hash}`, '-cert', cert)
    expect(request.certIds).toHaveLength(1)
    const [certId] = request.certIds
    expect(certId!.hashAlgorithm).toBe(hash)
    expect(toHex(certId!.serial)).toBe(toHex(leaf.certificate.serial))
    expect(toHex(certId!.der)).toBe(toHex(certIdOf(leaf, hash)))
    const hashes = issuerHashes({ nameDer: ca.certificate.subjectDer, keyBits: ca.certificate.spki.keyBytes })
    expect(hashes.map(each => each.issuerKey)).toContain(certId!.issuerKey)
    expect(request.nonce?.length).toBe(16)
    expect(request.signed).toBe(false)
  })

  test('of openssl without a nonce, for several certificates and serials, are byte for byte what we write', () => {
    using bench = createBench()
    const certs = [leaf, other].flatMap((party, i) => ['-cert', certificateFile(bench, `${i}.pem`, party)])
    const { der, request } = opensslRequest(bench, '-no_nonce', ...certs, '-sha256', '-serial', '0x00FFEE')
    expect(request.nonce).toBeNull()
    expect(request.certIds.map(certId => toHex(certId.serial))).toEqual(
      [leaf.certificate.serial, other.certificate.serial, fromHex('00ffee')!].map(toHex),
    )
    expect(toHex(encodeOcspRequest({ certIds: request.certIds.map(certId => certId.der) }))).toBe(toHex(der))
  })

  test('that are signed and name their requestor are read, and that is said (RFC 6960 §4.1.2)', () => {
    using bench = createBench()
    const key = bench.path('key.pem')
    const cert = bench.path('signer.pem')
    bench.openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-subj', '/CN=asker', '-out', cert) // biome-ignore format: one command
    const asked = certificateFile(bench, 'leaf.pem', leaf)
    const { request } = opensslRequest(bench, '-cert', asked, '-signer', cert, '-signkey', key)
    expect(request.signed).toBe(true)
    expect(toHex(request.certIds[0]!.der)).toBe(toHex(certIdOf(leaf)))
  })

  test('with a digest we do not answer are understood as such', () => {
    using bench = createBench()
    const { request } = opensslRequest(bench, '-sha384', '-cert', certificateFile(bench, 'leaf.pem', leaf))
    expect(request.certIds[0]).toMatchObject({ hashAlgorithm: 'unsupported', issuerKey: null })
  })

  test('of ours are read by openssl', () => {
    using bench = createBench()
    const nonce = new Uint8Array(32).fill(0xa5)
    const der = encodeOcspRequest({ certIds: [certIdOf(leaf), certIdOf(other, 'sha256')], nonce })
    const text = bench.openssl('ocsp', '-reqin', bench.file('r.der', der), '-req_text')
    expect(text).toContain('Hash Algorithm: sha1')
    expect(text).toContain('Hash Algorithm: sha256')
    expect(text).toContain(`Serial Number: ${toHex(leaf.certificate.serial).toUpperCase()}`)
    expect(text).toContain('A5A5A5A5')
  })

  // The writer refuses these nonces, so the bytes are put together here.
  const requestWithExtension = (oid: string, value: Uint8Array, critical = false): Uint8Array =>
    sequence(sequence(sequence(sequence(certIdOf(leaf))), explicit(2, encodeExtensions([{ oid, critical, value }]))))

  test.each([
    [1, 'accepted'],
    [128, 'accepted'],
    [0, 'ocsp_malformed'],
    [129, 'ocsp_malformed'],
  ])('a nonce of %d octets: %s (RFC 9654 §2.1)', (length, expected) => {
    const der = requestWithExtension(oidOf.ocspNonce, octetString(new Uint8Array(length)))
    expect(codeOf(() => parseOcspRequest(der))).toBe(expected)
  })

  test('a nonce has to be an OCTET STRING inside the extension (RFC 9654 §2.1)', () => {
    expect(codeOf(() => parseOcspRequest(requestWithExtension(oidOf.ocspNonce, integer(5))))).toBe('der_malformed')
  })

  test('a critical extension nobody knows is refused, another is read over (RFC 6960 §4.4)', () => {
    const value = octetString(new Uint8Array(1))
    expect(codeOf(() => parseOcspRequest(requestWithExtension('1.2.3.4', value, true)))).toBe('ocsp_malformed')
    expect(codeOf(() => parseOcspRequest(requestWithExtension('1.2.3.4', value)))).toBe('accepted')
  })

  test.each([
    ['no certID', sequence(sequence(sequence())), 'ocsp_malformed'],
    [
      'an encoded default version',
      sequence(sequence(explicit(0, integer(0)), sequence(sequence(certIdOf(leaf))))),
      'ocsp_malformed',
    ],
    ['trailing bytes', Uint8Array.of(...encodeOcspRequest({ certIds: [certIdOf(leaf)] }), 0), 'der_malformed'],
    ['21 certIDs', encodeOcspRequest({ certIds: Array.from({ length: 21 }, () => certIdOf(leaf)) }), 'input_too_large'],
    ['more than 2 KiB', new Uint8Array(2049), 'input_too_large'],
    ['nothing', new Uint8Array(0), 'der_malformed'],
  ])('with %s are refused', (_, der, code) => {
    expect(codeOf(() => parseOcspRequest(der))).toBe(code)
  })

  test('20 certIDs with SHA-1 are within the limit', () => {
    const der = encodeOcspRequest({ certIds: Array.from({ length: 20 }, () => certIdOf(leaf)) })
    expect(parseOcspRequest(der).certIds).toHaveLength(20)
  })

  test('a hash of the wrong length is refused', () => {
    const certId = encodeCertId({
      hash: 'sha1',
      issuerNameDer: new Uint8Array(3),
      issuerKeyBits: new Uint8Array(3),
      serial: Uint8Array.of(1),
    })
    const cut = sequence(
      certId.subarray(2, 13),
      octetString(new Uint8Array(19)),
      octetString(new Uint8Array(20)),
      integer(1),
    )
    expect(codeOf(() => parseOcspRequest(encodeOcspRequest({ certIds: [certId] })))).toBe('accepted')
    expect(codeOf(() => parseOcspRequest(encodeOcspRequest({ certIds: [cut] })))).toBe('ocsp_malformed')
  })
})

describe('the path of a GET (RFC 6960 appendix A.1)', () => {
  const serials = fc.uint8Array({ minLength: 1, maxLength: 20 })

  test('is read in every spelling clients use', () => {
    fc.assert(
      fc.property(serials, serial => {
        const der = encodeOcspRequest({
          certIds: [encodeCertId({ hash: 'sha1', issuerNameDer: serial, issuerKeyBits: serial, serial })],
        })
        const base64 = toBase64(der)
        const spellings = [
          base64,
          base64.replace(/=+$/, ''),
          encodeURIComponent(base64),
          toBase64url(der),
          base64.replaceAll('+', '%2b'),
        ]
        for (const text of spellings)
          expect(toHex(parseOcspPath(text).certIds[0]!.der)).toBe(toHex(parseOcspRequest(der).certIds[0]!.der))
      }),
    )
  })

  const base64 = toBase64(encodeOcspRequest({ certIds: [certIdOf(leaf)] }))
  test.each([
    ['nothing', ''],
    ['a space', `${base64.slice(0, 8)} ${base64.slice(8)}`],
    ['both alphabets at once', `${base64}+_`],
    ['wrong padding', `${base64.replace(/=+$/, '')}===`],
    ['wrong percent-encoding', `${base64}%ZZ`],
    ['percent-encoding that is no UTF-8', `${base64}%FF`],
    ['stray bits in the last digit', 'MAB'],
  ])('with %s is refused', (_, text) => {
    expect(codeOf(() => parseOcspPath(text))).toBe('ocsp_malformed')
  })

  test('that is too long is refused before it is decoded', () => {
    expect(codeOf(() => parseOcspPath('A'.repeat(9_000)))).toBe('input_too_large')
  })

  test('of any text gives a request or a PkiError', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), text => codeOf(() => parseOcspPath(text)) !== undefined))
  })
})

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
  const mutated = (der: Uint8Array) =>
    fc
      .tuple(fc.nat(der.length - 1), fc.integer({ min: 0, max: 255 }), fc.constantFrom('set', 'cut', 'drop'))
      .map(([at, byte, how]) =>
        how === 'set'
          ? der.with(at, byte)
          : how === 'cut'
            ? der.subarray(0, at)
            : Uint8Array.of(...der.subarray(0, at), ...der.subarray(at + 1)),
      )
  const request = encodeOcspRequest({ certIds: [certIdOf(leaf), certIdOf(other, 'sha256')], nonce: new Uint8Array(20) })
  const response = respond({ status: { revokedAt: now, reason: 'superseded' }, nonce: new Uint8Array(20) })

  test.each([
    ['requests', parseOcspRequest, request],
    ['responses', parseOcspResponse, response],
  ] satisfies [string, (der: Uint8Array) => unknown, Uint8Array][])(
    'as %s give a value or a PkiError',
    (_, parse, valid) => {
      expect(codeOf(() => parse(valid))).toBe('accepted')
      fc.assert(
        fc.property(
          fc.oneof(fc.uint8Array({ maxLength: 300 }), mutated(valid)),
          der => codeOf(() => parse(der)) !== undefined,
        ),
        { numRuns: 3000 },
      )
      for (let length = 0; length < valid.length; length++)
        expect(codeOf(() => parse(valid.subarray(0, length)))).toBe('der_malformed')
    },
  )

  test('what cannot be encoded is refused by the writers', () => {
    expect(codeOf(() => encodeOcspRequest({ certIds: [] }))).toBe('not_encodable')
    expect(codeOf(() => encodeOcspRequest({ certIds: [certIdOf(leaf)], nonce: new Uint8Array(129) }))).toBe(
      'not_encodable',
    )
    const fields = { responderId: { byKey: responder.keyId }, producedAt: now, responses: [] }
    expect(codeOf(() => encodeTbsResponseData(fields))).toBe('not_encodable')
  })
})
