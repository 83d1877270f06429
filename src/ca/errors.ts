// What the authority refuses, by name. The code decides the HTTP status and the CLI's exit code (their tables live with the faces);
// `facts` carry what a program needs, `hint` the command or sentence that cures it.
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'

/** Refusals of one issuance: the caller is authenticated or tried to be, and policy, state or lineage said no. */
export type IssuanceRefusalCode =
  | 'token_unknown'
  | 'token_expired'
  | 'token_revoked'
  | 'token_used_up'
  | 'token_reuse'
  | 'token_wrong_audience'
  | 'registration_not_found'
  | 'registration_held'
  | 'registration_retired'
  | 'registration_ended'
  | 'owner_gone'
  | 'instance_locked'
  | 'instance_revoked'
  | 'instance_limit_reached'
  | 'certificate_unknown'
  | 'certificate_expired'
  | 'certificate_revoked'
  | 'certificate_held'
  | 'key_in_use'
  | 'key_revoked'
  /** Another key than the one that the registration, or its evidence, names. */
  | 'key_not_bound'
  | 'key_reuse_not_allowed'
  | 'lineage_conflict'
  | 'recovery_not_allowed'
  | 'recovery_limit_reached'
  /** A policy statement for enrolment or renewal, or the lack of one. */
  | 'policy_denied'

export type CaErrorCode =
  | IssuanceRefusalCode
  /** A name in the request outside the registration's grant. */
  | 'name_not_granted'
  /** A kind of key that the profile does not take. */
  | 'key_not_accepted'
  | 'profile_unknown'
  /** More certificates for one instance, or one registration, than its pace allows. */
  | 'issuance_rate_limited'
  | 'issuance_in_progress'
  | 'not_released'
  | 'not_found'
  | 'conflict'
  | 'confirmation_needed'
  /** A value an operator gave breaks a rule; the message names it. */
  | 'value_invalid'
  | 'no_active_issuer'
  /** Policies whose own cases do not hold. */
  | 'policy_test_failed'
  | 'signer_unavailable'
  | 'clock_refused'
  /** The ledger came from a backup, and nobody has looked yet at what happened after it. */
  | 'maintenance'
  | 'internal'

export class CaError extends AgentCaError<CaErrorCode> {
  constructor(code: CaErrorCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'CaError'
  }
}

/** A refusal as a value, as the decision inside the ledger's transaction returns it. */
export interface IssuanceRefusal {
  readonly code: IssuanceRefusalCode
  readonly message: string
  readonly hint: string | undefined
  readonly facts: Readonly<Record<string, string | number>>
  /** What only the audit says: the statement of a policy, which is no caller's business. */
  readonly statements?: readonly string[]
}

export const refusalError = (refusal: IssuanceRefusal): CaError =>
  new CaError(refusal.code, refusal.message, {
    ...(refusal.hint === undefined ? {} : { hint: refusal.hint }),
    facts: refusal.facts,
  })
