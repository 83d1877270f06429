// The audit port: appending outside other changes, reading, and the signed checkpoints.
import type { AuditPort } from '../ports.ts'
import type { CheckpointRecord, Leaf } from '../records.ts'
import * as codes from './codes.ts'
import type { SqlValue } from './connection.ts'
import { knownHeadOf, type LeafRow, leafBytes, leafHashOf, nextHead } from './log-heads.ts'
import type { Parts } from './parts.ts'

/** Events below this word are the commonest and have no index (schema-001.ts). */
const lastUnindexedEvent = 3

export const createAudit = (parts: Parts): AuditPort => {
  const { db, words, commit, journal, logged } = parts
  const leafOf = (row: LeafRow, knownHead: () => Uint8Array | null): Leaf => {
    const bytes = leafBytes(row, words)
    return {
      index: row.idx,
      event: words.text(row.event),
      at: row.at,
      subject: row.subject === null ? null : words.text(row.subject),
      bytes,
      // Most readers look at the bytes only.
      get leafHash() {
        return leafHashOf(bytes)
      },
      get head() {
        return knownHead() ?? codes.bytesOf(row.head)
      },
    }
  }
  /** Leaves in the order of the log. Heads after the first are computed for whoever asks, each once. */
  const runOf = (found: readonly LeafRow[]): readonly Leaf[] => {
    const [first] = found
    if (first === undefined) return []
    const heads = [knownHeadOf(db, words, first.idx)]
    const headAt = (place: number): Uint8Array | null => {
      while (heads.length <= place) {
        const row = found[heads.length]!
        const before = found[heads.length - 1]!.idx === row.idx - 1 ? heads[heads.length - 1]! : null
        heads.push(nextHead(before, row, run[heads.length]!.bytes))
      }
      return heads[place]!
    }
    const run = found.map((row, place) => leafOf(row, () => headAt(place)))
    return run
  }
  const tail = (
    filter: Parameters<AuditPort['tail']>[0],
    conditions: readonly string[],
    bound: readonly SqlValue[],
  ): readonly Leaf[] => {
    const where = ['true', ...conditions]
    const values = [...bound]
    if (filter.event !== undefined) {
      const event = words.find(filter.event) ?? Number.MAX_SAFE_INTEGER
      where.push(event > lastUnindexedEvent ? `event > ${lastUnindexedEvent} AND event = ?` : 'event = ?')
      values.push(event)
    }
    return db
      .all<LeafRow>(
        `SELECT * FROM audit_leaf WHERE ${where.join(' AND ')} ORDER BY idx DESC LIMIT ?`,
        ...values,
        filter.limit,
      )
      .map(row => leafOf(row, () => knownHeadOf(db, words, row.idx)))
  }
  return {
    append: leaves =>
      commit.write(() => {
        journal.leaves(leaves)
        return journal.head()
      }),
    head: () => journal.head(),
    ofEvents: (from, to, events) => {
      const kept = journal.recent(from, to)
      if (kept !== null) return kept.filter(({ event }) => events.includes(event))
      const ids = events.flatMap(event => words.find(event) ?? [])
      if (ids.length === 0) return []
      // The unary plus keeps SQLite from going through all leaves of an event by its index.
      const sql = `SELECT event, at, subject, bytes FROM audit_leaf
        WHERE idx >= ? AND idx < ? AND +event IN (${ids.map(() => '?').join()}) ORDER BY idx`
      return db.all<Omit<LeafRow, 'idx' | 'head'>>(sql, from, to, ...ids).map(row => ({
        event: words.text(row.event),
        at: row.at,
        subject: row.subject === null ? null : words.text(row.subject),
        bytes: leafBytes(row, words),
      }))
    },
    onAppend: logged.listen,
    read: (from, limit) =>
      runOf(db.all<LeafRow>('SELECT * FROM audit_leaf WHERE idx >= ? ORDER BY idx LIMIT ?', from, limit)),
    tail: filter => {
      if (filter.subject === undefined) return tail(filter, [], [])
      const subject = words.find(filter.subject) ?? -1
      // Two look-ups that each end at the limit: one over both would read and sort everything there is of a subject.
      const own = tail(filter, ['subject = ?'], [subject])
      const also = tail(filter, ['idx IN (SELECT idx FROM audit_leaf_also WHERE subject = ?)'], [subject])
      return [...own, ...also].sort((a, b) => b.index - a.index).slice(0, filter.limit)
    },
    recordCheckpoint: checkpoint =>
      commit.write(() => {
        db.run(
          'INSERT OR REPLACE INTO checkpoint(size, at, head, note) VALUES (?, ?, ?, ?)',
          checkpoint.size,
          checkpoint.at,
          checkpoint.head,
          checkpoint.note,
        )
      }),
    checkpoints: filter =>
      db
        .all<{ size: number; at: number; head: Uint8Array; note: string }>(
          'SELECT * FROM checkpoint WHERE size <= ? ORDER BY size DESC, at DESC LIMIT ?',
          filter.upToSize ?? Number.MAX_SAFE_INTEGER,
          filter.limit,
        )
        .map(
          (row): CheckpointRecord => ({ size: row.size, head: codes.bytesOf(row.head), at: row.at, note: row.note }),
        ),
  }
}
