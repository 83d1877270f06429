// The signer's errors, on both sides of its socket. Every one says whether C_Sign may have run for the request, because the
// core turns an intent into `void` only when it certainly did not.
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'

/** 'no': C_Sign was certainly never called for this request. 'maybe': it was, or nobody can tell. */
export type HsmCalled = 'no' | 'maybe'

export type SignerErrorCode =
  | 'signer_unavailable'
  | 'signer_refused'
  | 'signer_deadline'
  | 'signer_busy'
  | 'pin_latched'
  | 'hsm_error'

export interface SignerErrorOptions extends ErrorOptionsOf {
  readonly hsmCalled: HsmCalled
  /** The purpose check that refused, for example `leaf_lifetime`. */
  readonly rule?: string
}

export class SignerError extends AgentCaError<SignerErrorCode> {
  readonly hsmCalled: HsmCalled
  readonly rule: string | undefined

  constructor(code: SignerErrorCode, message: string, options: SignerErrorOptions) {
    const rule = options.rule === undefined ? {} : { rule: options.rule }
    super(code, message, { ...options, facts: { ...options.facts, ...rule, hsmCalled: options.hsmCalled } })
    this.name = 'SignerError'
    this.hsmCalled = options.hsmCalled
    this.rule = options.rule
  }
}

/** Faults of tokens, keys and configuration: met at start-up and in ceremonies, never in the path of a request. */
export type TokenErrorCode =
  | 'pkcs11_uri_invalid'
  | 'module_not_loadable'
  | 'token_not_found'
  | 'token_ambiguous'
  | 'token_exists'
  | 'pin_source_unreadable'
  | 'pin_wrong'
  | 'pin_latched'
  | 'key_exists'
  | 'key_not_found'
  | 'key_ambiguous'
  | 'key_mismatch'
  | 'key_unsafe'
  | 'mechanism_missing'
  | 'signature_invalid'
  | 'signer_config_invalid'
  | 'hsm_error'

export class TokenError extends AgentCaError<TokenErrorCode> {
  constructor(code: TokenErrorCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'TokenError'
  }
}
