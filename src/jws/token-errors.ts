// Why a provider's token, or its set of keys, is not believed, by name.
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'

export type TokenErrorCode =
  | 'jwt_malformed'
  | 'jwt_algorithm_not_allowed'
  | 'jwt_key_unknown'
  | 'jwt_signature_invalid'
  | 'jwt_wrong_issuer'
  | 'jwt_wrong_audience'
  | 'jwt_expired'
  | 'jwt_not_current'
  | 'jwt_life_too_long'
  /** Of the provider, not of the caller. */
  | 'jwks_malformed'

export class TokenError extends AgentCaError<TokenErrorCode> {
  constructor(code: TokenErrorCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'TokenError'
  }
}
