// What every change also writes: audit leaves in their hash chain and feed entries with contiguous numbers. Only called inside
// a transaction of group-commit.ts, so position and head are read under the ledger's write lock.
import type { LeafDraft } from '../records.ts'
import { hexOf } from './codes.ts'
import type { Connection } from './connection.ts'
import { storedLeaf } from './leaf-codec.ts'
import { headAfter, headOfLeaf, storedHead } from './log-heads.ts'
import type { Words } from './words.ts'

export interface Journal {
  leaf(draft: LeafDraft): void
  leaves(drafts: readonly LeafDraft[]): void
  /** Leaves of [from, to) as they were appended; null where one of them is remembered no more. Outside of transactions. */
  recent(from: number, to: number): readonly LeafDraft[] | null
  /** @returns the entry's number */
  feed(type: string, at: number, body: Readonly<Record<string, unknown>>): number
  /**
   * A change of status: the entry lists every serial in temp.hit with its end, so that a verifier's set is the ledger's whatever
   * selector did it. Long lists go over several entries, each complete in itself. @returns the last entry's number
   */
  statusFeed(type: 'revoke' | 'hold' | 'release', at: number, body: Readonly<Record<string, unknown>>): number
  head(): { readonly size: number; readonly head: Uint8Array }
}

export const createJournal = (db: Connection, words: Words): Journal => {
  // The last head is kept between calls; any rollback makes it unknown and it is computed again.
  let known: { size: number; head: Uint8Array } | null = null
  // The last leaves, for who follows the log a little behind. Gone with any rollback, too.
  let recent: LeafDraft[] = []
  db.onForget(() => {
    known = null
    recent = []
  })
  const head = (): { size: number; head: Uint8Array } => {
    if (known === null) {
      const last = db.get<{ idx: number }>('SELECT idx FROM audit_leaf ORDER BY idx DESC LIMIT 1')?.idx ?? -1
      known = { size: last + 1, head: headOfLeaf(db, words, last) }
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
      storedLeaf(draft, words),
      storedHead(before.size, next),
    )
    for (const each of draft.also ?? [])
      db.run('INSERT OR IGNORE INTO audit_leaf_also(subject, idx) VALUES (?, ?)', words.id(each), before.size)
    known = { size: before.size + 1, head: next }
    if (recent.length >= 2 * keptLeaves) recent = recent.slice(keptLeaves)
    recent.push(draft)
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
    recent: (from, to) => {
      const first = head().size - recent.length
      return from < first ? null : recent.slice(from - first, Math.max(0, to - first))
    },
    leaves: drafts => {
      for (const draft of drafts) leaf(draft)
    },
    feed,
    statusFeed,
  }
}

/** What a second appends under load, or less. */
const keptLeaves = 1_000

interface HitRow {
  readonly row: number
  readonly serial: Uint8Array
  readonly not_after: number
}

/** About 50 KB of JSON: what one event of a stream can be. */
const maxChangesPerEntry = 1000
