// Numbered migrations, each in one transaction, counted in `user_version`. A database of a newer agentca is refused: old code
// must never write rows whose rules it does not know.
import type Database from 'better-sqlite3'
import { StoreError } from '../errors.ts'
import { schema001 } from './schema-001.ts'
import { schema002 } from './schema-002.ts'
import { schema003 } from './schema-003.ts'
import { schema004 } from './schema-004.ts'
import { schema005 } from './schema-005.ts'
import { schema006 } from './schema-006.ts'
import { schema007 } from './schema-007.ts'
import { schema008 } from './schema-008.ts'
import { schema009 } from './schema-009.ts'
import { schema010 } from './schema-010.ts'
import { schema011 } from './schema-011.ts'
import { schema012 } from './schema-012.ts'
import { schema013 } from './schema-013.ts'
import { schema014 } from './schema-014.ts'
import { schema015 } from './schema-015.ts'

/** Position i brings a database from version i to i + 1. Entries are never edited once released. */
const migrations: readonly string[] = [
  schema001,
  schema002,
  schema003,
  schema004,
  schema005,
  schema006,
  schema007,
  schema008,
  schema009,
  schema010,
  schema011,
  schema012,
  schema013,
  schema014,
  schema015,
]

export const currentVersion = migrations.length

/** @throws StoreError `database_newer` */
export const migrate = (db: Database.Database): { readonly from: number; readonly to: number } => {
  const from = db.pragma('user_version', { simple: true }) as number
  if (from > currentVersion)
    throw new StoreError('database_newer', `expected a database of version ${currentVersion} or older, got ${from}`, {
      facts: { found: from, known: currentVersion },
      hint: 'start the agentca version that wrote this database, or a newer one',
    })
  for (let version = from; version < currentVersion; version++) {
    db.exec('BEGIN IMMEDIATE')
    try {
      db.exec(migrations[version]!)
      db.pragma(`user_version = ${version + 1}`)
      db.exec('COMMIT')
    } catch (error) {
      if (db.inTransaction) db.exec('ROLLBACK')
      throw error
    }
  }
  return { from, to: currentVersion }
}
