// A consistent copy of a ledger while its server goes on writing: one read transaction, whatever is committed meanwhile is not in it.
import Database from 'better-sqlite3'
import { messageOf } from '../../base/errors.ts'
import { StoreError } from '../errors.ts'

/** @param to must not be there; mode by the umask, so its directory is the caller's own. @throws StoreError `store_failed` */
export const snapshotLedger = (path: string, to: string): void => {
  let db: Database.Database | null = null
  try {
    db = new Database(path, { readonly: true, fileMustExist: true, timeout: 5000 })
    db.prepare('VACUUM INTO ?').run(to)
  } catch (cause) {
    throw new StoreError('store_failed', `the ledger cannot be copied: ${messageOf(cause)}`, { cause })
  } finally {
    db?.close()
  }
}

/** @returns what SQLite finds wrong with the file; empty: nothing */
export const findCorruption = (path: string): readonly string[] => {
  let db: Database.Database | null = null
  try {
    db = new Database(path, { fileMustExist: true })
    const found = db.pragma('integrity_check(20)') as readonly { readonly integrity_check: string }[]
    return found.map(row => row.integrity_check).filter(text => text !== 'ok')
  } catch (error) {
    return [messageOf(error)]
  } finally {
    db?.close()
  }
}

/** The version of the tables in the file. */
export const schemaVersionOf = (path: string): number => {
  const db = new Database(path, { readonly: true, fileMustExist: true })
  try {
    return db.pragma('user_version', { simple: true }) as number
  } finally {
    db.close()
  }
}
