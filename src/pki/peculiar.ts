// The one door to @peculiar/x509 and @peculiar/webcrypto: CA certificates and their requests, built by a library others use, for
// keys that live elsewhere. The adapter below looks like WebCrypto and asks a function for each signature. Leaves do not come this
// way: leaf-template.ts is many times as fast, and this library is the judge of its bytes in the tests.
import './reflect-metadata.ts'
import { Crypto as PeculiarCrypto } from '@peculiar/webcrypto'
import * as x509 from '@peculiar/x509'
import { equalBytes, toHex } from '../base/bytes.ts'
import { keyAlgorithms, signatureAlgorithmFor } from './algorithms.ts'
import { type Certificate, parseCertificate } from './certificate.ts'
import { type CertificationRequest, checkCertificationRequestSignature, parseCertificationRequest } from './csr.ts'
import { PkiError } from './errors.ts'
import * as ext from './extensions.ts'
import { type GeneralName, uriName } from './general-names.ts'
import { encodeName, type ShortName } from './names.ts'
import { checkSignature, ecdsaSignatureToRaw } from './signature.ts'
import { keyIdentifier, parseSubjectPublicKeyInfo, type SubjectPublicKeyInfo } from './spki.ts'

/** A key pair whose private half lives in an HSM, or in a file that this code never sees. */
export interface ExternalKey {
  readonly publicKeySpki: Uint8Array
  /** Signs by the algorithm that goes with the key (`signatureAlgorithmFor`): hashing is the signer's part. */
  readonly sign: (data: Uint8Array) => Promise<Uint8Array>
  /** What `sign` gives for ECDSA: r||s as PKCS#11 does, or the DER that certificates carry. Other algorithms have one form. */
  readonly signatureForm: 'raw' | 'der'
}

export interface CaCertificateDraft {
  readonly subject: readonly (readonly [ShortName, string])[]
  /** Key of the CA that is certified; for a root the public half of `issuerKey`. */
  readonly spki: SubjectPublicKeyInfo
  readonly issuer: 'self' | Certificate
  readonly issuerKey: ExternalKey
  /** INTEGER content, as encodeSerial makes it. */
  readonly serial: Uint8Array
  /** Milliseconds since the epoch, cut to the second. */
  readonly notBefore: number
  readonly notAfter: number
  /** 0 for an issuing CA, null for a root without limit. */
  readonly pathLength: number | null
  readonly crlDistributionPoints?: readonly string[]
  readonly authorityInfoAccess?: ext.AuthorityInfoAccess
  /** Critical. URI constraints name hosts, so a trust domain as it is (RFC 5280 §4.2.1.10); many relying parties refuse them. */
  readonly permittedNames?: readonly GeneralName[]
  /** URI of the CA's own SPIFFE ID, without a path (X509-SVID §3.2). */
  readonly spiffeId?: string
}

type WebAlgorithm = { readonly name: string; readonly namedCurve?: string; readonly hash?: string }

/** For RSA the hash is the one of signatureAlgorithmFor: SHA-256. */
const webAlgorithms: Readonly<Record<SubjectPublicKeyInfo['algorithm'], WebAlgorithm>> = {
  'P-256': { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
  'P-384': { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' },
  Ed25519: { name: 'Ed25519' },
  RSA: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
}

/** A WebCrypto whose `sign` goes to the external key; the rest is @peculiar/webcrypto. */
const cryptoFor = (key: ExternalKey, spki: SubjectPublicKeyInfo): Crypto => {
  const crypto = new PeculiarCrypto()
  const { fieldBytes, family } = keyAlgorithms[spki.algorithm]
  crypto.subtle.sign = async (_algorithm, _key, data) => {
    const bytes = ArrayBuffer.isView(data)
      ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
      : new Uint8Array(data)
    const signature = await key.sign(bytes)
    const raw = family === 'EC' && key.signatureForm === 'der' ? ecdsaSignatureToRaw(signature, fieldBytes) : signature
    if (family === 'EC' && raw.length !== 2 * fieldBytes)
      throw new PkiError('signature_malformed', `expected r||s of ${2 * fieldBytes} bytes, got ${raw.length}`)
    return new Uint8Array(raw).buffer
  }
  crypto.subtle.exportKey = (async () => new Uint8Array(spki.der).buffer) as typeof crypto.subtle.exportKey
  return crypto as unknown as Crypto
}

/** What the library asks of a CryptoKey is its algorithm; the bytes go round it, through `cryptoFor`. */
const handleOf = (type: 'private' | 'public', algorithm: WebAlgorithm): CryptoKey =>
  ({ type, algorithm, extractable: type === 'public', usages: [type === 'private' ? 'sign' : 'verify'] }) as CryptoKey

const foreignExtension = ({ oid, critical, value }: ext.Extension): x509.Extension =>
  new x509.Extension(oid, critical, new Uint8Array(value))

const caExtensions = (draft: CaCertificateDraft): ext.Extension[] => [
  ext.basicConstraints({ isCa: true, pathLength: draft.pathLength }),
  ext.keyUsage(['keyCertSign', 'cRLSign']),
  ext.subjectKeyIdentifier(keyIdentifier(draft.spki)),
  ...(draft.issuer === 'self' ? [] : [ext.authorityKeyIdentifier(issuerKeyId(draft.issuer))]),
  ...(draft.spiffeId === undefined ? [] : [ext.subjectAltName([uriName(draft.spiffeId)])]),
  ...(draft.permittedNames === undefined
    ? []
    : [ext.nameConstraints({ permitted: draft.permittedNames, excluded: [] })]),
  ...(draft.crlDistributionPoints === undefined ? [] : [ext.crlDistributionPoints(draft.crlDistributionPoints)]),
  ...(draft.authorityInfoAccess === undefined ? [] : [ext.authorityInfoAccess(draft.authorityInfoAccess)]),
]

/** RFC 5280 §4.2.1.1: what the issuer's own certificate says, or the usual hash where it says nothing. */
const issuerKeyId = (issuer: Certificate): Uint8Array => issuer.subjectKeyIdentifier ?? keyIdentifier(issuer.spki)

const nameOf = (der: Uint8Array): x509.Name => new x509.Name(new Uint8Array(der).buffer)

/**
 * A CA certificate, read back and compared with the draft, its signature verified, before anybody gets it.
 * @throws PkiError not_encodable, key_not_allowed, signature_invalid, certificate_malformed; and whatever `sign` throws
 */
export const buildCaCertificate = async (draft: CaCertificateDraft): Promise<Certificate> => {
  const signerSpki = parseSubjectPublicKeyInfo(draft.issuerKey.publicKeySpki)
  const claimedSigner = draft.issuer === 'self' ? draft.spki.der : draft.issuer.spkiDer
  if (!equalBytes(claimedSigner, signerSpki.der))
    throw new PkiError('not_encodable', 'the signing key is not the one the issuer is certified for')
  const subjectDer = encodeName(draft.subject)
  const issuerDer = draft.issuer === 'self' ? subjectDer : draft.issuer.subjectDer
  const algorithm = webAlgorithms[signerSpki.algorithm]
  const built = await x509.X509CertificateGenerator.create(
    {
      serialNumber: toHex(draft.serial),
      subject: nameOf(subjectDer),
      issuer: nameOf(issuerDer),
      notBefore: new Date(Math.floor(draft.notBefore / 1000) * 1000),
      notAfter: new Date(Math.floor(draft.notAfter / 1000) * 1000),
      extensions: caExtensions(draft).map(foreignExtension),
      publicKey: new x509.PublicKey(new Uint8Array(draft.spki.der)),
      signingKey: handleOf('private', algorithm),
      signingAlgorithm: algorithm,
    },
    cryptoFor(draft.issuerKey, signerSpki),
  )
  const certificate = parseCertificate(new Uint8Array(built.rawData))
  if (
    !equalBytes(certificate.subjectDer, subjectDer) ||
    !equalBytes(certificate.issuerDer, issuerDer) ||
    !equalBytes(certificate.spkiDer, draft.spki.der) ||
    certificate.signatureAlgorithm !== signatureAlgorithmFor(signerSpki.algorithm)
  )
    throw new PkiError('certificate_malformed', 'the library built something else than the draft')
  checkSignature(signerSpki, certificate.signatureAlgorithm, certificate.tbs, certificate.signature)
  return certificate
}

export interface CaRequestDraft {
  readonly subject: readonly (readonly [ShortName, string])[]
  readonly key: ExternalKey
}

/** A PKCS#10 request for a CA that another organisation is to certify. @throws as buildCaCertificate, csr_signature_invalid */
export const buildCsr = async ({ subject, key }: CaRequestDraft): Promise<CertificationRequest> => {
  const spki = parseSubjectPublicKeyInfo(key.publicKeySpki)
  const algorithm = webAlgorithms[spki.algorithm]
  const built = await x509.Pkcs10CertificateRequestGenerator.create(
    {
      name: nameOf(encodeName(subject)),
      keys: { privateKey: handleOf('private', algorithm), publicKey: handleOf('public', algorithm) },
      signingAlgorithm: algorithm,
    },
    cryptoFor(key, spki),
  )
  const csr = parseCertificationRequest(new Uint8Array(built.rawData))
  checkCertificationRequestSignature(csr)
  return csr
}
