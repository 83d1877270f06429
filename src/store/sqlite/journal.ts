// What every change also writes: audit leaves in their hash chain and feed entries with contiguous numbers. Only called inside
// a transaction of group-commit.ts, so position and head are read under the ledger's write lock.
import { hash } from 'node:crypto'
import type { LeafDraft } from '../records.ts'
import { bytesOf, hexOf } from './codes.ts'
import type { Connection } from './connection.ts'
import type { Words } from './words.ts'

export interface Journal {
  leaf(draft: LeafDraft): void
  leaves(drafts: readonly LeafDraft[]): void
  /** @returns the entry's number */
  feed(type: string, at: number, body: Readonly<Record<string, unknown>>): number
  /**
   * A change of status: the entry lists every serial in temp.hit with its end, so that a verifier's set is the ledger's whatever
   * selector did it. Long lists go over several entries, each complete in itself. @returns the last entry's number
   */
  statusFeed(type: 'revoke' | 'hold' | 'release', at: number, body: Readonly<Record<string, unknown>>): number
  head(): { readonly size: number; readonly head: Uint8Array }
}

// Owned by this module, used by one call at a time: a prefix or the head before, and what follows it.
const room = Buffer.alloc(8192)
const chained = Buffer.alloc(64)

// As text of one octet a character, a digest costs a third of one in a buffer of its own, and a call over joined bytes a third of a hash
// object.
const leafDigest = (bytes: Uint8Array): string => {
  // RFC 6962 §2.1: leaves are hashed under a prefix of their own.
  const joined = bytes.length < room.length ? room.subarray(0, 1 + bytes.length) : Buffer.alloc(1 + bytes.length)
  joined[0] = 0
  joined.set(bytes, 1)
  return hash('sha256', joined, 'latin1')
}

export const leafHashOf = (bytes: Uint8Array): Uint8Array => bytesOf(Buffer.from(leafDigest(bytes), 'latin1'))

/** The head after this leaf. */
export const headAfter = (previous: Uint8Array, leaf: Uint8Array): Uint8Array => {
  chained.set(previous)
  chained.write(leafDigest(leaf), 32, 'latin1')
  return bytesOf(Buffer.from(hash('sha256', chained, 'latin1'), 'latin1'))
}
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
    const next = headAfter(before.head, draft.bytes)
    db.run(
      'INSERT INTO audit_leaf(idx, event, at, subject, bytes, head) VALUES (?, ?, ?, ?, ?, ?)',
      before.size,
      words.id(draft.event),
      draft.at,
      draft.subject === null ? null : words.id(draft.subject),
      draft.bytes,
      next,
    )
    for (const each of draft.also ?? [])
      db.run('INSERT OR IGNORE INTO audit_leaf_also(subject, idx) VALUES (?, ?)', words.id(each), before.size)
    known = { size: before.size + 1, head: next }
  }
  const feed: Journal['feed'] = (type, at, body) => {
    const { value } = db.get<{ value: number }>(
      `UPDATE counter SET value = value + 1 WHERE name = 'feed_n' RETURNING value`,
    )!
    db.run('INSERT INTO feed(n, type, at, body) VALUES (?, ?, ?, ?)', value, type, at, JSON.stringify(body))
    return value
  }
  const changesAfter = (row: number): readonly HitRow[] =>
    db.all<HitRow>(
      `SELECT h.row, c.serial, c.not_after FROM temp.hit h JOIN certificate c ON c.row = h.row
       WHERE h.row > ? ORDER BY h.row LIMIT ${maxChangesPerEntry}`,
      row,
    )
  const statusFeed: Journal['statusFeed'] = (type, at, body) => {
    let page = changesAfter(-1)
    for (;;) {
      const n = feed(type, at, { ...body, changes: page.map(hit => [hexOf(hit.serial), hit.not_after]) })
      const last = page.at(-1)
      if (last === undefined || page.length < maxChangesPerEntry) return n
      page = changesAfter(last.row)
      if (page.length === 0) return n
    }
  }
  return {
    head,
    leaf,
    leaves: drafts => {
      for (const draft of drafts) leaf(draft)
    },
    feed,
    statusFeed,
  }
}

interface HitRow {
  readonly row: number
  readonly serial: Uint8Array
  readonly not_after: number
}

/** About 50 KB of JSON: what one event of a stream can be. */
const maxChangesPerEntry = 1000
