// A refusal that says which certificate of the path it is about, and what a certificate that cannot be read is refused as.
import type { ErrorFacts } from '../base/errors.ts'
import type { Certificate } from '../pki/certificate.ts'
import { PkiError } from '../pki/errors.ts'
import { VerifyError, type VerifyErrorCode } from './errors.ts'

/** 0 is the leaf, its issuer 1; the anchor comes last and has no serial. */
export interface Position {
  readonly depth: number
  readonly certificate: Certificate | null
}

export const refusal = (
  { depth, certificate }: Position,
  code: VerifyErrorCode,
  message: string,
  details: { readonly facts?: ErrorFacts; readonly cause?: unknown } = {},
): VerifyError =>
  new VerifyError(code, message, {
    facts: { depth, ...(certificate === null ? {} : { serial: shortSerial(certificate) }), ...details.facts },
    cause: details.cause,
  })

/** RFC 5280 §4.1.2.2 allows 20 octets; more would only fill logs. */
const shortSerial = (certificate: Certificate): string => certificate.serialHex.slice(0, 40)

/** Runs rules that read a certificate's fields. @throws VerifyError certificate_malformed for what cannot be read, and as `rules` does */
export const reading = <T>(position: Position, rules: () => T): T => {
  try {
    return rules()
  } catch (error) {
    if (!(error instanceof PkiError)) throw error
    throw refusal(position, 'certificate_malformed', `the certificate cannot be read: ${error.message}`, {
      facts: { reason: error.code },
      cause: error,
    })
  }
}
