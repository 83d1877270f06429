import '../../src/pki/reflect-metadata.ts'
import { createHash } from 'node:crypto'
import * as x509 from '@peculiar/x509'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { toHex } from '../../src/base/bytes.ts'
import {
  assembleCertificate,
  type Certificate,
  encodeTbsCertificate,
  parseCertificate,
} from '../../src/pki/certificate.ts'
import { integer } from '../../src/pki/der.ts'
import { createLeafTemplate, type LeafFields, type LeafTemplateOptions } from '../../src/pki/leaf-template.ts'
import { encodeName } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { buildCaCertificate } from '../../src/pki/peculiar.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { agentSpiffeId, parseTrustDomain } from '../../src/pki/spiffe.ts'
import { createTestKey } from './keys.ts'
import { createBench } from './openssl.ts'
import { codeOf } from './refusal.ts'

const rootKey = createTestKey('P-384')
const issuingKey = createTestKey('P-256')
const leafKey = createTestKey('P-256')
const now = Math.floor(Date.now() / 1000) * 1000
const domain = parseTrustDomain('example.org')

const options: LeafTemplateOptions = {
  issuerDer: encodeName([
    ['O', 'Example'],
    ['CN', 'issuing'],
  ]),
  signatureAlgorithm: 'ecdsa-with-SHA256',
  authorityKeyId: new Uint8Array(createHash('sha1').update(issuingKey.spki.keyBytes).digest()),
  keyUsage: ['digitalSignature'],
  extendedKeyUsage: [oidOf.clientAuth],
  crlDistributionPoint: 'http://127.0.0.1:8081/crl/issuing-1.crl',
  authorityInfoAccess: { ocsp: ['http://127.0.0.1:8081/ocsp'], caIssuers: ['http://127.0.0.1:8081/aia/issuing-1.cer'] },
}
const fields: LeafFields = {
  serial: Uint8Array.from([1, ...new Uint8Array(15).fill(7)]),
  notBefore: now - 60_000,
  notAfter: now + 3_600_000,
  subjectCn: 'agent-a',
  spkiDer: leafKey.spki.der,
  spiffeId: agentSpiffeId(domain, 'a', '1'),
  dnsNames: ['a.example.org', 'b.example.org'],
  ipAddresses: [Uint8Array.of(127, 0, 0, 1), Uint8Array.from([...new Uint8Array(15), 1])],
  scopesVersion: 7,
}

describe('the leaf template', () => {
  it('makes the bytes that encodeTbsCertificate makes, for any fields and options', () => {
    const anyFields = fc.record({
      serial: fc.uint8Array({ minLength: 1, maxLength: 20 }),
      notBefore: fc.integer({ min: 0, max: Date.UTC(2100, 0, 1) }),
      notAfter: fc.integer({ min: 0, max: Date.UTC(2100, 0, 1) }),
      subjectCn: fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 64 }),
      spkiDer: fc.constantFrom(leafKey.spki.der, rootKey.spki.der),
      spiffeId: fc.constantFrom(fields.spiffeId!, agentSpiffeId(domain, 'a'.repeat(58), 'b'.repeat(64))),
      dnsNames: fc.array(fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 300 }), { maxLength: 5 }),
      ipAddresses: fc.array(
        fc.oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 })),
        { maxLength: 5 },
      ),
    })
    const variants: readonly LeafTemplateOptions[] = [
      options,
      { ...options, noRevAvail: 'present', ocspNoCheck: 'present' },
      {
        issuerDer: options.issuerDer,
        signatureAlgorithm: 'ecdsa-with-SHA384',
        authorityKeyId: options.authorityKeyId,
        keyUsage: ['digitalSignature'],
        extendedKeyUsage: [oidOf.serverAuth, oidOf.clientAuth],
      },
    ]
    for (const template of variants.map(createLeafTemplate))
      fc.assert(
        fc.property(anyFields, fc.option(fc.nat(), { nil: undefined }), (some, scopesVersion) => {
          const input: LeafFields = scopesVersion === undefined ? some : { ...some, scopesVersion }
          expect(template.encode(input)).toEqual(encodeTbsCertificate(template.draft(input)))
        }),
        { numRuns: 200 },
      )
  })

  it('without any name leaves the SAN out: OCSP responders', () => {
    const template = createLeafTemplate({ ...options, extendedKeyUsage: [oidOf.ocspSigning], ocspNoCheck: 'present' })
    const { serial, notBefore, notAfter, spkiDer } = fields
    const input: LeafFields = { serial, notBefore, notAfter, spkiDer, subjectCn: 'ocsp' }
    expect(template.encode(input)).toEqual(encodeTbsCertificate(template.draft(input)))
    expect(template.draft(input).extensions.map(e => e.oid)).not.toContain(oidOf.subjectAltName)
  })

  it('refuses names that are not ASCII, an empty CN, and a leaf beyond 64 KiB', () => {
    const template = createLeafTemplate(options)
    expect(codeOf(() => template.encode({ ...fields, subjectCn: 'ä' }))).toBe('not_encodable')
    expect(codeOf(() => template.encode({ ...fields, subjectCn: '' }))).toBe('not_encodable')
    expect(codeOf(() => template.encode({ ...fields, dnsNames: ['é'] }))).toBe('not_encodable')
    expect(codeOf(() => template.encode({ ...fields, dnsNames: ['x'.repeat(70_000)] }))).toBe('not_encodable')
  })

  it('makes the to-be-signed bytes that @peculiar/x509 makes from its own classes', async () => {
    const raw = (bytes: Uint8Array) => new Uint8Array(bytes)
    const foreign = await x509.X509CertificateGenerator.create({
      serialNumber: toHex(fields.serial),
      subject: new x509.Name([{ CN: [{ utf8String: fields.subjectCn }] }]),
      issuer: new x509.Name([{ O: [{ utf8String: 'Example' }] }, { CN: [{ utf8String: 'issuing' }] }]),
      notBefore: new Date(fields.notBefore),
      notAfter: new Date(fields.notAfter),
      publicKey: new x509.PublicKey(raw(leafKey.spki.der)),
      signature: new Uint8Array(64).fill(1),
      signingAlgorithm: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth]),
        new x509.AuthorityKeyIdentifierExtension(toHex(options.authorityKeyId)),
        new x509.CRLDistributionPointsExtension([options.crlDistributionPoint!]),
        new x509.AuthorityInfoAccessExtension({
          ocsp: new x509.GeneralName('url', 'http://127.0.0.1:8081/ocsp'),
          caIssuers: new x509.GeneralName('url', 'http://127.0.0.1:8081/aia/issuing-1.cer'),
        }),
        new x509.SubjectAlternativeNameExtension([
          { type: 'url', value: fields.spiffeId! },
          { type: 'dns', value: 'a.example.org' },
          { type: 'dns', value: 'b.example.org' },
          { type: 'ip', value: '127.0.0.1' },
          { type: 'ip', value: '::1' },
        ]),
        new x509.Extension(oidOf.agentScopesVersion, false, raw(integer(7))),
      ],
    })
    const tbs = parseCertificate(new Uint8Array(foreign.rawData)).tbs
    expect(toHex(createLeafTemplate(options).encode(fields))).toBe(toHex(tbs))
  })
})

describe('a leaf under a real chain', () => {
  let root: Certificate
  let issuing: Certificate
  let leaf: Uint8Array
  beforeAll(async () => {
    const validity = { notBefore: now - 60_000, notAfter: now + 86_400_000 }
    root = await buildCaCertificate({
      subject: [['CN', 'root']],
      spki: rootKey.spki,
      issuer: 'self',
      issuerKey: rootKey.external,
      serial: Uint8Array.of(1),
      ...validity,
      pathLength: null,
    })
    issuing = await buildCaCertificate({
      subject: [
        ['O', 'Example'],
        ['CN', 'issuing'],
      ],
      spki: issuingKey.spki,
      issuer: root,
      issuerKey: rootKey.external,
      serial: Uint8Array.of(2),
      ...validity,
      pathLength: 0,
    })
    const tbs = createLeafTemplate(options).encode(fields)
    leaf = assembleCertificate(tbs, 'ecdsa-with-SHA256', issuingKey.signDer(tbs))
  })

  it('is accepted by openssl verify -x509_strict for clients and refused for servers', () => {
    using bench = createBench()
    bench.file('root.pem', encodePem('CERTIFICATE', root.der))
    bench.file('issuing.pem', encodePem('CERTIFICATE', issuing.der))
    bench.file('leaf.pem', encodePem('CERTIFICATE', leaf))
    const verify = (purpose: string) =>
      bench.try(
        'verify',
        '-x509_strict',
        '-purpose',
        purpose,
        '-CAfile',
        'root.pem',
        '-untrusted',
        'issuing.pem',
        'leaf.pem',
      )
    expect(verify('sslclient')).toMatchObject({ status: 0, output: 'leaf.pem: OK\n' })
    expect(verify('sslserver').status).not.toBe(0)
  })
})
