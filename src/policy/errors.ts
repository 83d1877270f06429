// What policy refuses, by name. Faults of profile files are schema's `configuration_invalid`, with every fault.
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'

export type PolicyErrorCode =
  /** No profile of this name is loaded. */
  | 'profile_unknown'
  /** To-be-signed bytes break a rule: a fault of this program, never of a caller. */
  | 'lint_failed'
  /** Cedar is not installed here. */
  | 'policy_engine_missing'
  /** Statements that Cedar does not take, or that do not fit the actions; every fault in the facts. */
  | 'policy_malformed'
  /** A call whose values have no form in Cedar: a fraction for instance. */
  | 'policy_call_malformed'

export class PolicyError extends AgentCaError<PolicyErrorCode> {
  constructor(code: PolicyErrorCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'PolicyError'
  }
}
