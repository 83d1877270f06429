// What the JWS layer refuses, by name.
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'

export type JwsErrorCode =
  | 'jws_malformed'
  | 'jws_signature_invalid'
  | 'jws_not_current'
  | 'jws_wrong_audience'
  | 'jws_replayed'
  /** An algorithm, or a kind of key, that this protocol does not take. */
  | 'jws_algorithm_not_accepted'
  | 'jws_key_not_accepted'

export class JwsError extends AgentCaError<JwsErrorCode> {
  constructor(code: JwsErrorCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'JwsError'
  }
}
