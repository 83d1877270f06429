// What the command line itself refuses, and the exit code of everything a command can fail with (interfaces.md, Commands).
import type { AgentErrorCode } from '../agent/errors.ts'
import { agentExitCodes } from '../agent/exit-codes.ts'
import type { CheckpointErrorCode } from '../audit/checkpoint.ts'
import type { BackupErrorCode } from '../backup/errors.ts'
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'
import { exitCodeOf, isProblemCode, type Problem, type ProblemCode } from '../http/problem.ts'
import type { CeremonyErrorCode } from '../server/ceremony/errors.ts'
import type { ServerErrorCode } from '../server/errors.ts'
import type { TokenErrorCode } from '../signer/errors.ts'

export type CliErrorCode =
  | 'usage'
  | 'file_unreadable'
  | 'file_not_written'
  /** The operating system says so of a file or directory that a command needs. */
  | 'file_not_permitted'
  | 'file_unusable'
  | 'disk_full'
  | 'server_not_running'
  | 'server_unreachable'
  /** The admin socket belongs to somebody else. */
  | 'server_not_permitted'
  /** The server did not prove to be the CA: nothing was sent to it. */
  | 'server_not_trusted'
  | 'server_answer_malformed'
  /** The operator's own certificate has ended, and the CA does not let it be renewed any more. */
  | 'credential_expired'
  | 'not_confirmed'
  | 'verification_failed'

export class CliError extends AgentCaError<CliErrorCode> {
  constructor(code: CliErrorCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'CliError'
  }
}

/** A problem document that a server answered with. Its code may be one that this version does not know. */
export class ServerRefusal extends AgentCaError {
  readonly problem: Problem

  constructor(problem: Problem) {
    super(problem.code, problem.detail, problem.hint === undefined ? {} : { hint: problem.hint })
    this.name = 'ServerRefusal'
    this.problem = problem
  }
}

type LocalCode =
  | CliErrorCode
  | CheckpointErrorCode
  | CeremonyErrorCode
  | ServerErrorCode
  | AgentErrorCode
  | BackupErrorCode
  | TokenErrorCode

/** Codes that never cross HTTP; the rest have their exit code in the problem table. */
const ownCodes: Readonly<Record<Exclude<LocalCode, ProblemCode>, number>> = {
  usage: 2,
  file_not_written: 2,
  file_not_permitted: 4,
  file_unusable: 2,
  disk_full: 7,
  server_not_running: 7,
  server_unreachable: 7,
  server_not_permitted: 4,
  server_not_trusted: 9,
  server_answer_malformed: 1,
  credential_expired: 4,
  not_confirmed: 130,
  verification_failed: 9,

  checkpoint_malformed: 9,
  checkpoint_signature_invalid: 9,
  checkpoint_wrong_log: 9,

  ceremony_refused: 2,
  transcript_exists: 6,
  output_exists: 6,
  openssl_missing: 2,
  self_check_failed: 9,
  home_differs: 6,
  home_damaged: 9,

  backup_unreadable: 9,
  backup_key_wrong: 4,
  backup_foreign: 6,
  backup_newer: 2,
  backup_in_the_way: 6,

  not_initialised: 2,
  address_in_use: 2,
  listener_not_allowed: 2,
  key_file_missing: 2,
  run_directory_unsafe: 2,
  directory_unusable: 2,
  server_running: 6,
  signer_directory_taken: 6,

  ...agentExitCodes,

  pkcs11_uri_invalid: 2,
  module_not_loadable: 2,
  token_not_found: 3,
  token_ambiguous: 6,
  token_exists: 6,
  pin_source_unreadable: 2,
  pin_wrong: 4,
  key_exists: 6,
  key_not_found: 3,
  key_ambiguous: 6,
  key_mismatch: 9,
  key_unsafe: 9,
  mechanism_missing: 2,
  signer_config_invalid: 2,
}

const exitByStatus: Readonly<Record<number, number>> = { 401: 4, 403: 4, 404: 3, 409: 6, 408: 7, 429: 7, 503: 7 }

/** @returns 1 for what nobody foresaw */
export const exitCodeOfError = (error: unknown): number => {
  if (!(error instanceof AgentCaError)) return 1
  if (Object.hasOwn(ownCodes, error.code)) return ownCodes[error.code as keyof typeof ownCodes]
  if (error instanceof ServerRefusal && !isProblemCode(error.code)) {
    const { status } = error.problem
    return exitByStatus[status] ?? (status >= 400 && status < 500 ? 2 : 1)
  }
  return exitCodeOf(error.code)
}
