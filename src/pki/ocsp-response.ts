// OCSP responses (RFC 6960 §4.2): answers to to-be-signed bytes, those to a response, and back. Whether a response may be believed
// is ocsp-check.ts; what is true about a certificate is decided by the authority.
import { encodeSignatureAlgorithm, parseSignatureAlgorithm, type SignatureAlgorithm } from './algorithms.ts'
import { type RevocationReason, revocationReasonOf, revocationReasons } from './crl-reasons.ts'
import {
  bitString,
  contextConstructed,
  contextPrimitive,
  DerReader,
  enumerated,
  explicit,
  generalizedTime,
  implicitConstructed,
  implicitPrimitive,
  octetString,
  oid,
  sequence,
  sequenceOf,
  Tag,
} from './der.ts'
import { PkiError } from './errors.ts'
import { type Extension, encodeExtensions, parseExtensions } from './extensions.ts'
import { parseName } from './names.ts'
import { type CertId, readCertId } from './ocsp-cert-id.ts'
import { nonceExtension, nonceOf } from './ocsp-request.ts'
import { oidName, oidOf } from './oid.ts'

/** Twenty answers, two certificates and RSA signatures stay far below. */
export const maxOcspResponseBytes = 65_536

export type CertStatus =
  | 'good'
  | 'unknown'
  /** Milliseconds since the epoch; cut to the second. */
  | { readonly revokedAt: number; readonly reason?: RevocationReason }

/** byName: DER of the responder's subject. byKey: SHA-1 over the bits of its key. */
export type ResponderId = { readonly byName: Uint8Array } | { readonly byKey: Uint8Array }

export interface OcspAnswer {
  /** As received. */
  readonly certIdDer: Uint8Array
  readonly status: CertStatus
  readonly thisUpdate: number
  readonly nextUpdate?: number
}

export interface ResponseDataFields {
  readonly responderId: ResponderId
  readonly producedAt: number
  readonly responses: readonly OcspAnswer[]
  /** The request's, when nonces are answered at all (RFC 9654 §2.1). */
  readonly nonce?: Uint8Array
}

export type OcspErrorStatus = 'malformedRequest' | 'internalError' | 'tryLater' | 'sigRequired' | 'unauthorized'

// OCSPResponseStatus; 4 is not used by the standard.
const responseStatuses = {
  successful: 0,
  malformedRequest: 1,
  internalError: 2,
  tryLater: 3,
  sigRequired: 5,
  unauthorized: 6,
} as const satisfies Record<OcspErrorStatus | 'successful', number>

const unencodable = (message: string): PkiError => new PkiError('not_encodable', message)

/** The bytes to be signed. @throws PkiError not_encodable */
export const encodeTbsResponseData = (fields: ResponseDataFields): Uint8Array => {
  if (fields.responses.length === 0) throw unencodable('a response needs an answer')
  return sequence(
    encodeResponderId(fields.responderId),
    generalizedTime(fields.producedAt),
    sequenceOf(fields.responses.map(encodeAnswer)),
    ...(fields.nonce === undefined ? [] : [explicit(1, encodeExtensions([nonceExtension(fields.nonce)]))]),
  )
}

const encodeResponderId = (id: ResponderId): Uint8Array => {
  if ('byName' in id) return explicit(1, id.byName)
  if (id.byKey.length !== 20) throw unencodable('a responder key hash is SHA-1: 20 bytes')
  return explicit(2, octetString(id.byKey))
}

const encodeAnswer = ({ certIdDer, status, thisUpdate, nextUpdate }: OcspAnswer): Uint8Array => {
  if (nextUpdate !== undefined && Math.floor(nextUpdate / 1000) <= Math.floor(thisUpdate / 1000))
    throw unencodable('expected nextUpdate after thisUpdate')
  return sequence(
    certIdDer,
    encodeStatus(status),
    generalizedTime(thisUpdate),
    ...(nextUpdate === undefined ? [] : [explicit(0, generalizedTime(nextUpdate))]),
  )
}

const noContent = new Uint8Array(0)

const encodeStatus = (status: CertStatus): Uint8Array => {
  if (status === 'good') return implicitPrimitive(0, noContent)
  if (status === 'unknown') return implicitPrimitive(2, noContent)
  const { revokedAt, reason = 'unspecified' } = status
  const number = revocationReasons[reason]
  if (number === undefined) throw unencodable(`no revocation reason: ${reason}`)
  // As in CRLs (RFC 5280 §5.3.1): an unspecified reason is left out.
  return number === 0
    ? implicitConstructed(1, generalizedTime(revokedAt))
    : implicitConstructed(1, generalizedTime(revokedAt), explicit(0, enumerated(number)))
}

/**
 * A whole successful OCSPResponse. `signature` is the content of the BIT STRING: ECDSA-Sig-Value for ECDSA. `certificates`: DER of
 * what the asker needs to check it, the delegated responder's first; none when the issuer itself signed.
 */
export const assembleBasicOcspResponse = (
  tbs: Uint8Array,
  algorithm: SignatureAlgorithm,
  signature: Uint8Array,
  certificates: readonly Uint8Array[],
): Uint8Array => {
  const basic = sequence(
    tbs,
    encodeSignatureAlgorithm(algorithm),
    bitString(signature),
    ...(certificates.length === 0 ? [] : [explicit(0, sequenceOf(certificates))]),
  )
  return sequence(
    enumerated(responseStatuses.successful),
    explicit(0, sequence(oid(oidOf.ocspBasic), octetString(basic))),
  )
}

/** An answer without a signature (§2.3). */
export const encodeOcspError = (status: OcspErrorStatus): Uint8Array => sequence(enumerated(responseStatuses[status]))

export interface ParsedAnswer {
  readonly certId: CertId
  readonly status: 'good' | 'unknown' | { readonly revokedAt: number; readonly reason: RevocationReason }
  readonly thisUpdate: number
  readonly nextUpdate: number | null
  readonly extensions: readonly Extension[]
}

export interface BasicOcspResponse {
  readonly status: 'successful'
  readonly tbs: Uint8Array
  readonly signatureAlgorithm: SignatureAlgorithm
  readonly signature: Uint8Array
  readonly responderId: ResponderId
  readonly producedAt: number
  readonly responses: readonly ParsedAnswer[]
  readonly nonce: Uint8Array | null
  readonly extensions: readonly Extension[]
  /** DER of each certificate that came along. */
  readonly certificates: readonly Uint8Array[]
}

export type OcspResponse = BasicOcspResponse | { readonly status: OcspErrorStatus }

const malformed = (message: string): PkiError => new PkiError('ocsp_malformed', message)

const statusNames = new Map<number, keyof typeof responseStatuses>(
  (Object.keys(responseStatuses) as (keyof typeof responseStatuses)[]).map(name => [responseStatuses[name], name]),
)

/**
 * Keeps views into `der`: do not change it afterwards. Critical extensions nobody here knows are an error (§4.4).
 * @throws PkiError input_too_large, ocsp_malformed, der_malformed, name_malformed, extension_malformed, extension_duplicate,
 * algorithm_malformed, algorithm_not_allowed
 */
export const parseOcspResponse = (der: Uint8Array): OcspResponse => {
  if (der.length > maxOcspResponseBytes)
    throw new PkiError('input_too_large', `an OCSP response of at most ${maxOcspResponseBytes} bytes`)
  const input = new DerReader(der)
  const outer = input.readSequence()
  input.end()
  const number = outer.readEnumerated()
  const status = statusNames.get(number)
  if (status === undefined) throw malformed(`unknown response status ${number}`)
  const bytes = outer.readOptionalConstructed(contextConstructed(0))
  outer.end()
  if (status !== 'successful') {
    // §4.2.1: an error carries no response bytes.
    if (bytes !== undefined) throw malformed(`response bytes beside ${status}`)
    return { status }
  }
  if (bytes === undefined) throw malformed('successful without response bytes')
  const body = bytes.readSequence()
  bytes.end()
  const type = body.readOid()
  if (type !== oidOf.ocspBasic) throw malformed(`unknown response type ${oidName(type)}`)
  const basic = body.readOctetString()
  body.end()
  return parseBasicResponse(basic)
}

const parseBasicResponse = (der: Uint8Array): BasicOcspResponse => {
  const input = new DerReader(der)
  const body = input.readSequence()
  input.end()
  const data = body.readSequence()
  const signatureAlgorithm = parseSignatureAlgorithm(body.readTlv(Tag.sequence).raw)
  const signature = body.readOctetAlignedBitString()
  const wrapper = body.readOptionalConstructed(contextConstructed(0))
  body.end()
  const certificates = wrapper === undefined ? [] : readCertificates(wrapper)

  if (data.peekTag() === contextConstructed(0)) throw malformed('a version other than the default')
  const responderId = readResponderId(data)
  const producedAt = data.readGeneralizedTime()
  const list = data.readSequence()
  const responses: ParsedAnswer[] = []
  while (!list.atEnd) responses.push(readAnswer(list.readSequence()))
  if (responses.length === 0) throw malformed('a response without an answer')
  const extensions = readResponseExtensions(data.readOptionalConstructed(contextConstructed(1)))
  data.end()
  return {
    status: 'successful',
    tbs: data.raw,
    signatureAlgorithm,
    signature,
    responderId,
    producedAt,
    responses,
    nonce: nonceOf(extensions),
    extensions,
    certificates,
  }
}

const readCertificates = (wrapper: DerReader): Uint8Array[] => {
  const list = wrapper.readSequence()
  wrapper.end()
  const certificates: Uint8Array[] = []
  while (!list.atEnd) certificates.push(list.readTlv(Tag.sequence).raw)
  return certificates
}

const readResponderId = (data: DerReader): ResponderId => {
  const byName = data.readOptionalConstructed(contextConstructed(1))
  if (byName !== undefined) {
    const name = byName.readTlv(Tag.sequence).raw
    byName.end()
    parseName(name)
    return { byName: name }
  }
  const choice = data.readConstructed(contextConstructed(2))
  const byKey = choice.readOctetString()
  choice.end()
  if (byKey.length !== 20) throw malformed(`a responder key hash has 20 bytes, got ${byKey.length}`)
  return { byKey }
}

const readAnswer = (body: DerReader): ParsedAnswer => {
  const certId = readCertId(body)
  const status = readStatus(body)
  const thisUpdate = body.readGeneralizedTime()
  const next = body.readOptionalConstructed(contextConstructed(0))
  const nextUpdate = next === undefined ? null : next.readGeneralizedTime()
  next?.end()
  const extensions = readResponseExtensions(body.readOptionalConstructed(contextConstructed(1)))
  body.end()
  return { certId, status, thisUpdate, nextUpdate, extensions }
}

const readStatus = (body: DerReader): ParsedAnswer['status'] => {
  const choice = body.readTlv()
  if (choice.tag === contextPrimitive(0) || choice.tag === contextPrimitive(2)) {
    if (choice.length !== 0) throw malformed('a status with content')
    return choice.tag === contextPrimitive(0) ? 'good' : 'unknown'
  }
  if (choice.tag !== contextConstructed(1)) throw malformed('unknown certificate status')
  const info = choice.reader()
  const revokedAt = info.readGeneralizedTime()
  const wrapper = info.readOptionalConstructed(contextConstructed(0))
  info.end()
  if (wrapper === undefined) return { revokedAt, reason: 'unspecified' }
  const number = wrapper.readEnumerated()
  wrapper.end()
  const reason = revocationReasonOf(number)
  if (reason === undefined) throw malformed(`unknown revocation reason ${number}`)
  return { revokedAt, reason }
}

const knownResponseExtensions: ReadonlySet<string> = new Set([
  oidOf.ocspNonce,
  oidOf.ocspCrlReference,
  oidOf.ocspArchiveCutoff,
  oidOf.ocspExtendedRevoke,
])

const readResponseExtensions = (wrapper: DerReader | undefined): readonly Extension[] => {
  if (wrapper === undefined) return []
  const extensions = parseExtensions(wrapper)
  wrapper.end()
  for (const { oid: dotted, critical } of extensions)
    if (critical && !knownResponseExtensions.has(dotted))
      throw malformed(`critical extension not known: ${oidName(dotted)}`)
  return extensions
}
