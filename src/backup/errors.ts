// What making, reading and restoring a backup refuses, each with its cure.
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'

export type BackupErrorCode =
  /** No backup of agentca, or one that is cut off or was changed. */
  | 'backup_unreadable'
  /** Encrypted to somebody else. */
  | 'backup_key_wrong'
  /** Of another CA than the one of this home. */
  | 'backup_foreign'
  /** Made by a newer agentca. */
  | 'backup_newer'
  /** A file or a ledger is there that would be written over, or a directory is not there. */
  | 'backup_in_the_way'

export class BackupError extends AgentCaError<BackupErrorCode> {
  constructor(code: BackupErrorCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'BackupError'
  }
}
