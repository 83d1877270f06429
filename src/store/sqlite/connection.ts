// One better-sqlite3 connection with its pragmas, its cached statements and the memory that must forget when a transaction is
// rolled back. The only file (with migrations.ts for a type) that knows the driver.
import Database from 'better-sqlite3'
import { messageOf } from '../../base/errors.ts'
import { StoreError } from '../errors.ts'
import { migrate } from './migrations.ts'

export type SqlValue = number | bigint | string | Uint8Array | null

export interface Connection {
  readonly memory: boolean
  readonly inTransaction: boolean
  get<Row>(sql: string, ...values: SqlValue[]): Row | undefined
  all<Row>(sql: string, ...values: SqlValue[]): Row[]
  /** @returns rows changed and the last rowid */
  run(sql: string, ...values: SqlValue[]): { readonly changes: number; readonly row: number }
  exec(sql: string): void
  /** Called for each row of these tables that this connection writes, whoever does it: what memory knows of them may be wrong. */
  onWrite(tables: readonly string[], written: () => void): void
  /** Called after every rollback and reopening: what memory knows of the database may be wrong. */
  onForget(forget: () => void): void
  forget(): void
  /**
   * What was committed by now, and nothing later, however long it is read: a connection of its own, so that writing goes on. Of a
   * database in memory there is only this one: its rows are all read at once.
   */
  beginRead(): ReadTransaction
  /** Closes and opens again: after a failed fsync the page cache cannot be trusted. In-memory databases are left as they are. */
  reopen(): void
  close(): void
}

export interface ReadTransaction extends Disposable {
  get<Row>(sql: string, ...values: SqlValue[]): Row | undefined
  /** Read as they are taken. */
  rows<Row>(sql: string, ...values: SqlValue[]): Iterator<Row>
}

const beginRead = (path: string): ReadTransaction => {
  const db = new Database(path, { readonly: true, timeout: 5000 })
  const reading: IterableIterator<unknown>[] = []
  db.exec('BEGIN')
  return {
    get: <Row>(sql: string, ...values: SqlValue[]) => db.prepare(sql).get(...values) as Row | undefined,
    rows: <Row>(sql: string, ...values: SqlValue[]) => {
      const rows = db.prepare(sql).iterate(...values) as IterableIterator<Row>
      reading.push(rows)
      return rows
    },
    [Symbol.dispose]: () => {
      // A connection that still reads does not close.
      for (const rows of reading) rows.return?.()
      db.close()
    },
  }
}

/** Nobody else should write; who does must not stop the event loop, and with it status and the signer's heartbeat. */
const busyMs = 100

const open = (path: string): Database.Database => {
  const db = new Database(path, { timeout: 5000 })
  try {
    db.pragma('page_size = 8192')
    db.pragma('journal_mode = WAL')
    // The build's default for WAL is NORMAL, which loses the last commits when the machine loses power.
    db.pragma('synchronous = FULL')
    db.pragma('foreign_keys = ON')
    db.pragma(`busy_timeout = ${busyMs}`)
    // Random key hashes touch index pages all over: misses cost more than the rest of a row.
    db.pragma('cache_size = -65536')
    // Pages of the random key index are rewritten by nearly every commit: a longer log copies each of them back less often.
    db.pragma('wal_autocheckpoint = 4000')
    db.pragma('trusted_schema = OFF')
    db.pragma('temp_store = MEMORY')
    checkSettings(db, path === ':memory:')
    migrate(db)
    db.exec('CREATE TEMP TABLE hit (row INTEGER PRIMARY KEY)')
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

/** Reads every setting back: a pragma that does not apply says nothing. @throws StoreError `database_settings` */
const checkSettings = (db: Database.Database, memory: boolean): void => {
  const wanted: readonly (readonly [string, string | number])[] = [
    ['journal_mode', memory ? 'memory' : 'wal'],
    ['synchronous', 2],
    ['foreign_keys', 1],
    ['busy_timeout', busyMs],
  ]
  for (const [name, value] of wanted) {
    const found = db.pragma(name, { simple: true }) as string | number
    if (found !== value)
      throw new StoreError('database_settings', `expected pragma ${name} to be ${value}, got ${found}`, {
        facts: { pragma: name, found },
        hint: 'keep the database on a local file system that supports write-ahead logging',
      })
  }
}

interface Watch {
  /** Of the SQL function that its triggers call. */
  readonly name: string
  readonly tables: readonly string[]
  readonly written: () => void
}

const install = (db: Database.Database, { name, tables, written }: Watch): void => {
  db.function(name, () => {
    written()
    return null
  })
  for (const table of tables)
    for (const operation of ['INSERT', 'UPDATE', 'DELETE'])
      db.exec(
        `CREATE TEMP TRIGGER ${name}_${table}_${operation} AFTER ${operation} ON main.${table} BEGIN SELECT ${name}(); END`,
      )
}

/** @throws StoreError `database_newer`, `database_settings`, `store_failed` */
export const openConnection = (path: string): Connection => {
  const memory = path === ':memory:'
  let db = translate(() => open(path))
  const statements = new Map<string, Database.Statement>()
  const forgetters: (() => void)[] = []
  const watches: Watch[] = []
  const forget = (): void => {
    for (const each of forgetters) each()
  }
  const statement = (sql: string): Database.Statement => {
    let found = statements.get(sql)
    if (found === undefined) {
      found = db.prepare(sql)
      statements.set(sql, found)
    }
    return found
  }
  // Reads of one turn of the event loop share a transaction: to take and release SQLite's lock costs as much as several look-ups. It
  // never hides a commit: all are made on this connection, and whatever writes ends it first.
  let reading = false
  const endReading = (): void => {
    if (!reading) return
    reading = false
    if (db.open && db.inTransaction) statement('COMMIT').run()
  }
  const reader = (sql: string): Database.Statement => {
    if (!reading && !db.inTransaction) {
      statement('BEGIN').run()
      reading = true
      setImmediate(endReading)
    }
    return statement(sql)
  }
  const connection: Connection = {
    memory,
    get inTransaction() {
      return !reading && db.inTransaction
    },
    get: <Row>(sql: string, ...values: SqlValue[]) => reader(sql).get(...values) as Row | undefined,
    all: <Row>(sql: string, ...values: SqlValue[]) => reader(sql).all(...values) as Row[],
    run: (sql, ...values) => {
      endReading()
      const result = statement(sql).run(...values)
      return { changes: result.changes, row: Number(result.lastInsertRowid) }
    },
    exec: sql => {
      endReading()
      db.exec(sql)
    },
    onWrite: (tables, written) => {
      const watch = { name: `written_${watches.length}`, tables, written }
      watches.push(watch)
      install(db, watch)
    },
    onForget: each => {
      forgetters.push(each)
    },
    forget,
    beginRead: () =>
      memory
        ? {
            get: connection.get,
            rows: <Row>(sql: string, ...values: SqlValue[]) => connection.all<Row>(sql, ...values).values(),
            [Symbol.dispose]: () => {},
          }
        : translate(() => beginRead(path)),
    reopen: () => {
      if (memory) return forget()
      endReading()
      statements.clear()
      if (db.open) db.close()
      db = translate(() => open(path))
      for (const watch of watches) install(db, watch)
      forget()
    },
    close: () => {
      endReading()
      statements.clear()
      if (db.open) db.close()
    },
  }
  return connection
}

/** Faults of the database become `store_failed`; deliberate errors, and those of the caller's own functions, pass. */
export const translateError = (error: unknown): unknown => {
  if (!(error instanceof Database.SqliteError)) return error
  const hint = cures.find(([pattern]) => pattern.test(error.code))?.[1]
  const options = hint === undefined ? { cause: error } : { cause: error, hint }
  return new StoreError('store_failed', `the database failed: ${error.code} ${messageOf(error)}`, options)
}

const cures: readonly (readonly [RegExp, string])[] = [
  [/^SQLITE_(CORRUPT|NOTADB)/, 'restore it from a backup: agentca backup restore FILE --replace'],
  [/^SQLITE_(BUSY|LOCKED)/, 'another program has the ledger open for writing: end it'],
  [/^SQLITE_FULL/, 'the disk is full: make room, then ask again'],
]

export const isBusy = (error: unknown): boolean =>
  error instanceof Database.SqliteError && /^SQLITE_(BUSY|LOCKED)/.test(error.code)

/**
 * Whether the connection itself is of no use any more, whatever is asked of it: what was opened while the file system let nobody write,
 * for one, stays without writing for as long as it is open.
 */
export const isConnectionLost = (error: unknown): boolean =>
  error instanceof Database.SqliteError && /^SQLITE_(READONLY|IOERR|FULL|CORRUPT|NOTADB|CANTOPEN)/.test(error.code)

export const isUniqueViolation = (error: unknown): boolean =>
  error instanceof Database.SqliteError &&
  (error.code === 'SQLITE_CONSTRAINT_UNIQUE' || error.code === 'SQLITE_CONSTRAINT_PRIMARYKEY')

const translate = <T>(run: () => T): T => {
  try {
    return run()
  } catch (error) {
    throw translateError(error)
  }
}
