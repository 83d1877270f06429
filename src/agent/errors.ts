// What the agent's side refuses or fails at, by name. A refusal by the CA keeps the CA's own code, hint and request id, so that a
// program can tell `token_expired` from `instance_locked` without reading text.
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'

export type AgentErrorCode =
  /** Nothing says where the CA is, whom to trust, or what to enrol with. */
  | 'option_missing'
  | 'option_invalid'
  | 'file_unreadable'
  | 'directory_unwritable'
  /** The credential directory holds something, and it is not a credential. */
  | 'directory_malformed'
  /** Another live process renews in this directory. */
  | 'directory_in_use'
  /** Refused, reset, timed out: safe to ask again. */
  | 'ca_unreachable'
  /** The server did not prove to be the CA: nothing was sent to it. */
  | 'ca_not_verified'
  | 'ca_fingerprint_not_found'
  | 'answer_malformed'
  /** The CA answered with a certificate that is not for our key, not from its bundle, or not valid now. */
  | 'answer_not_verified'
  /** A good certificate for somebody else than expected. */
  | 'identity_unexpected'
  | 'identity_expired'
  | 'identity_closed'
  /** The CA took the identity back: everything under it was ended. */
  | 'revoked'
  | 'peer_not_verified'

export interface AgentErrorOptions extends ErrorOptionsOf {
  readonly requestId?: string
  readonly status?: number
  readonly retryAfterSeconds?: number
}

/** `code`: an AgentErrorCode when `origin` is `agent`, else the CA's problem code. */
export class AgentError extends AgentCaError {
  readonly origin: 'agent' | 'ca'
  /** The CA's request id: what its operator needs to find the refusal. */
  readonly requestId: string | null
  /** HTTP status; null where there was no answer. */
  readonly status: number | null
  readonly retryAfterSeconds: number | null

  private constructor(origin: 'agent' | 'ca', code: string, message: string, options: AgentErrorOptions) {
    super(code, message, options)
    this.name = 'AgentError'
    this.origin = origin
    this.requestId = options.requestId ?? null
    this.status = options.status ?? null
    this.retryAfterSeconds = options.retryAfterSeconds ?? null
  }

  static of(code: AgentErrorCode, message: string, options: AgentErrorOptions = {}): AgentError {
    return new AgentError('agent', code, message, options)
  }

  static fromCa(code: string, message: string, options: AgentErrorOptions): AgentError {
    return new AgentError('ca', code, message, options)
  }
}

/** Codes of the CA after which the same request with the same key may well succeed. */
const transientCodes: ReadonlySet<string> = new Set(['issuance_in_progress', 'not_released'])

/** Whether asking again, with the same key and evidence, is safe and makes sense. Requests are idempotent by key. */
export const isTransient = (error: unknown): boolean => {
  if (!(error instanceof AgentError)) return false
  if (error.code === 'ca_unreachable') return true
  const { status } = error
  if (status === null) return false
  return status === 408 || status === 429 || status >= 500 || transientCodes.has(error.code)
}
