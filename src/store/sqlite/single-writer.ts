// Exactly one process writes a ledger (architecture.md, Processes): a second one would share sequence numbers and the audit chain. Node
// has no flock; SQLite has: an exclusive transaction on a file of its own, which the kernel ends with the process, kill -9 included.
import Database from 'better-sqlite3'
import { StoreError } from '../errors.ts'

export interface WriterLock {
  release(): void
}

// Owned by this module: a handle that nobody refers to is closed by the garbage collector, and its lock would go with it.
const held = new Set<Database.Database>()

/** @throws StoreError `ledger_in_use` */
export const lockLedger = (path: string): WriterLock => {
  if (path === ':memory:') return { release: () => {} }
  const db = new Database(`${path}.lock`, { timeout: 0 })
  try {
    db.exec('PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; BEGIN EXCLUSIVE')
  } catch (cause) {
    db.close()
    throw new StoreError('ledger_in_use', 'another process has this ledger open', {
      cause,
      hint: 'agentca status shows the server that is running; stop it first',
    })
  }
  held.add(db)
  return {
    release: () => {
      held.delete(db)
      db.close()
    },
  }
}
