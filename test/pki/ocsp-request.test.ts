import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { fromHex, toBase64, toBase64url, toHex } from '../../src/base/bytes.ts'
import { explicit, integer, octetString, sequence } from '../../src/pki/der.ts'
import { encodeExtensions } from '../../src/pki/extensions.ts'
import {
  type CertIdHash,
  encodeCertId,
  encodeOcspRequest,
  issuerHashes,
  parseOcspPath,
  parseOcspRequest,
} from '../../src/pki/ocsp.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { certificateFile } from './crl-authority.ts'
import { ca, certIdOf, leaf, mutated, opensslRequest, other } from './ocsp-cast.ts'
import { createBench } from './openssl.ts'
import { codeOf } from './refusal.ts'

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

describe('hostile bytes', () => {
  const valid = encodeOcspRequest({ certIds: [certIdOf(leaf), certIdOf(other, 'sha256')], nonce: new Uint8Array(20) })

  test('give a request or a PkiError', () => {
    expect(codeOf(() => parseOcspRequest(valid))).toBe('accepted')
    fc.assert(
      fc.property(
        fc.oneof(fc.uint8Array({ maxLength: 300 }), mutated(valid)),
        der => codeOf(() => parseOcspRequest(der)) !== undefined,
      ),
      { numRuns: 3000 },
    )
  })

  test('cut off anywhere are refused', () => {
    for (let length = 0; length < valid.length; length++)
      expect(codeOf(() => parseOcspRequest(valid.subarray(0, length)))).toBe('der_malformed')
  })

  test('the writer refuses a request without a certID, and a nonce too long', () => {
    expect(codeOf(() => encodeOcspRequest({ certIds: [] }))).toBe('not_encodable')
    expect(codeOf(() => encodeOcspRequest({ certIds: [certIdOf(leaf)], nonce: new Uint8Array(129) }))).toBe(
      'not_encodable',
    )
  })
})
