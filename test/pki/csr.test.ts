import { spawnSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import forge from 'node-forge'
import { describe, expect, it } from 'vitest'
import { signatureAlgorithms } from '../../src/pki/algorithms.ts'
import {
  checkCertificationRequestSignature,
  createCsr,
  encodeCertificationRequestInfo,
  parseCertificationRequest,
} from '../../src/pki/csr.ts'
import { bitString, implicitConstructed, integer, oid, sequence, set, utf8String } from '../../src/pki/der.ts'
import * as ext from '../../src/pki/extensions.ts'
import { commonNameOf, encodeName } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { buildCsr } from '../../src/pki/peculiar.ts'
import { encodePem, parseOnePem } from '../../src/pki/pem.ts'
import { createTestKey, spkiDerOf } from './keys.ts'
import { createBench } from './openssl.ts'
import { codeOf, reasonOf } from './refusal.ts'

const key = createTestKey('P-256')
const algorithm = signatureAlgorithms['ecdsa-with-SHA256'].der
const spiffe = { kind: 'uri', value: 'spiffe://example.org/agent/a/i/1' } as const

const signed = (info: Uint8Array): Uint8Array => sequence(info, algorithm, bitString(key.signDer(info)))
const infoWith = (spkiDer: Uint8Array, ...rest: Uint8Array[]): Uint8Array =>
  sequence(integer(0), encodeName([]), spkiDer, ...rest)
const requesting = (...extensions: ext.Extension[]): Uint8Array =>
  signed(
    infoWith(
      key.spki.der,
      implicitConstructed(0, sequence(oid(oidOf.extensionRequest), set(ext.encodeExtensions(extensions)))),
    ),
  )
const parseAndCheck = (der: Uint8Array): void => checkCertificationRequestSignature(parseCertificationRequest(der))

describe('requests of other programs', () => {
  it.each([
    ['P-256', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256']],
    ['P-384', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384']],
    ['RSA', ['rsa:2048']],
    ['Ed25519', ['ed25519']],
  ] as const)('openssl req with a %s key', (name, newkey) => {
    using bench = createBench()
    bench.openssl(
      'req',
      '-new',
      '-newkey',
      ...newkey,
      '-nodes',
      '-keyout',
      'k.pem',
      '-out',
      'r.pem',
      '-subj',
      '/CN=x',
      '-addext',
      `subjectAltName=URI:${spiffe.value},DNS:a.example.org`,
    )
    const csr = parseCertificationRequest(parseOnePem(readFileSync(bench.path('r.pem'), 'utf8'), 'CERTIFICATE REQUEST'))
    checkCertificationRequestSignature(csr)
    expect(csr.spki.algorithm).toBe(name)
    expect(csr.subjectAltNames).toEqual([spiffe, { kind: 'dns', value: 'a.example.org' }])
    bench.openssl('req', '-new', '-key', 'k.pem', '-out', 'bare.pem', '-subj', '/')
    const bare = parseCertificationRequest(
      parseOnePem(readFileSync(bench.path('bare.pem'), 'utf8'), 'CERTIFICATE REQUEST'),
    )
    expect([bare.subjectAltNames, bare.subject.rdns]).toEqual([[], []])
  })

  it('node-forge, with an RSA key and an extension request', () => {
    const pair = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const request = forge.pki.createCertificationRequest()
    request.publicKey = forge.pki.publicKeyFromPem(String(pair.publicKey.export({ type: 'spki', format: 'pem' })))
    request.setSubject([{ name: 'commonName', value: 'x' }])
    request.setAttributes([
      {
        name: 'extensionRequest',
        extensions: [{ name: 'subjectAltName', altNames: [{ type: 6, value: spiffe.value }] }],
      },
    ])
    request.sign(
      forge.pki.privateKeyFromPem(String(pair.privateKey.export({ type: 'pkcs1', format: 'pem' }))),
      forge.md.sha256.create(),
    )
    const csr = parseCertificationRequest(
      parseOnePem(forge.pki.certificationRequestToPem(request), 'CERTIFICATE REQUEST'),
    )
    checkCertificationRequestSignature(csr)
    expect([csr.subjectAltNames, commonNameOf(csr.subject)]).toEqual([[spiffe], 'x'])
  })

  it('@peculiar/x509', async () => {
    const csr = await buildCsr({ subject: [['CN', 'x']], key: key.external })
    expect(commonNameOf(csr.subject)).toBe('x')
  })

  const python = spawnSync('python3', ['-c', 'import cryptography'], { encoding: 'utf8' })
  it.skipIf(python.status !== 0)("Python's cryptography", () => {
    const script = [
      'from cryptography import x509',
      'from cryptography.hazmat.primitives import hashes, serialization',
      'from cryptography.hazmat.primitives.asymmetric import ec',
      'k = ec.generate_private_key(ec.SECP256R1())',
      "b = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier('spiffe://example.org/agent/a/i/1')]), critical=True)",
      'print(b.sign(k, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode())',
    ].join('\n')
    const { stdout } = spawnSync('python3', ['-c', script], { encoding: 'utf8' })
    const csr = parseCertificationRequest(parseOnePem(stdout, 'CERTIFICATE REQUEST'))
    checkCertificationRequestSignature(csr)
    expect(csr.subjectAltNames).toEqual([spiffe])
  })

  it('attributes left out altogether, though RFC 2986 §4.1 demands them', () => {
    expect(codeOf(() => parseAndCheck(signed(infoWith(key.spki.der))))).toBe('accepted')
  })
})

describe('requests of our own agents', () => {
  it.each(['P-256', 'P-384', 'Ed25519', 'RSA'] as const)(
    'with a %s key verify with openssl req and read back',
    async name => {
      using bench = createBench()
      const own = createTestKey(name)
      const der = await createCsr({
        spkiDer: own.spki.der,
        subjectCn: 'agent-a',
        subjectAltNames: [spiffe],
        sign: own.signDer,
      })
      const { status, output } = bench.try(
        'req',
        '-in',
        bench.file('r.pem', encodePem('CERTIFICATE REQUEST', der)),
        '-verify',
        '-noout',
        '-text',
      )
      expect([status, output]).toEqual([0, expect.stringContaining(`URI:${spiffe.value}`)])
      const csr = parseCertificationRequest(der)
      checkCertificationRequestSignature(csr)
      expect(csr.info).toEqual(
        encodeCertificationRequestInfo({ spkiDer: own.spki.der, subjectCn: 'agent-a', subjectAltNames: [spiffe] }),
      )
      expect(commonNameOf(csr.subject)).toBe('agent-a')
    },
  )
})

describe('requests that are refused', () => {
  const good = requesting(ext.subjectAltName([spiffe]))

  it('a signature by another key, or over other bytes', async () => {
    expect(codeOf(() => parseAndCheck(good))).toBe('accepted')
    const stolen = await createCsr({ spkiDer: createTestKey('P-256').spki.der, sign: key.signDer })
    expect(codeOf(() => parseAndCheck(stolen))).toBe('csr_signature_invalid')
  })

  it('keys that are not accepted', () => {
    const reason = (spkiDer: Uint8Array) =>
      reasonOf(() => parseCertificationRequest(signed(infoWith(spkiDer, implicitConstructed(0)))))
    const offCurve = key.spki.der.slice()
    offCurve[offCurve.length - 1]! ^= 1
    expect(reason(offCurve)).toBe('point_not_on_curve')
    expect(reason(spkiDerOf(generateKeyPairSync('ec', { namedCurve: 'secp224r1' }).publicKey))).toBe(
      'unsupported_curve',
    )
    expect(reason(spkiDerOf(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey))).toBe(
      'unsupported_curve',
    )
    expect(reason(spkiDerOf(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey))).toBe('rsa_too_small')
    const modulus = (1n << 2047n) + 1n
    const e1 = sequence(
      sequence(oid(oidOf.rsaEncryption), Uint8Array.of(5, 0)),
      bitString(sequence(integer(modulus), integer(1))),
    )
    expect(reason(e1)).toBe('rsa_exponent')
  })

  it('to be a CA, or to have name constraints', () => {
    expect(
      codeOf(() => parseCertificationRequest(requesting(ext.basicConstraints({ isCa: true, pathLength: 0 })))),
    ).toBe('csr_requests_ca')
    expect(
      codeOf(() => parseCertificationRequest(requesting(ext.basicConstraints({ isCa: false, pathLength: null })))),
    ).toBe('accepted')
    const constraints = ext.nameConstraints({ permitted: [spiffe], excluded: [] })
    expect(codeOf(() => parseCertificationRequest(requesting(constraints)))).toBe('csr_requests_name_constraints')
  })

  it('the same extension twice', () => {
    expect(
      codeOf(() => parseCertificationRequest(requesting(ext.subjectAltName([spiffe]), ext.subjectAltName([spiffe])))),
    ).toBe('csr_duplicate_extension')
  })

  it('attributes other than extensionRequest, by name, and extensionRequest twice', () => {
    const challenge = sequence(oid(oidOf.challengePassword), set(utf8String('secret')))
    const call = () => parseCertificationRequest(signed(infoWith(key.spki.der, implicitConstructed(0, challenge))))
    expect(codeOf(call)).toBe('csr_attribute_not_allowed')
    expect(call).toThrow(expect.objectContaining({ facts: { attribute: 'challengePassword' } }))
    const request = sequence(oid(oidOf.extensionRequest), set(ext.encodeExtensions([ext.noRevAvail()])))
    expect(
      codeOf(() => parseCertificationRequest(signed(infoWith(key.spki.der, implicitConstructed(0, request, request))))),
    ).toBe('csr_malformed')
  })

  it('garbage, truncation, trailing bytes, non-minimal lengths, another version', () => {
    expect(codeOf(() => parseCertificationRequest(new Uint8Array(100).fill(0x41)))).toBe('csr_malformed')
    expect(codeOf(() => parseCertificationRequest(Uint8Array.of(...good, 0)))).toBe('csr_malformed')
    for (let length = 0; length < good.length; length++)
      expect(codeOf(() => parseCertificationRequest(good.subarray(0, length)))).toBe('csr_malformed')
    const content = good.subarray(good[1]! < 0x80 ? 2 : 2 + (good[1]! & 0x7f))
    const padded = Uint8Array.of(0x30, 0x83, 0, content.length >> 8, content.length & 0xff, ...content)
    expect(codeOf(() => parseCertificationRequest(padded))).toBe('csr_malformed')
    const version2 = sequence(integer(1), encodeName([]), key.spki.der, implicitConstructed(0))
    expect(codeOf(() => parseCertificationRequest(signed(version2)))).toBe('csr_malformed')
  })

  it('more than 8 KiB: 1 MB is refused unread', () => {
    expect(codeOf(() => parseCertificationRequest(new Uint8Array(1_000_000)))).toBe('csr_too_large')
    expect(codeOf(() => parseCertificationRequest(new Uint8Array(8192)))).toBe('csr_malformed')
  })

  it('SHA-1 signatures', () => {
    const sha1 = sequence(oid('1.2.840.10045.4.1'))
    expect(
      codeOf(() => parseCertificationRequest(sequence(infoWith(key.spki.der), sha1, bitString(Uint8Array.of(1))))),
    ).toBe('algorithm_not_allowed')
  })

  it('mutants: parsed or refused with a PkiError, and none with another meaning keeps a valid signature', () => {
    const { info } = parseCertificationRequest(good)
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const mutant = good.slice()
        mutant[at]! ^= change
        if (codeOf(() => parseAndCheck(mutant)) === 'accepted')
          expect(parseCertificationRequest(mutant).info).toEqual(info)
      }),
      { numRuns: 2000 },
    )
  })
})
