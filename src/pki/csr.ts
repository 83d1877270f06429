// PKCS#10 certification requests (RFC 2986): strict parsing of what strangers send, and encoding for our own agents.
// What a request asks for is only reported: names come from the registration, and granting is policy.
import {
  parseSignatureAlgorithm,
  type SignatureAlgorithm,
  signatureAlgorithmFor,
  signatureAlgorithms,
} from './algorithms.ts'
import { bitString, DerReader, implicitConstructed, integer, oid, sequence, set } from './der.ts'
import { PkiError } from './errors.ts'
import * as ext from './extensions.ts'
import type { GeneralName } from './general-names.ts'
import { encodeName, type Name, parseName } from './names.ts'
import { oidName, oidOf } from './oid.ts'
import { verifySignatureOnce } from './signature.ts'
import { parseSubjectPublicKeyInfo, type SubjectPublicKeyInfo } from './spki.ts'

/** An RSA 8192 key with a generous SAN needs 3 KiB. */
export const maxCsrBytes = 8192

export interface CertificationRequest {
  readonly der: Uint8Array
  /** CertificationRequestInfo: the bytes that are signed. */
  readonly info: Uint8Array
  readonly subject: Name
  readonly spki: SubjectPublicKeyInfo
  /** Empty when not asked for. */
  readonly subjectAltNames: readonly GeneralName[]
  readonly requestedExtensions: readonly ext.Extension[]
  readonly signatureAlgorithm: SignatureAlgorithm
  readonly signature: Uint8Array
}

const howToMakeOne = 'openssl req -new makes one, openssl req -in FILE -noout -text shows what can be read of it'

const renamed = (code: 'csr_malformed', parse: () => CertificationRequest): CertificationRequest => {
  try {
    return parse()
  } catch (error) {
    // Faults of syntax get the request's name; refusals keep theirs.
    if (!(error instanceof PkiError)) throw error
    if (error.code === 'extension_duplicate')
      throw new PkiError('csr_duplicate_extension', `the request asks for an ${error.message}`, {
        facts: error.facts,
        hint: 'ask for each extension once',
      })
    if (!/_malformed$/.test(error.code) || error.code === code) throw error
    throw new PkiError(code, `not a certification request: ${error.message}`, { cause: error, hint: howToMakeOne })
  }
}

export const csrTooLarge = (bytes: number): PkiError =>
  new PkiError('csr_too_large', `a certification request has at most ${maxCsrBytes} bytes, got ${bytes}`, {
    hint: 'a public key and a few names are all it needs',
  })

/** For text that is not even the encoding of bytes. */
export const csrUnreadable = (): PkiError =>
  new PkiError('csr_malformed', 'expected a certification request as PEM, or as base64 of its DER', {
    hint: howToMakeOne,
  })

/**
 * The signature is not checked: `checkCertificationRequestSignature` does, after authentication of the sender.
 * @throws PkiError csr_too_large, csr_malformed, csr_attribute_not_allowed, csr_duplicate_extension, csr_requests_ca,
 * csr_requests_name_constraints, key_not_allowed, algorithm_not_allowed
 */
export const parseCertificationRequest = (der: Uint8Array): CertificationRequest => {
  if (der.length > maxCsrBytes) throw csrTooLarge(der.length)
  return renamed('csr_malformed', () => readRequest(der))
}

const readRequest = (der: Uint8Array): CertificationRequest => {
  const input = new DerReader(der)
  const body = input.readSequence()
  input.end()
  const info = body.readSequence()
  const algorithmDer = body.readTlv(0x30).raw
  const signature = body.readOctetAlignedBitString()
  body.end()

  const version = info.readSmallInteger()
  if (version !== 0) throw new PkiError('csr_malformed', `certification request version ${version + 1}`)
  const subject = parseName(info.readTlv(0x30).raw)
  const spki = parseSubjectPublicKeyInfo(info.readTlv(0x30).raw)
  // RFC 2986 §4.1 demands the attributes, empty or not; some libraries leave empty ones out.
  const attributes = info.peekTag() === 0xa0 ? info.readSet(0xa0) : undefined
  info.end()
  const requestedExtensions = attributes === undefined ? [] : readAttributes(attributes)
  checkRequestedExtensions(requestedExtensions)
  const san = ext.findExtension(requestedExtensions, oidOf.subjectAltName)
  return {
    der,
    info: info.raw,
    subject,
    spki,
    subjectAltNames: san === undefined ? [] : ext.parseSubjectAltName(san.value),
    requestedExtensions,
    signatureAlgorithm: parseSignatureAlgorithm(algorithmDer),
    signature,
  }
}

const readAttributes = (attributes: DerReader): ext.Extension[] => {
  let extensions: ext.Extension[] | undefined
  while (!attributes.atEnd) {
    const attribute = attributes.readSequence()
    const type = attribute.readOid()
    if (type !== oidOf.extensionRequest)
      throw new PkiError('csr_attribute_not_allowed', `attribute not allowed in a request: ${oidName(type)}`, {
        facts: { attribute: oidName(type) },
        hint: 'leave it out: only extensionRequest is understood',
      })
    if (extensions !== undefined) throw new PkiError('csr_malformed', 'extensionRequest twice')
    const values = attribute.readSet()
    attribute.end()
    extensions = ext.parseExtensions(values)
    values.end()
  }
  return extensions ?? []
}

const checkRequestedExtensions = (extensions: readonly ext.Extension[]): void => {
  for (const { oid: dotted, value } of extensions) {
    if (dotted === oidOf.nameConstraints)
      throw new PkiError('csr_requests_name_constraints', 'the request asks for nameConstraints, which only CAs have', {
        hint: 'leave nameConstraints out',
      })
    if (dotted === oidOf.basicConstraints && ext.parseBasicConstraints(value).isCa)
      throw new PkiError('csr_requests_ca', 'the request asks to be a CA', { hint: 'leave basicConstraints out' })
  }
}

/** Proof of possession. @throws PkiError csr_signature_invalid */
export const checkCertificationRequestSignature = (csr: CertificationRequest): void => {
  if (!verifySignatureOnce(csr.spki, csr.signatureAlgorithm, csr.info, csr.signature))
    throw new PkiError('csr_signature_invalid', 'the request is not signed by the key it names', {
      hint: 'sign it with the private key that belongs to its public key',
    })
}

export interface RequestDraft {
  readonly spkiDer: Uint8Array
  /** Absent: an empty subject, since the registration names the subject anyway. */
  readonly subjectCn?: string
  readonly subjectAltNames?: readonly GeneralName[]
}

/** The bytes to sign. @throws PkiError not_encodable */
export const encodeCertificationRequestInfo = ({
  spkiDer,
  subjectCn,
  subjectAltNames = [],
}: RequestDraft): Uint8Array => {
  const extensions = subjectAltNames.length === 0 ? [] : [ext.subjectAltName(subjectAltNames)]
  const attributes =
    extensions.length === 0 ? [] : [sequence(oid(oidOf.extensionRequest), set(ext.encodeExtensions(extensions)))]
  return sequence(
    integer(0),
    encodeName(subjectCn === undefined ? [] : [['CN', subjectCn]]),
    spkiDer,
    implicitConstructed(0, ...attributes),
  )
}

export interface RequestToSign extends RequestDraft {
  /** Signs by the algorithm that goes with the key; ECDSA signatures as DER. */
  readonly sign: (info: Uint8Array) => Uint8Array | Promise<Uint8Array>
}

/** A whole request in DER. The key never comes here. @throws PkiError not_encodable, key_not_allowed, key_malformed */
export const createCsr = async ({ sign, ...draft }: RequestToSign): Promise<Uint8Array> => {
  const algorithm = signatureAlgorithmFor(parseSubjectPublicKeyInfo(draft.spkiDer).algorithm)
  const info = encodeCertificationRequestInfo(draft)
  return sequence(info, signatureAlgorithms[algorithm].der, bitString(await sign(info)))
}
