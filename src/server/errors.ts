// What composition and start-up refuse, each with its cure: an operator meets these before anything runs.
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'

export type ServerErrorCode =
  /** No CA in this home, or one whose making was interrupted. */
  | 'not_initialised'
  | 'address_in_use'
  /** A listener that is not loopback under URLs that are. */
  | 'listener_not_allowed'
  | 'key_file_missing'
  /** procfs and the like. */
  | 'directory_unusable'
  /** Somebody else made the directory of the sockets. */
  | 'run_directory_unsafe'
  /** What is to be moved is in use. */
  | 'server_running'
  | 'signer_directory_taken'

export class ServerError extends AgentCaError<ServerErrorCode> {
  constructor(code: ServerErrorCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'ServerError'
  }
}
