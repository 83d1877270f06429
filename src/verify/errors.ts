// Why a certification path is refused: each code names the rule that was broken. Which of several failures is told is decided here.
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'

// From the least specific to the most: what comes later is known of a path that got further. Search ends when work runs out, and
// then it is not known whether another path would have held.
const codes = [
  'issuer_unknown',
  'signature_invalid',
  'algorithm_not_accepted',
  'key_not_accepted',
  'certificate_malformed',
  'critical_extension_unknown',
  'not_a_ca',
  'ca_as_leaf',
  'path_too_long',
  'key_usage',
  'extended_key_usage',
  'policy_mapping_invalid',
  'policy_missing',
  'name_not_permitted',
  'certificate_not_yet_valid',
  'certificate_expired',
  'revocation_unknown',
  'certificate_revoked',
  'budget_exceeded',
] as const

export type VerifyErrorCode = (typeof codes)[number]

/**
 * `facts.depth` says which certificate: 0 is the leaf, its issuer 1, and so on; `facts.serial` is that certificate's. Times in facts are
 * RFC 3339.
 */
export class VerifyError extends AgentCaError<VerifyErrorCode> {
  constructor(code: VerifyErrorCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'VerifyError'
  }
}

const rank = new Map<VerifyErrorCode, number>(codes.map((code, position) => [code, position]))

/** The earlier of two that are equally specific. */
export const moreSpecific = (known: VerifyError | null, other: VerifyError): VerifyError =>
  known !== null && rank.get(known.code)! >= rank.get(other.code)! ? known : other
