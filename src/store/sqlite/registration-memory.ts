// Registrations as they were last read: decisions about certificates look at one twice each, and it hardly ever changes. Whatever writes
// a registration or an owner empties the memory, by triggers, so that no part of the store has to think of it.
import type { Owner, Registration } from '../records.ts'
import type { Connection } from './connection.ts'
import * as rows from './rows.ts'

export interface Registered {
  readonly registration: Registration
  readonly owner: Owner | null
}

export interface RegistrationMemory {
  byId(id: number): Registered | null
}

/** Some megabytes; a full memory starts anew. */
const maxKept = 5_000

export const registeredOf = (row: rows.RegistrationRow | undefined): Registered | null =>
  row === undefined ? null : { registration: rows.registrationOf(row), owner: rows.ownerOfRegistration(row) }

export const createRegistrationMemory = (db: Connection): RegistrationMemory => {
  const kept = new Map<number, Registered>()
  const forget = (): void => kept.clear()
  db.onForget(forget)
  db.onWrite(['registration', 'owner'], forget)
  return {
    byId: id => {
      const known = kept.get(id)
      if (known !== undefined) return known
      const read = registeredOf(rows.registrationRowById(db, id))
      if (read === null) return null
      if (kept.size >= maxKept) forget()
      kept.set(id, read)
      return read
    },
  }
}
