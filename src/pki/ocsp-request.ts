// OCSP requests (RFC 6960 §4.1, RFC 5019, RFC 9654): strict reading, within limits that bound the work one request can cause, and
// writing for our own client. Which certIDs are answered, and how, is decided by the responder.
import { fromBase64, fromBase64url } from '../base/bytes.ts'
import { contextConstructed, DerReader, explicit, octetString, sequence, sequenceOf, Tag } from './der.ts'
import { PkiError } from './errors.ts'
import { type Extension, encodeExtensions, findExtension, parseExtensions } from './extensions.ts'
import { parseGeneralName } from './general-names.ts'
import { type CertId, readCertId } from './ocsp-cert-id.ts'
import { oidName, oidOf } from './oid.ts'

/** Room for twenty certIDs with SHA-1 and a nonce, or for eighteen with SHA-256. */
export const maxOcspRequestBytes = 2_048
export const maxOcspCertIds = 20
/** RFC 9654 §2.1 */
export const maxOcspNonceBytes = 128

export interface OcspRequest {
  readonly certIds: readonly CertId[]
  readonly nonce: Uint8Array | null
  readonly extensions: readonly Extension[]
  /** A signature is read for its form only: this responder asks nobody who they are. */
  readonly signed: boolean
}

const malformed = (message: string): PkiError => new PkiError('ocsp_malformed', message)

/**
 * @throws PkiError input_too_large (bytes or certIDs), ocsp_malformed, der_malformed, extension_malformed, extension_duplicate,
 * algorithm_malformed
 */
export const parseOcspRequest = (der: Uint8Array): OcspRequest => {
  if (der.length > maxOcspRequestBytes)
    throw new PkiError('input_too_large', `an OCSP request of at most ${maxOcspRequestBytes} bytes, got ${der.length}`)
  const input = new DerReader(der)
  const outer = input.readSequence()
  input.end()
  const tbs = outer.readSequence()
  const signature = outer.readOptionalConstructed(contextConstructed(0))
  outer.end()
  if (signature !== undefined) readSignature(signature)

  // v1 is the default: DER leaves it out, and there is no other version.
  if (tbs.peekTag() === contextConstructed(0)) throw malformed('a version other than the default')
  const requestor = tbs.readOptionalConstructed(contextConstructed(1))
  if (requestor !== undefined) {
    parseGeneralName(requestor.readTlv())
    requestor.end()
  }
  const certIds = readRequestList(tbs.readSequence())
  const extensions = readExtensions(tbs.readOptionalConstructed(contextConstructed(2)))
  tbs.end()
  return { certIds, nonce: nonceOf(extensions), extensions, signed: signature !== undefined }
}

const readRequestList = (list: DerReader): CertId[] => {
  const certIds: CertId[] = []
  while (!list.atEnd) {
    if (certIds.length === maxOcspCertIds)
      throw new PkiError('input_too_large', `an OCSP request of at most ${maxOcspCertIds} certIDs`)
    const request = list.readSequence()
    certIds.push(readCertId(request))
    readExtensions(request.readOptionalConstructed(contextConstructed(0)))
    request.end()
  }
  if (certIds.length === 0) throw malformed('a request for no certificate')
  return certIds
}

// A critical extension besides these is an order we cannot follow (RFC 6960 §4.4); others are read over.
const knownRequestExtensions: ReadonlySet<string> = new Set([oidOf.ocspNonce, oidOf.ocspPreferredSignatureAlgorithms])

const readExtensions = (wrapper: DerReader | undefined): readonly Extension[] => {
  if (wrapper === undefined) return []
  const extensions = parseExtensions(wrapper)
  wrapper.end()
  for (const { oid, critical } of extensions)
    if (critical && !knownRequestExtensions.has(oid)) throw malformed(`critical extension not known: ${oidName(oid)}`)
  return extensions
}

/** RFC 9654 §2.1: an OCTET STRING of 1 to 128 octets, in requests and responses. @throws PkiError ocsp_malformed, der_malformed */
export const nonceOf = (extensions: readonly Extension[]): Uint8Array | null => {
  const found = findExtension(extensions, oidOf.ocspNonce)
  if (found === undefined) return null
  const input = new DerReader(found.value)
  const nonce = input.readOctetString()
  input.end()
  checkNonce(nonce, malformed)
  return nonce
}

const checkNonce = (nonce: Uint8Array, fail: (message: string) => PkiError): void => {
  if (nonce.length < 1 || nonce.length > maxOcspNonceBytes)
    throw fail(`expected a nonce of 1 to ${maxOcspNonceBytes} octets, got ${nonce.length}`)
}

/** @throws PkiError not_encodable */
export const nonceExtension = (nonce: Uint8Array): Extension => {
  checkNonce(nonce, message => new PkiError('not_encodable', message))
  return { oid: oidOf.ocspNonce, critical: false, value: octetString(nonce) }
}

/** Signature ::= SEQUENCE { signatureAlgorithm, signature, certs [0] EXPLICIT SEQUENCE OF Certificate OPTIONAL }: form only. */
const readSignature = (wrapper: DerReader): void => {
  const body = wrapper.readSequence()
  wrapper.end()
  body.readTlv(Tag.sequence)
  body.readBitString()
  const certificates = body.readOptionalConstructed(contextConstructed(0))
  body.end()
  if (certificates === undefined) return
  const list = certificates.readSequence()
  certificates.end()
  while (!list.atEnd) list.readTlv(Tag.sequence)
}

export interface OcspRequestFields {
  /** DER of each certID, from `encodeCertId`. */
  readonly certIds: readonly Uint8Array[]
  readonly nonce?: Uint8Array
}

/** An unsigned request (RFC 5019 §2.1). @throws PkiError not_encodable */
export const encodeOcspRequest = ({ certIds, nonce }: OcspRequestFields): Uint8Array => {
  if (certIds.length === 0) throw new PkiError('not_encodable', 'a request needs a certID')
  const list = sequenceOf(certIds.map(certId => sequence(certId)))
  if (nonce === undefined) return sequence(sequence(list))
  return sequence(sequence(list, explicit(2, encodeExtensions([nonceExtension(nonce)]))))
}

/** Every byte of the largest request percent-encoded. */
const maxPathText = Math.ceil(maxOcspRequestBytes / 3) * 4 * 3

/**
 * The request in the last part of the path of a GET, as it stood in the URL or decoded already (RFC 6960 appendix A.1). Clients
 * differ: with or without padding, `/` and `+` escaped or not, some with the URL alphabet.
 * @returns the bytes, unread
 * @throws PkiError input_too_large, ocsp_malformed
 */
export const decodeOcspPath = (text: string): Uint8Array => {
  if (text.length > maxPathText) throw new PkiError('input_too_large', 'an OCSP path of at most 2 KiB of request')
  const encoded = unescapePath(text)
  const digits = encoded.replace(/={1,2}$/, '')
  if (digits !== encoded && encoded.length % 4 !== 0) throw malformed('wrong base64 padding in the path')
  const bytes = /[-_]/.test(digits)
    ? fromBase64url(digits)
    : fromBase64(digits.padEnd(Math.ceil(digits.length / 4) * 4, '='))
  if (bytes === null || bytes.length === 0) throw malformed('expected the base64 of a request in the path')
  return bytes
}

/** @throws PkiError as decodeOcspPath and parseOcspRequest */
export const parseOcspPath = (text: string): OcspRequest => parseOcspRequest(decodeOcspPath(text))

const unescapePath = (text: string): string => {
  if (!text.includes('%')) return text
  try {
    return decodeURIComponent(text)
  } catch (cause) {
    throw new PkiError('ocsp_malformed', 'wrong percent-encoding in the path', { cause })
  }
}
