// Whether an OCSP response may be believed about one certificate: RFC 6960 §3.2 and §4.2.2.2. The issuer has to be trusted by
// the caller already; whether a delegated responder was itself revoked is left to the caller too, and said in the result.
import { equalBytes } from '../base/bytes.ts'
import { type Certificate, parseCertificate } from './certificate.ts'
import { PkiError } from './errors.ts'
import { equalNames } from './names.ts'
import { issuerHashes } from './ocsp-cert-id.ts'
import type { BasicOcspResponse, OcspResponse, ParsedAnswer, ResponderId } from './ocsp-response.ts'
import { oidOf } from './oid.ts'
import { checkSignature, verifySignature } from './signature.ts'
import { keyIdentifier } from './spki.ts'

export interface OcspCheck {
  readonly response: OcspResponse
  /** Issuer of the certificate that was asked about: trusted, and the only one who can authorise a responder. */
  readonly issuer: Certificate
  /** Content of the INTEGER. */
  readonly serial: Uint8Array
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly clockSkewMs: number
  /** How old thisUpdate may be; null: as old as nextUpdate allows, which then has to be there. */
  readonly maxAgeMs: number | null
  /** What was sent, and what a response without one means: RFC 5019 responders leave it out. null: none was sent. */
  readonly nonce: { readonly sent: Uint8Array; readonly absent: 'accept' | 'refuse' } | null
}

export interface VerifiedOcspAnswer {
  readonly answer: ParsedAnswer
  readonly producedAt: number
  readonly responder:
    | { readonly kind: 'issuer' }
    | {
        readonly kind: 'delegate'
        readonly certificate: Certificate
        /** `no-check`: the issuer said that it need not be asked about (id-pkix-ocsp-nocheck, §4.2.2.2.1). */
        readonly revocation: 'no-check' | 'to-be-checked'
      }
}

/**
 * @throws PkiError ocsp_not_successful (facts.status), ocsp_answer_missing, ocsp_responder_not_authorized (facts.reason),
 * signature_invalid, ocsp_not_current (facts), ocsp_nonce_mismatch, and what parsing an embedded certificate throws
 */
export const checkOcspResponse = (check: OcspCheck): VerifiedOcspAnswer => {
  const { response } = check
  if (response.status !== 'successful')
    throw new PkiError('ocsp_not_successful', `the responder said ${response.status}`, {
      facts: { status: response.status },
    })
  const answer = answerFor(response, check)
  const responder = authorizedResponder(response, check)
  const signer = responder.kind === 'issuer' ? check.issuer : responder.certificate
  checkSignature(signer.spki, response.signatureAlgorithm, response.tbs, response.signature)
  checkNonce(response, check)
  checkCurrent(answer, response.producedAt, check)
  return { answer, producedAt: response.producedAt, responder }
}

/** §3.2 point 1. Were there two answers about one certificate, the one that says revoked counts. */
const answerFor = (response: BasicOcspResponse, { issuer, serial }: OcspCheck): ParsedAnswer => {
  const keys = issuerHashes({ nameDer: issuer.subjectDer, keyBits: issuer.spki.keyBytes }).map(hash => hash.issuerKey)
  const matching = response.responses.filter(
    ({ certId }) => certId.issuerKey !== null && keys.includes(certId.issuerKey) && equalBytes(certId.serial, serial),
  )
  const answer = matching.find(({ status }) => typeof status === 'object') ?? matching[0]
  if (answer === undefined)
    throw new PkiError('ocsp_answer_missing', 'the response says nothing about this certificate')
  return answer
}

type Responder = VerifiedOcspAnswer['responder']

const notAuthorized = (reason: string, message: string): PkiError =>
  new PkiError('ocsp_responder_not_authorized', message, { facts: { reason } })

const isNamed = (certificate: Certificate, id: ResponderId): boolean =>
  'byName' in id ? equalNames(certificate.subjectDer, id.byName) : equalBytes(keyIdentifier(certificate.spki), id.byKey)

/** §3.2 points 3 and 4, §4.2.2.2: the issuer itself, or whom it appointed directly. */
const authorizedResponder = (response: BasicOcspResponse, check: OcspCheck): Responder => {
  const { issuer } = check
  if (
    isNamed(issuer, response.responderId) &&
    verifySignature(issuer.spki, response.signatureAlgorithm, response.tbs, response.signature)
  )
    return { kind: 'issuer' }
  for (const der of response.certificates) {
    const certificate = parseCertificate(der)
    if (!isNamed(certificate, response.responderId)) continue
    checkDelegate(certificate, check)
    const revocation = certificate.hasOcspNoCheck ? 'no-check' : 'to-be-checked'
    return { kind: 'delegate', certificate, revocation }
  }
  // Named as the issuer, and nothing else came along: then the signature is what is wrong, and is reported as that.
  if (isNamed(issuer, response.responderId)) return { kind: 'issuer' }
  throw notAuthorized('unknown_responder', 'no certificate came along for the responder named in the response')
}

const knownCritical: ReadonlySet<string> = new Set([
  oidOf.basicConstraints,
  oidOf.keyUsage,
  oidOf.extendedKeyUsage,
  oidOf.subjectAltName,
  oidOf.ocspNoCheck,
])

const checkDelegate = (certificate: Certificate, { issuer, at }: OcspCheck): void => {
  // §4.2.2.2: issued directly by the issuer of the certificate in question, under the same key.
  if (
    !equalNames(certificate.issuerDer, issuer.subjectDer) ||
    !verifySignature(issuer.spki, certificate.signatureAlgorithm, certificate.tbs, certificate.signature)
  )
    throw notAuthorized('not_issued_by_issuer', 'the responder was not appointed by the issuer')
  // anyExtendedKeyUsage does not appoint: the designation has to be explicit.
  if (certificate.extendedKeyUsage?.includes(oidOf.ocspSigning) !== true)
    throw notAuthorized('no_ocsp_signing', 'the responder certificate lacks the extended key usage OCSPSigning')
  if (certificate.keyUsage?.includes('digitalSignature') === false)
    throw notAuthorized('no_digital_signature', 'the responder certificate lacks the key usage digitalSignature')
  if (at < certificate.notBefore || at >= certificate.notAfter + 1000)
    throw notAuthorized('responder_expired', 'the responder certificate is not valid at this time')
  if (certificate.extensions.some(extension => extension.critical && !knownCritical.has(extension.oid)))
    throw notAuthorized(
      'unknown_critical_extension',
      'the responder certificate has a critical extension not known here',
    )
}

const checkNonce = (response: BasicOcspResponse, { nonce }: OcspCheck): void => {
  if (nonce === null) return
  if (response.nonce === null) {
    if (nonce.absent === 'accept') return
    throw new PkiError('ocsp_nonce_mismatch', 'the response carries no nonce')
  }
  if (!equalBytes(response.nonce, nonce.sent)) throw new PkiError('ocsp_nonce_mismatch', 'the nonce is another one')
}

/** §3.2 points 5 and 6, §4.2.2.1. */
const checkCurrent = (answer: ParsedAnswer, producedAt: number, { at, clockSkewMs, maxAgeMs }: OcspCheck): void => {
  const { thisUpdate, nextUpdate } = answer
  const fail = (message: string): PkiError =>
    new PkiError('ocsp_not_current', message, { facts: { thisUpdate, nextUpdate, producedAt, at } })
  if (thisUpdate > at + clockSkewMs || producedAt > at + clockSkewMs) throw fail('the response is from the future')
  if (nextUpdate !== null && nextUpdate + clockSkewMs < at) throw fail('the response is past its nextUpdate')
  if (nextUpdate !== null && nextUpdate < thisUpdate) throw fail('nextUpdate before thisUpdate')
  if (maxAgeMs === null && nextUpdate === null) throw fail('the response does not say until when it holds')
  if (maxAgeMs !== null && thisUpdate + maxAgeMs + clockSkewMs < at) throw fail('the response is too old')
}
