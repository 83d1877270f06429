import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { KeyAlgorithm } from '../../src/pki/algorithms.ts'
import type { Certificate } from '../../src/pki/certificate.ts'
import { PkiError } from '../../src/pki/errors.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { buildCaCertificate, buildCsr, type CaCertificateDraft, type ExternalKey } from '../../src/pki/peculiar.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { ecdsaSignatureFromRaw } from '../../src/pki/signature.ts'
import { keyIdentifier } from '../../src/pki/spki.ts'
import { createTestKey, type TestKey } from './keys.ts'
import { createBench } from './openssl.ts'

const now = Math.floor(Date.now() / 1000) * 1000
const validity = { notBefore: now - 60_000, notAfter: now + 86_400_000 }

const rootDraft = (key: TestKey): CaCertificateDraft => ({
  subject: [
    ['O', 'Example'],
    ['CN', 'Example root'],
  ],
  spki: key.spki,
  issuer: 'self',
  issuerKey: key.external,
  serial: Uint8Array.of(0x7f, 1, 2),
  ...validity,
  pathLength: null,
})

const issuingDraft = (root: Certificate, rootKey: TestKey, key: TestKey): CaCertificateDraft => ({
  subject: [['CN', 'Example issuing 1']],
  spki: key.spki,
  issuer: root,
  issuerKey: rootKey.external,
  serial: Uint8Array.of(5),
  ...validity,
  pathLength: 0,
  crlDistributionPoints: ['http://ca.example/root.crl'],
  authorityInfoAccess: { ocsp: [], caIssuers: ['http://ca.example/root.cer'] },
  permittedNames: [{ kind: 'uri', value: 'example.org' }],
  spiffeId: 'spiffe://example.org',
})

const codeOfAsync = async (promise: Promise<unknown>): Promise<string> => {
  try {
    await promise
    return 'accepted'
  } catch (error) {
    if (error instanceof PkiError) return error.code
    throw error
  }
}

describe.each<KeyAlgorithm>(['P-384', 'P-256', 'RSA', 'Ed25519'])('CA certificates under a %s root', algorithm => {
  const rootKey = createTestKey(algorithm)
  const issuingKey = createTestKey('P-256')

  it('have the extensions that RFC 5280 asks of CAs, and pass openssl verify -x509_strict', async () => {
    using bench = createBench()
    const root = await buildCaCertificate(rootDraft(rootKey))
    const issuing = await buildCaCertificate(issuingDraft(root, rootKey, issuingKey))

    expect(root.basicConstraints).toEqual({ isCa: true, pathLength: null })
    expect(root.keyUsage).toEqual(['keyCertSign', 'cRLSign'])
    expect(root.subjectKeyIdentifier).toEqual(keyIdentifier(rootKey.spki))
    expect(root.issuerDer).toEqual(root.subjectDer)
    expect(root).toMatchObject({ serialHex: '7f0102', ...validity, version: 3 })

    expect(issuing.basicConstraints).toEqual({ isCa: true, pathLength: 0 })
    expect(issuing.authorityKeyIdentifier?.keyId).toEqual(root.subjectKeyIdentifier)
    expect(issuing.nameConstraints?.permitted).toEqual([{ kind: 'uri', value: 'example.org' }])
    expect(issuing.authorityInfoAccess?.caIssuers).toEqual(['http://ca.example/root.cer'])
    expect(issuing.crlDistributionPoints?.[0]?.fullName).toEqual([{ kind: 'uri', value: 'http://ca.example/root.crl' }])
    expect(issuing.spiffeId).toBe('spiffe://example.org')
    for (const critical of [oidOf.basicConstraints, oidOf.keyUsage, oidOf.nameConstraints])
      expect(issuing.extension(critical)?.critical).toBe(true)

    bench.file('root.pem', encodePem('CERTIFICATE', root.der))
    bench.file('issuing.pem', encodePem('CERTIFICATE', issuing.der))
    expect(bench.try('verify', '-x509_strict', '-CAfile', 'root.pem', 'issuing.pem')).toMatchObject({ status: 0 })
    bench.file(
      'other.pem',
      encodePem('CERTIFICATE', (await buildCaCertificate(rootDraft(createTestKey(algorithm)))).der),
    )
    expect(bench.try('verify', '-x509_strict', '-CAfile', 'other.pem', 'issuing.pem').status).not.toBe(0)
  })

  it('and their requests verify with openssl req', async () => {
    using bench = createBench()
    const csr = await buildCsr({
      subject: [
        ['O', 'Example'],
        ['CN', 'issuing'],
      ],
      key: rootKey.external,
    })
    expect(
      bench.try('req', '-in', bench.file('r.pem', encodePem('CERTIFICATE REQUEST', csr.der)), '-verify', '-noout')
        .status,
    ).toBe(0)
  })
})

describe('external keys', () => {
  const key = createTestKey('P-384')

  it('may answer in DER as well as in r||s, leading zeros and all', async () => {
    const der: ExternalKey = {
      publicKeySpki: key.spki.der,
      signatureForm: 'der',
      sign: async data => key.signDer(data),
    }
    // 40 signatures: each of r and s begins with a zero octet once in 256.
    for (let i = 0; i < 40; i++)
      expect((await buildCaCertificate({ ...rootDraft(key), issuerKey: der })).version).toBe(3)
  })

  it('that sign something else, with another key or in another form are found out before anybody gets the certificate', async () => {
    const other = createTestKey('P-384')
    const withSign = (sign: ExternalKey['sign']) =>
      buildCaCertificate({ ...rootDraft(key), issuerKey: { ...key.external, sign } })
    expect(await codeOfAsync(withSign(other.external.sign))).toBe('signature_invalid')
    expect(await codeOfAsync(withSign(async () => new Uint8Array(96).fill(1)))).toBe('signature_invalid')
    expect(await codeOfAsync(withSign(async data => ecdsaSignatureFromRaw(await key.external.sign(data))))).toBe(
      'signature_malformed',
    )
    expect(await codeOfAsync(buildCaCertificate({ ...rootDraft(key), issuerKey: other.external }))).toBe(
      'not_encodable',
    )
  })

  it('whose failure is an error keep that error', async () => {
    const fault = new Error('token removed')
    await expect(
      buildCaCertificate({ ...rootDraft(key), issuerKey: { ...key.external, sign: () => Promise.reject(fault) } }),
    ).rejects.toBe(fault)
  })

  it('on a curve that is not accepted are refused', async () => {
    const der = generateKeyPairSync('ec', { namedCurve: 'secp521r1' }).publicKey.export({ type: 'spki', format: 'der' })
    expect(
      await codeOfAsync(
        buildCsr({ subject: [['CN', 'x']], key: { ...key.external, publicKeySpki: new Uint8Array(der) } }),
      ),
    ).toBe('key_not_allowed')
  })
})
