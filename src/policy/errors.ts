// What policy refuses, by name. Faults of profile files are schema's `configuration_invalid`, with every fault.
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'

export type PolicyErrorCode =
  /** No profile of this name is loaded. */
  | 'profile_unknown'
  /** To-be-signed bytes break a rule: a fault of this program, never of a caller. */
  | 'lint_failed'

export class PolicyError extends AgentCaError<PolicyErrorCode> {
  constructor(code: PolicyErrorCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'PolicyError'
  }
}
