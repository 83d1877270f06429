// The scopes of a registration within the transaction that changes it: by the version of the policies that is in force there and then.
import { StoreError } from '../errors.ts'
import type { ResolveScopes } from '../policies-port.ts'
import type { Registration } from '../records.ts'
import type { Connection } from './connection.ts'

export interface Scopes {
  provide(version: number, resolve: ResolveScopes): void
  /** Only inside a transaction. @throws StoreError `store_failed` when nobody evaluates the version in force */
  of(registration: Registration, at: number): readonly string[]
}

export const activeVersion = (db: Connection): number | null =>
  db.get<{ id: number }>('SELECT id FROM policy_version WHERE active = 1')?.id ?? null

/** What scopes of this registration follow from: while another version comes into force, that one for those it has reached. */
const versionFor = (db: Connection, { id }: Registration): number | null =>
  db.get<{ id: number }>('SELECT id FROM policy_version WHERE rolled_to >= ?', id)?.id ?? activeVersion(db)

/** What is in force, and the one before it while its transaction may still be undone. */
const maxProvided = 4

export const createScopes = (db: Connection): Scopes => {
  // Owned by this closure.
  const provided = new Map<number, ResolveScopes>()
  return {
    provide: (version, resolve) => {
      provided.delete(version)
      provided.set(version, resolve)
      for (const oldest of provided.keys()) if (provided.size > maxProvided) provided.delete(oldest)
    },
    of: (registration, at) => {
      const { kind, state } = registration
      if (kind === 'operator' || state === 'retired') return []
      const version = versionFor(db, registration)
      if (version === null) return []
      const resolve = provided.get(version)
      if (resolve === undefined) throw new StoreError('store_failed', `policies ${version} are in force and not loaded`)
      return resolve(registration, at)
    },
  }
}
