import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { toHex } from '../../src/base/bytes.ts'
import { signatureAlgorithms } from '../../src/pki/algorithms.ts'
import {
  assembleCertificate,
  type Certificate,
  type CertificateDraft,
  encodeTbsCertificate,
  parseCertificate,
  parseTbsCertificate,
} from '../../src/pki/certificate.ts'
import { bitString, explicit, integer, sequence, time } from '../../src/pki/der.ts'
import * as ext from '../../src/pki/extensions.ts'
import { commonNameOf, encodeName, nameToString } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { encodePem, parseOnePem } from '../../src/pki/pem.ts'
import { verifySignature } from '../../src/pki/signature.ts'
import { toKeyObject } from '../../src/pki/spki.ts'
import { createTestKey } from './keys.ts'
import { createBench } from './openssl.ts'
import { codeOf } from './refusal.ts'

const key = createTestKey('P-256')
const notBefore = Date.UTC(2026, 0, 2, 3, 4, 5)
const draft: CertificateDraft = {
  serial: Uint8Array.from([1, ...new Uint8Array(15).fill(0xab)]),
  signatureAlgorithm: 'ecdsa-with-SHA256',
  issuerDer: encodeName([
    ['O', 'Example'],
    ['CN', 'issuing'],
  ]),
  notBefore,
  notAfter: Date.UTC(2055, 0, 1),
  subjectDer: encodeName([['CN', 'agent-a']]),
  spkiDer: key.spki.der,
  extensions: [
    ext.basicConstraints({ isCa: false, pathLength: null }),
    ext.keyUsage(['digitalSignature']),
    ext.extendedKeyUsage([oidOf.clientAuth]),
    ext.subjectAltName([
      { kind: 'uri', value: 'spiffe://example.org/agent/a/i/1' },
      { kind: 'dns', value: 'a.example.org' },
    ]),
    ext.authorityKeyIdentifier(new Uint8Array(20).fill(9)),
    ext.scopesVersion(42),
    ext.noRevAvail(),
  ],
}
const signed = (tbs: Uint8Array): Uint8Array => assembleCertificate(tbs, 'ecdsa-with-SHA256', key.signDer(tbs))
const der = signed(encodeTbsCertificate(draft))

describe('a certificate we encode', () => {
  const certificate = parseCertificate(der)

  it('reads back as its draft, and encodes to the same bytes', () => {
    expect(certificate).toMatchObject({
      version: 3,
      notBefore,
      notAfter: draft.notAfter,
      spiffeId: 'spiffe://example.org/agent/a/i/1',
      dnsNames: ['a.example.org'],
      scopesVersion: 42,
      hasNoRevAvail: true,
      hasOcspNoCheck: false,
    })
    expect(certificate.serialHex).toBe(`01${'ab'.repeat(15)}`)
    expect(commonNameOf(certificate.subject)).toBe('agent-a')
    expect(nameToString(certificate.issuer)).toBe('CN=issuing,O=Example')
    expect(certificate.basicConstraints).toEqual({ isCa: false, pathLength: null })
    expect(certificate.keyUsage).toEqual(['digitalSignature'])
    expect(certificate.extendedKeyUsage).toEqual([oidOf.clientAuth])
    const again: CertificateDraft = {
      ...certificate,
      serial: certificate.serial,
      signatureAlgorithm: certificate.signatureAlgorithm,
      issuerDer: certificate.issuerDer,
      notBefore: certificate.notBefore,
      notAfter: certificate.notAfter,
      subjectDer: certificate.subjectDer,
      spkiDer: certificate.spkiDer,
      extensions: certificate.extensions,
    }
    expect(encodeTbsCertificate(again)).toEqual(certificate.tbs)
    expect(assembleCertificate(certificate.tbs, certificate.signatureAlgorithm, certificate.signature)).toEqual(der)
    expect(parseTbsCertificate(certificate.tbs).serialHex).toBe(certificate.serialHex)
  })

  it('is signed over the bytes that `tbs` gives', () => {
    expect(verifySignature(key.spki, certificate.signatureAlgorithm, certificate.tbs, certificate.signature)).toBe(true)
  })

  it('means the same to OpenSSL and to node:crypto', () => {
    using bench = createBench()
    const file = bench.file('c.pem', encodePem('CERTIFICATE', der))
    const text = bench.openssl('x509', '-in', file, '-noout', '-text')
    expect(text).toContain('URI:spiffe://example.org/agent/a/i/1, DNS:a.example.org')
    expect(text).toContain('Not Before: Jan  2 03:04:05 2026 GMT')
    expect(text).toContain('Not After : Jan  1 00:00:00 2055 GMT')
    expect(text).toContain('CA:FALSE')
    const node = new X509Certificate(der)
    expect(node.serialNumber.toLowerCase()).toBe(certificate.serialHex)
    expect(node.verify(toKeyObject(key.spki))).toBe(true)
  })
})

describe('certificates made by OpenSSL', () => {
  it.each([
    ['P-384 root', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384'], '-sha384'],
    ['RSA root', ['rsa:2048'], '-sha256'],
    ['Ed25519 root', ['ed25519'], '-sha256'],
  ] as const)('%s: fields agree and encode to the same bytes', (_name, newkey, digest) => {
    using bench = createBench()
    bench.openssl(
      'req',
      '-x509',
      '-newkey',
      ...newkey,
      '-nodes',
      digest,
      '-keyout',
      'k.pem',
      '-out',
      'c.pem',
      '-days',
      '9',
      '-subj',
      '/O=Ex/CN=root',
      '-addext',
      'nameConstraints=critical,permitted;URI:example.org',
      '-addext',
      'crlDistributionPoints=URI:http://x/c.crl',
    )
    const certificate = parseCertificate(parseOnePem(readFileSync(bench.path('c.pem'), 'utf8'), 'CERTIFICATE'))
    expect(bench.openssl('x509', '-in', 'c.pem', '-noout', '-serial').trim().toLowerCase()).toBe(
      `serial=${certificate.serialHex}`,
    )
    expect(certificate.basicConstraints).toEqual({ isCa: true, pathLength: null })
    expect(certificate.nameConstraints?.permitted).toEqual([{ kind: 'uri', value: 'example.org' }])
    expect(certificate.subjectKeyIdentifier).toEqual(certificate.authorityKeyIdentifier?.keyId)
    expect(
      verifySignature(certificate.spki, certificate.signatureAlgorithm, certificate.tbs, certificate.signature),
    ).toBe(true)
    const { serial, signatureAlgorithm, issuerDer, subjectDer, spkiDer, extensions } = certificate
    expect(
      encodeTbsCertificate({
        serial,
        signatureAlgorithm,
        issuerDer,
        subjectDer,
        spkiDer,
        extensions,
        notBefore: certificate.notBefore,
        notAfter: certificate.notAfter,
      }),
    ).toEqual(certificate.tbs)
  })
})

describe('refusals', () => {
  const algorithm = signatureAlgorithms['ecdsa-with-SHA256'].der
  const frame = (...parts: Uint8Array[]) => signed(sequence(...parts))
  const middle = [integer(5), algorithm, draft.issuerDer, sequence(time(0), time(1)), draft.subjectDer, key.spki.der]

  it('a v1 certificate is read; a v1 one with extensions and an unknown version are refused', () => {
    expect(parseCertificate(frame(...middle))).toMatchObject({ version: 1, extensions: [] })
    expect(codeOf(() => parseCertificate(frame(...middle, explicit(3, ext.encodeExtensions(draft.extensions)))))).toBe(
      'der_malformed',
    )
    for (const version of [0, 3])
      expect(codeOf(() => parseCertificate(frame(explicit(0, integer(version)), ...middle)))).toBe(
        'certificate_malformed',
      )
  })

  it('two signature algorithms that differ (RFC 5280 §4.1.1.2)', () => {
    const tbs = encodeTbsCertificate(draft)
    expect(codeOf(() => parseCertificate(assembleCertificate(tbs, 'ecdsa-with-SHA384', key.signDer(tbs))))).toBe(
      'certificate_malformed',
    )
  })

  it('the same extension twice (RFC 5280 §4.2)', () => {
    const twice = encodeTbsCertificate({ ...draft, extensions: [...draft.extensions, ext.noRevAvail()] })
    expect(codeOf(() => parseCertificate(signed(twice)))).toBe('extension_duplicate')
  })

  it('two URIs in the SAN have no SPIFFE ID (X509-SVID §2), whatever the second is', () => {
    const extensions = [
      ext.subjectAltName([
        { kind: 'uri', value: 'spiffe://example.org/a' },
        { kind: 'uri', value: 'http://x/' },
      ]),
    ]
    const certificate = parseCertificate(signed(encodeTbsCertificate({ ...draft, extensions })))
    expect(codeOf(() => certificate.spiffeId)).toBe('certificate_malformed')
  })

  it('bytes that trail, are missing, or are too many', () => {
    expect(codeOf(() => parseCertificate(Uint8Array.of(...der, 0)))).toBe('der_malformed')
    for (let length = 0; length < der.length; length += 7)
      expect(codeOf(() => parseCertificate(der.subarray(0, length)))).toBe('der_malformed')
    expect(
      codeOf(() =>
        parseCertificate(sequence(encodeTbsCertificate(draft), algorithm, bitString(new Uint8Array(70_000)))),
      ),
    ).toBe('input_too_large')
  })

  it('a key or an algorithm that is not accepted is refused when asked for, not before', () => {
    const p224 = sequence(sequence(Uint8Array.from([6, 5, 0x2b, 0x81, 4, 0, 0x21])), bitString(Uint8Array.of(1)))
    const certificate = parseCertificate(signed(encodeTbsCertificate({ ...draft, spkiDer: p224 })))
    expect(certificate.serialHex).toBe(`01${'ab'.repeat(15)}`)
    expect(codeOf(() => certificate.spki)).toBe('key_not_allowed')
  })
})

describe('mutated certificates', () => {
  let everything: (certificate: Certificate) => unknown
  beforeAll(() => {
    const getters: string[] = []
    for (let at = Object.getPrototypeOf(parseCertificate(der)); at !== Object.prototype; at = Object.getPrototypeOf(at))
      getters.push(
        ...Object.entries(Object.getOwnPropertyDescriptors(at)).flatMap(([name, property]) =>
          property.get ? [name] : [],
        ),
      )
    expect(getters).toContain('spiffeId')
    everything = certificate => getters.map(name => codeOf(() => certificate[name as keyof Certificate]))
  })

  it('are parsed or refused with a PkiError, down to the last accessor', () => {
    const edit = fc.tuple(fc.nat(der.length - 1), fc.integer({ min: 0, max: 255 }))
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), edits => {
        const mutant = der.slice()
        for (const [at, byte] of edits) mutant[at] = byte
        codeOf(() => everything(parseCertificate(mutant)))
      }),
      { numRuns: 3000 },
    )
  })

  it('no accepted mutant of the signed part carries the signature over', () => {
    const certificate = parseCertificate(der)
    fc.assert(
      fc.property(fc.nat(certificate.tbs.length * 8 - 1), bit => {
        const tbs = certificate.tbs.slice()
        tbs[bit >> 3]! ^= 1 << (bit & 7)
        expect([
          toHex(tbs) === toHex(certificate.tbs),
          verifySignature(key.spki, 'ecdsa-with-SHA256', tbs, certificate.signature),
        ]).toEqual([false, false])
      }),
    )
  })
})
