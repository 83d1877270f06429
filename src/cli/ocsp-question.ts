// One OCSP question as a relying party asks it: POST, one certID, and the answer believed only when it verifies.
import type { Certificate } from '../pki/certificate.ts'
import {
  checkOcspResponse,
  encodeCertId,
  encodeOcspRequest,
  parseOcspResponse,
  type VerifiedOcspAnswer,
} from '../pki/ocsp.ts'
import { fetchOk } from './fetch-url.ts'

/** Clocks of two machines may differ by this much. */
const clockSkewMs = 60_000

/** @throws CliError server_unreachable; PkiError for an answer that is not to be believed */
export const askOcsp = async (question: {
  readonly url: string
  readonly certificate: Certificate
  readonly issuer: Certificate
  /** Demanded back; null: a cached answer will do. */
  readonly nonce: Uint8Array | null
  readonly now: number
}): Promise<VerifiedOcspAnswer> => {
  const { url, certificate, issuer, nonce, now } = question
  // SHA-1 names the certificate and protects nothing: every responder knows it (RFC 5019 §2.1.1).
  const certId = encodeCertId({
    hash: 'sha1',
    issuerNameDer: issuer.subjectDer,
    issuerKeyBits: issuer.spki.keyBytes,
    serial: certificate.serial,
  })
  const body = encodeOcspRequest(nonce === null ? { certIds: [certId] } : { certIds: [certId], nonce })
  return checkOcspResponse({
    response: parseOcspResponse(await fetchOk(url, { body, contentType: 'application/ocsp-request' })),
    issuer,
    serial: certificate.serial,
    at: now,
    clockSkewMs,
    maxAgeMs: null,
    nonce: nonce === null ? null : { sent: nonce, absent: 'refuse' },
  })
}
