// What lists have in common: filters that were left out, and the one registration that a filter names.
import { CaError } from '../../ca/errors.ts'
import type { Registration, SubjectKind } from '../../store/records.ts'
import type { AdminLedger } from './deps.ts'

/** The members that have a value: ports tell what is absent from what is undefined. */
export const filled = <T extends object>(filter: T): { [K in keyof T]: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>
  }

export interface SubjectQuery {
  readonly kind?: SubjectKind | undefined
  readonly name?: string | undefined
}

/** @throws CaError `not_found` */
export const namedRegistration = (ledger: AdminLedger, kind: SubjectKind, name: string): Registration => {
  const registration = ledger.registrations.find(kind, name)
  if (registration !== null) return registration
  throw new CaError('not_found', `no ${kind} is called ${name}`, { hint: `agentca ${kind} list` })
}

/** Whom a list is about; a name without a kind is an agent's. @returns null for everybody @throws CaError `not_found` */
export const soughtRegistration = (ledger: AdminLedger, { kind, name }: SubjectQuery): Registration | null =>
  name === undefined ? null : namedRegistration(ledger, kind ?? 'agent', name)

/** Names of registrations for the rows of one answer, each looked up once. @throws CaError `internal` */
export const registrationsById = (ledger: AdminLedger): ((id: number) => Registration) => {
  const known = new Map<number, Registration>()
  return id => {
    const found = known.get(id) ?? ledger.registrations.byId(id)
    // Rows point to their registration, which is never deleted.
    if (found === null) throw new CaError('internal', `registration ${id} is gone`)
    known.set(id, found)
    return found
  }
}
