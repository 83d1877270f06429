// What ACME refuses, by the names of RFC 8555 §6.7, RFC 9773 §5 and the profiles extension. Which HTTP status each has is the face's matter.
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'
import type { AcmeProblem } from '../store/acme-port.ts'

export type AcmeErrorCode =
  | 'accountDoesNotExist'
  | 'alreadyReplaced'
  | 'alreadyRevoked'
  | 'badCSR'
  | 'badNonce'
  | 'badPublicKey'
  | 'badRevocationReason'
  | 'badSignatureAlgorithm'
  | 'caa'
  | 'compound'
  | 'connection'
  | 'dns'
  | 'externalAccountRequired'
  | 'incorrectResponse'
  | 'invalidContact'
  | 'invalidProfile'
  | 'malformed'
  | 'orderNotReady'
  | 'rateLimited'
  | 'rejectedIdentifier'
  | 'serverInternal'
  | 'tls'
  | 'unauthorized'
  | 'unsupportedContact'
  | 'unsupportedIdentifier'
  | 'userActionRequired'
  /** Not in the RFC's list, which has no type for it: nothing is at this URL, or it is somebody else's. */
  | 'notFound'
  /** RFC 8555 §7.3.5: the new key is another account's. */
  | 'keyInUse'
  /** RFC 8555 §7.3.6: an account that ended. */
  | 'accountEnded'

export interface AcmeErrorOptions extends ErrorOptionsOf {
  /** One for each identifier that is at fault. */
  readonly subproblems?: readonly AcmeProblem[]
  /** RFC 8555 §6.2: what would be accepted. */
  readonly algorithms?: readonly string[]
  /** URL for the Location header. */
  readonly location?: string
}

export class AcmeError extends AgentCaError<AcmeErrorCode> {
  readonly subproblems: readonly AcmeProblem[]
  readonly algorithms: readonly string[] | undefined
  readonly location: string | undefined

  constructor(code: AcmeErrorCode, message: string, options: AcmeErrorOptions = {}) {
    super(code, message, options)
    this.name = 'AcmeError'
    this.subproblems = options.subproblems ?? []
    this.algorithms = options.algorithms
    this.location = options.location
  }
}

export const malformed = (message: string, options: AcmeErrorOptions = {}): AcmeError =>
  new AcmeError('malformed', message, options)
