// What every change also writes: audit leaves in their hash chain and feed entries with contiguous numbers. Only called inside
// a transaction of group-commit.ts, so position and head are read under the ledger's write lock.
import { createHash } from 'node:crypto'
import type { LeafDraft } from '../records.ts'
import { bytesOf } from './codes.ts'
import type { Connection } from './connection.ts'
import type { Words } from './words.ts'

export interface Journal {
  leaf(draft: LeafDraft): void
  leaves(drafts: readonly LeafDraft[]): void
  /** @returns the entry's number */
  feed(type: string, at: number, body: Readonly<Record<string, unknown>>): number
  head(): { readonly size: number; readonly head: Uint8Array }
}

/** RFC 6962 §2.1: leaves are hashed under a prefix of their own. */
const leafPrefix = new Uint8Array([0])
export const leafHashOf = (bytes: Uint8Array): Uint8Array =>
  bytesOf(createHash('sha256').update(leafPrefix).update(bytes).digest())
export const chainHead = (previous: Uint8Array, leafHash: Uint8Array): Uint8Array =>
  bytesOf(createHash('sha256').update(previous).update(leafHash).digest())
export const emptyHead = new Uint8Array(32)

export const createJournal = (db: Connection, words: Words): Journal => {
  // The last head is kept between calls; any rollback makes it unknown and it is read again.
  let known: { size: number; head: Uint8Array } | null = null
  db.onForget(() => {
    known = null
  })
  const head = (): { size: number; head: Uint8Array } => {
    if (known === null) {
      const row = db.get<{ idx: number; head: Uint8Array }>(
        'SELECT idx, head FROM audit_leaf ORDER BY idx DESC LIMIT 1',
      )
      known = row === undefined ? { size: 0, head: emptyHead } : { size: row.idx + 1, head: bytesOf(row.head) }
    }
    return known
  }
  const leaf = (draft: LeafDraft): void => {
    const before = head()
    const next = chainHead(before.head, leafHashOf(draft.bytes))
    db.run(
      'INSERT INTO audit_leaf(idx, event, at, subject, bytes, head) VALUES (?, ?, ?, ?, ?, ?)',
      before.size,
      words.id(draft.event),
      draft.at,
      draft.subject === null ? null : words.id(draft.subject),
      draft.bytes,
      next,
    )
    known = { size: before.size + 1, head: next }
  }
  return {
    head,
    leaf,
    leaves: drafts => {
      for (const draft of drafts) leaf(draft)
    },
    feed: (type, at, body) => {
      const { value } = db.get<{ value: number }>(
        `UPDATE counter SET value = value + 1 WHERE name = 'feed_n' RETURNING value`,
      )!
      db.run('INSERT INTO feed(n, type, at, body) VALUES (?, ?, ?, ?)', value, type, at, JSON.stringify(body))
      return value
    },
  }
}
