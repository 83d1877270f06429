// The same certificate through other people's code: from the same bytes each reads the same fields.
import '../../src/pki/reflect-metadata.ts'
import { execFileSync } from 'node:child_process'
import { createHash, generateKeyPairSync } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as peculiar from '@peculiar/x509'
import forge from 'node-forge'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseCertificate } from '../../src/pki/certificate.ts'
import type { GeneralName } from '../../src/pki/general-names.ts'
import { commonNameOf } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { parsePem } from '../../src/pki/pem.ts'
import { mustRun, type ServedCa, startServedCa } from './served-ca.ts'

/** What a relying party decides by. */
interface Fields {
  readonly serial: string
  readonly subject: string
  readonly issuer: string
  /** Milliseconds. */
  readonly notBefore: number
  readonly notAfter: number
  readonly uris: readonly string[]
  readonly extendedKeyUsage: readonly string[]
  readonly crls: readonly string[]
  readonly ocsp: readonly string[]
  /** SHA-256 of the SubjectPublicKeyInfo. */
  readonly key: string
}

let ca: ServedCa
/** By key: what an agent has on disk, and one whose key node-forge can read. */
const leaves: Record<'P-256' | 'RSA', Uint8Array> = { 'P-256': new Uint8Array(), RSA: new Uint8Array() }

const firstOf = (pem: string): Uint8Array => parsePem(pem, 'CERTIFICATE')[0]!

beforeAll(async () => {
  ca = await startServedCa()
  leaves['P-256'] = firstOf(readFileSync(join(await ca.enrolled('billing'), 'tls.crt'), 'utf8'))
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const at = (name: string): string => join(ca.directory, name)
  writeFileSync(at('rsa.key'), privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
  await mustRun('openssl', ['req', '-new', '-key', 'rsa.key', '-subj', '/', '-out', 'rsa.csr'], { cwd: ca.directory })
  await ca.agentcaJson('agent', 'create', 'rsa', '--owner', 'finance')
  const issued = await ca.agentcaJson<{ certificate: string }>(
    ...['cert', 'issue', '--agent', 'rsa', '--csr', at('rsa.csr')],
  )
  leaves.RSA = firstOf(issued.certificate)
  for (const [name, der] of Object.entries(leaves)) writeFileSync(at(`${name}.der`), der)
}, 180_000)
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

const program = (name: string, ...args: readonly string[]): Promise<string> =>
  mustRun(name, args, { cwd: ca.directory })
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const all = (text: string, pattern: RegExp): string[] => [...text.matchAll(pattern)].map(match => match[1]!.trim())
const one = (text: string, pattern: RegExp): string => all(text, pattern)[0] ?? ''

const textOf = (name: GeneralName): string => ('value' in name ? name.value : name.kind)

const own = (der: Uint8Array): Fields => {
  const certificate = parseCertificate(der)
  const points = certificate.crlDistributionPoints ?? []
  return {
    serial: certificate.serialHex,
    subject: commonNameOf(certificate.subject) ?? '',
    issuer: commonNameOf(certificate.issuer) ?? '',
    notBefore: certificate.notBefore,
    notAfter: certificate.notAfter,
    uris: (certificate.subjectAltName ?? []).map(textOf),
    extendedKeyUsage: certificate.extendedKeyUsage ?? [],
    crls: points.flatMap(point => (point.fullName ?? []).map(textOf)),
    ocsp: [...(certificate.authorityInfoAccess?.ocsp ?? [])],
    key: certificate.spkiHashHex,
  }
}

const byPeculiar = async (name: string): Promise<Fields> => {
  const certificate = new peculiar.X509Certificate(readFileSync(join(ca.directory, `${name}.der`)))
  const san = certificate.getExtension(peculiar.SubjectAlternativeNameExtension)
  const points = certificate.getExtension(peculiar.CRLDistributionPointsExtension)?.distributionPoints ?? []
  return {
    serial: certificate.serialNumber,
    subject: certificate.subjectName.getField('CN')[0] ?? '',
    issuer: certificate.issuerName.getField('CN')[0] ?? '',
    notBefore: certificate.notBefore.getTime(),
    notAfter: certificate.notAfter.getTime(),
    uris: (san?.names.items ?? []).map(item => item.value),
    extendedKeyUsage: (certificate.getExtension(peculiar.ExtendedKeyUsageExtension)?.usages ?? []).map(String),
    crls: points.flatMap(point =>
      (point.distributionPoint?.fullName ?? []).map(each => each.uniformResourceIdentifier ?? ''),
    ),
    ocsp: (certificate.getExtension(peculiar.AuthorityInfoAccessExtension)?.ocsp ?? []).map(each => each.value),
    key: sha256(new Uint8Array(certificate.publicKey.rawData)),
  }
}

/** How programs show the one usage that an agent has. */
const usageOid = (shown: string): string =>
  /^TLS W(eb|WW) Client/.test(shown) ? oidOf.clientAuth : `not clientAuth: ${shown}`

const byOpenssl = async (name: string): Promise<Fields> => {
  const text = await program(
    'openssl',
    ...['x509', '-inform', 'DER', '-in', `${name}.der`, '-noout', '-text', '-nameopt', 'RFC2253', '-serial'],
    ...['-dates', '-dateopt', 'iso_8601'],
  )
  const spki = await program('openssl', ...`x509 -inform DER -in ${name}.der -noout -pubkey`.split(' '))
  return {
    serial: one(text, /^serial=(\w+)/gm).toLowerCase(),
    subject: one(text, /Subject: CN=([^,\n]+)/g),
    issuer: one(text, /Issuer: CN=([^,\n]+)/g),
    notBefore: Date.parse(one(text, /^notBefore=(.+)/gm)),
    notAfter: Date.parse(one(text, /^notAfter=(.+)/gm)),
    uris: all(text, /Subject Alternative Name:[^\n]*\n\s+URI:(.+)/g),
    extendedKeyUsage: all(text, /Extended Key Usage:[^\n]*\n\s+(.+)/g).map(usageOid),
    crls: all(text, /Full Name:\s+URI:(.+)/g),
    ocsp: all(text, /OCSP - URI:(.+)/g),
    key: sha256(parsePem(spki, 'PUBLIC KEY')[0]!),
  }
}

const byGnutls = async (name: string): Promise<Fields> => {
  const text = await program('certtool', '--certificate-info', '--inder', '--infile', `${name}.der`)
  const section = (title: string): string => one(text, new RegExp(`${title}.*:\\n((?:\\t\\t\\t.*\\n)+)`, 'g'))
  return {
    serial: one(text, /Serial Number \(hex\): (\w+)/g),
    subject: one(text, /Subject: CN=([^,\n]+)/g),
    issuer: one(text, /Issuer: CN=([^,\n]+)/g),
    notBefore: Date.parse(one(text, /Not Before: (.+)/g)),
    notAfter: Date.parse(one(text, /Not After: (.+)/g)),
    uris: all(section('Subject Alternative Name'), /URI: (.+)/g),
    extendedKeyUsage: all(section('Key Purpose'), /(.+)/g).map(usageOid),
    crls: all(section('CRL Distribution points'), /URI: (.+)/g),
    ocsp: all(section('Authority Information Access'), /id-ad-ocsp\)\n\s+Access Location URI: (.+)/g),
    key: one(text, /Public Key ID:\n\s+sha1:\w+\n\s+sha256:(\w+)/g),
  }
}

const pythonReader = `
import hashlib, json, sys
from cryptography import x509
from cryptography.hazmat.primitives import serialization as s
c = x509.load_der_x509_certificate(open(sys.argv[1], 'rb').read())
ext = lambda kind: c.extensions.get_extension_for_class(kind).value
cn = lambda name: name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
ms = lambda time: int(time.timestamp() * 1000)
aia = [d for d in ext(x509.AuthorityInformationAccess) if d.access_method == x509.AuthorityInformationAccessOID.OCSP]
print(json.dumps({
  'serial': c.serial_number.to_bytes(16, 'big').hex(), 'subject': cn(c.subject), 'issuer': cn(c.issuer),
  'notBefore': ms(c.not_valid_before_utc), 'notAfter': ms(c.not_valid_after_utc),
  'uris': ext(x509.SubjectAlternativeName).get_values_for_type(x509.UniformResourceIdentifier),
  'extendedKeyUsage': [usage.dotted_string for usage in ext(x509.ExtendedKeyUsage)],
  'crls': [name.value for point in ext(x509.CRLDistributionPoints) for name in point.full_name],
  'ocsp': [d.access_location.value for d in aia],
  'key': hashlib.sha256(c.public_key().public_bytes(s.Encoding.DER, s.PublicFormat.SubjectPublicKeyInfo)).hexdigest(),
}))
`
const byPython = async (name: string): Promise<Fields> =>
  JSON.parse(await program('python3', '-c', pythonReader, `${name}.der`)) as Fields

const pythonCanRead = (() => {
  try {
    const wanted = 'from cryptography import x509; x509.Certificate.not_valid_before_utc'
    execFileSync('python3', ['-c', wanted], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

const readers: Readonly<Record<string, (name: string) => Promise<Fields>>> = {
  '@peculiar/x509': byPeculiar,
  'openssl x509': byOpenssl,
  'GnuTLS certtool': byGnutls,
}

describe.each(['P-256', 'RSA'] as const)('a leaf with a %s key', name => {
  it.each(Object.keys(readers))('says the same to %s', async reader => {
    expect(await readers[reader]!(name)).toEqual(own(leaves[name]))
  })

  it.skipIf(!pythonCanRead)('says the same to Python’s cryptography', async () => {
    expect(await byPython(name)).toEqual(own(leaves[name]))
  })
})

/** Forge's bytes are characters. */
const binary = (der: Uint8Array): string => Buffer.from(der).toString('binary')

describe('node-forge', () => {
  it('reads the same where it can: in a leaf with an RSA key, but for the extensions that it does not know', () => {
    const certificate = forge.pki.certificateFromAsn1(forge.asn1.fromDer(binary(leaves.RSA)))
    // biome-ignore lint/suspicious/noExplicitAny: forge's extensions have no types.
    const extension = (id: string): any => certificate.getExtension(id)
    const spki = forge.asn1.toDer(forge.pki.publicKeyToAsn1(certificate.publicKey as forge.pki.PublicKey)).getBytes()
    const { crls: _crls, ocsp: _ocsp, ...expected } = own(leaves.RSA)
    expect({
      serial: certificate.serialNumber,
      subject: certificate.subject.getField('CN').value,
      issuer: certificate.issuer.getField('CN').value,
      notBefore: certificate.validity.notBefore.getTime(),
      notAfter: certificate.validity.notAfter.getTime(),
      uris: extension('subjectAltName').altNames.map((each: { value: string }) => each.value),
      extendedKeyUsage: extension('extKeyUsage').clientAuth === true ? [oidOf.clientAuth] : [],
      key: sha256(Buffer.from(spki, 'binary')),
    }).toEqual(expected)
  })

  it('does not read a leaf with an EC key at all', () => {
    const asn1 = forge.asn1.fromDer(binary(leaves['P-256']))
    expect(() => forge.pki.certificateFromAsn1(asn1)).toThrow(/OID is not RSA/)
  })
})
