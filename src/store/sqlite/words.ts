// The dictionary of repeated strings (profiles, requesters, event names, audit subjects, frames of leaves): a row stores a small integer instead.
import type { Connection } from './connection.ts'

/** The number of a word, where a column was made for text; rows of before have the text. */
export type StoredWord = Uint8Array | string

export interface Words {
  /** Finds or adds; only inside a transaction. */
  id(text: string): number
  find(text: string): number | null
  text(id: number): string
}

/** Bounds the memory of the cache; a full cache starts anew. */
const maxCached = 50_000

export const storedWord = (words: Pick<Words, 'id'>, text: string): StoredWord => {
  const octets: number[] = []
  for (let rest = words.id(text); rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256)
  return new Uint8Array(octets)
}

export const wordOf = (words: Pick<Words, 'text'>, stored: StoredWord): string =>
  typeof stored === 'string' ? stored : words.text(stored.reduce((value, octet) => value * 256 + octet, 0))

export const createWords = (db: Connection): Words => {
  const ids = new Map<string, number>()
  const texts = new Map<number, string>()
  const forget = (): void => {
    ids.clear()
    texts.clear()
  }
  db.onForget(forget)
  const remember = (id: number, text: string): void => {
    if (ids.size >= maxCached) forget()
    ids.set(text, id)
    texts.set(id, text)
  }
  const find = (text: string): number | null => {
    const cached = ids.get(text)
    if (cached !== undefined) return cached
    const row = db.get<{ id: number }>('SELECT id FROM word WHERE text = ?', text)
    if (row === undefined) return null
    remember(row.id, text)
    return row.id
  }
  return {
    find,
    id: text => {
      const known = find(text)
      if (known !== null) return known
      const { row } = db.run('INSERT INTO word(text) VALUES (?)', text)
      remember(row, text)
      return row
    },
    text: id => {
      const cached = texts.get(id)
      if (cached !== undefined) return cached
      const row = db.get<{ text: string }>('SELECT text FROM word WHERE id = ?', id)
      if (row === undefined) throw new Error(`expected word ${id} in the dictionary`)
      remember(id, row.text)
      return row.text
    },
  }
}
