// Reads of one turn of the event loop share a transaction: it must hide no commit and outlive no turn.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Connection, openConnection } from '../../src/store/sqlite/connection.ts'

let directory: string
let db: Connection
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-connection-'))
  db = openConnection(join(directory, 'agentca.db'))
})
afterEach(() => {
  db.close()
  rmSync(directory, { recursive: true, force: true })
})

const words = (): readonly string[] =>
  db.all<{ text: string }>('SELECT text FROM word WHERE id > 100 ORDER BY id').map(({ text }) => text)
const insert = (id: number): void => {
  db.run('BEGIN IMMEDIATE')
  db.run('INSERT INTO word(id, text) VALUES (?, ?)', id, `word ${id}`)
  db.run('COMMIT')
}

test('a commit is seen by the next read of the same turn, and so is a rollback', () => {
  expect(words()).toEqual([])
  insert(101)
  expect(words()).toEqual(['word 101'])
  insert(102)
  expect(words()).toEqual(['word 101', 'word 102'])
  db.run('BEGIN IMMEDIATE')
  db.run('DELETE FROM word WHERE id > 100')
  expect(words()).toEqual([])
  db.run('ROLLBACK')
  expect(words()).toEqual(['word 101', 'word 102'])
})

test('a read alone is no transaction of the writer, and none is left open by the next turn', async () => {
  insert(101)
  words()
  expect(db.inTransaction).toBe(false)
  const other = new Database(join(directory, 'agentca.db'))
  const truncated = () => other.pragma('wal_checkpoint(TRUNCATE)') as readonly { readonly busy: number }[]
  other.pragma('busy_timeout = 0')
  // The reader's lock keeps the log from being emptied under it.
  expect(truncated()[0]?.busy).toBe(1)
  await turn()
  expect(truncated()[0]?.busy).toBe(0)
  other.close()
})

test('closing and opening again in the turn of a read is possible', async () => {
  insert(101)
  words()
  db.reopen()
  expect(words()).toEqual(['word 101'])
  db.close()
  await turn()
})
