// Why evidence of a workload makes nobody an agent, by name. What is wrong with a token itself is the JWS layer's.
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'

export type EnrolErrorCode =
  /** No attestor is configured for whoever issued it. */
  | 'evidence_issuer_unknown'
  /** It is good, and no rule makes an agent of it. */
  | 'evidence_not_matched'
  /** It can have been used while nobody kept the ledger that is there now. */
  | 'evidence_before_restore'
  /** So much was shown for its registration, and not used, that no more is taken for now. */
  | 'evidence_limit_reached'
  /** Its certificate, or its path to an authority, is not. */
  | 'evidence_certificate_invalid'
  /** Nothing can be said now: the provider's keys, or an authority's revocation list, are not to be had. */
  | 'attestor_unavailable'

export class EnrolError extends AgentCaError<EnrolErrorCode> {
  constructor(code: EnrolErrorCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'EnrolError'
  }
}
