// What a store refuses, by name. Faults of the database itself (full disk, corruption) are `store_failed` with their cause.
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'

export type StoreErrorCode =
  | 'already_exists'
  | 'not_found'
  | 'conflict'
  | 'owner_not_found'
  | 'owner_gone'
  | 'radius_changed'
  | 'crl_number_regressed'
  | 'ledger_in_use'
  | 'database_newer'
  | 'database_settings'
  | 'store_failed'

export class StoreError extends AgentCaError<StoreErrorCode> {
  constructor(code: StoreErrorCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'StoreError'
  }
}
