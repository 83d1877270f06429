// The heads of the audit log's hash chain. They follow from the leaves, so only every 64th is kept whole; of the others so much that a leaf
// that was changed is named by its place. Whoever wants a head computes it from the last one before it that is whole.
import { hash } from 'node:crypto'
import { bytesOf } from './codes.ts'
import type { Connection } from './connection.ts'
import { leafFromStored } from './leaf-codec.ts'
import type { Words } from './words.ts'

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

/** Leaves to read at most for a head: a millisecond. */
const wholeEvery = 64
export const wholeHeadOctets = 32
const partOctets = 4

/** What the row of a leaf keeps of the head after it. */
export const storedHead = (index: number, head: Uint8Array): Uint8Array =>
  (index + 1) % wholeEvery === 0 ? head : head.subarray(0, partOctets)

export interface LeafRow {
  readonly idx: number
  readonly event: number
  readonly at: number
  readonly subject: number | null
  readonly bytes: Uint8Array
  readonly head: Uint8Array
}

export const leafBytes = (row: Omit<LeafRow, 'idx' | 'head'>, words: Pick<Words, 'text'>): Uint8Array =>
  leafFromStored(
    bytesOf(row.bytes),
    { event: words.text(row.event), at: row.at, subject: row.subject === null ? null : words.text(row.subject) },
    words,
  )

/**
 * The head after this row, given the one before it. What is kept of it decides: where that is another one, the leaf is not what was
 * appended, and the heads after it are not known either until one is whole.
 */
export const nextHead = (previous: Uint8Array | null, row: LeafRow, bytes: Uint8Array): Uint8Array | null => {
  if (row.head.length === wholeHeadOctets) return bytesOf(row.head)
  if (previous === null) return null
  const head = headAfter(previous, bytes)
  return Buffer.compare(head.subarray(0, row.head.length), row.head) === 0 ? head : null
}

/** The latest whole head at or before this leaf, and where it stands; the chain's beginning where there is none. */
const wholeHeadBefore = (db: Connection, index: number): { readonly idx: number; readonly head: Uint8Array } => {
  const found = db.get<{ idx: number; head: Uint8Array }>(
    `SELECT idx, head FROM audit_leaf WHERE idx <= ? AND length(head) = ${wholeHeadOctets} ORDER BY idx DESC LIMIT 1`,
    index,
  )
  return found === undefined ? { idx: -1, head: emptyHead } : { idx: found.idx, head: bytesOf(found.head) }
}

/** @param index -1: before the first leaf @returns null after a leaf that was changed */
export const knownHeadOf = (db: Connection, words: Pick<Words, 'text'>, index: number): Uint8Array | null => {
  const from = wholeHeadBefore(db, index)
  let head: Uint8Array | null = from.head
  const sql = 'SELECT * FROM audit_leaf WHERE idx > ? AND idx <= ? ORDER BY idx'
  for (const row of db.all<LeafRow>(sql, from.idx, index)) head = nextHead(head, row, leafBytes(row, words))
  return head
}

/** As the leaves that are there have it: the log goes on from what is, and verification finds what was changed. */
export const headOfLeaf = (db: Connection, words: Pick<Words, 'text'>, index: number): Uint8Array => {
  const from = wholeHeadBefore(db, index)
  const sql = 'SELECT * FROM audit_leaf WHERE idx > ? AND idx <= ? ORDER BY idx'
  return db.all<LeafRow>(sql, from.idx, index).reduce((head, row) => headAfter(head, leafBytes(row, words)), from.head)
}
