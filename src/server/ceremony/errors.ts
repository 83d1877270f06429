// What ceremonies and `init` refuse, by name. Nothing here reaches HTTP: they are commands of a person at the machine.
import { AgentCaError, type ErrorOptionsOf } from '../../base/errors.ts'

export type CeremonyErrorCode =
  /** The input is well-formed but does not fit what is there: a life beyond the root's, a key on another curve. */
  | 'ceremony_refused'
  | 'transcript_exists'
  | 'output_exists'
  | 'openssl_missing'
  /** What was made, or what an outside CA made, is not what the input asks for. */
  | 'self_check_failed'
  /** The home was initialised, or begun, with other facts that are in its certificates. */
  | 'home_differs'
  | 'home_damaged'

export class CeremonyError extends AgentCaError<CeremonyErrorCode> {
  constructor(code: CeremonyErrorCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'CeremonyError'
  }
}
