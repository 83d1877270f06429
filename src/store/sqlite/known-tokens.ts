// Join tokens as they were last read: an enrolment looks at its token three times, and most of a token never changes. What does, its state
// and its uses, is read from the ledger each time.
import * as codes from './codes.ts'
import type { Connection } from './connection.ts'
import type { TokenRow } from './rows.ts'

export interface ShownToken {
  readonly token: TokenRow | null
  /** What the key has claimed of it; null where nothing, or where no key was asked about. */
  readonly use: { readonly certificate: number; readonly counted: number } | null
}

export interface KnownTokens {
  byHash(hash: string): TokenRow | null
  /** From memory, where it was read before: neither ever changes while the token is there. */
  holderOf(hash: string): { readonly id: string; readonly registrationId: number } | null
  byHashAndKey(hash: string, keyHash: Uint8Array): ShownToken
  /** To be called where tokens were removed. */
  forget(): void
}

/** About a megabyte; a full memory starts anew. */
const maxKnown = 2_000

type Changing = Pick<TokenRow, 'state' | 'uses_taken'>

interface Used {
  /** The certificate that the key claimed a use for. */
  readonly used_for: number | null
  readonly used_counted: number | null
}

const use = `(SELECT certificate FROM token_use u WHERE u.token = t.seq AND u.key_hash = +?) AS used_for,
   (SELECT counted FROM token_use u WHERE u.token = t.seq AND u.key_hash = +?) AS used_counted`
const selectWhole = 'SELECT t.* FROM token t WHERE t.hash = +?'
const selectWholeAndUse = `SELECT t.*, ${use} FROM token t WHERE t.hash = +?`
const selectChanging = 'SELECT t.state, t.uses_taken FROM token t WHERE t.seq = +? AND t.hash = +?'
const selectChangingAndUse = `SELECT t.state, t.uses_taken, ${use} FROM token t WHERE t.seq = +? AND t.hash = +?`

const unknown: ShownToken = { token: null, use: null }

const useOf = ({ used_for: certificate, used_counted: counted }: Used): ShownToken['use'] =>
  certificate === null || counted === null ? null : { certificate, counted }

export const createKnownTokens = (db: Connection): KnownTokens => {
  const known = new Map<string, TokenRow>()
  const forget = (): void => known.clear()
  // A token that was made in a transaction that was rolled back.
  db.onForget(forget)
  const remember = (hash: string, row: TokenRow): void => {
    if (known.size >= maxKnown) known.clear()
    known.set(hash, row)
  }
  const withPresent = (row: TokenRow, { state, uses_taken }: Changing): TokenRow => ({ ...row, state, uses_taken })
  const byHash: KnownTokens['byHash'] = hash => {
    const before = known.get(hash)
    const sought = codes.soughtBlob(hash)
    if (before !== undefined) {
      const now = db.get<Changing>(selectChanging, before.seq, sought)
      return now === undefined ? null : withPresent(before, now)
    }
    const row = db.get<TokenRow>(selectWhole, sought)
    if (row === undefined) return null
    remember(hash, row)
    return row
  }
  return {
    byHash,
    forget,
    holderOf: hash => {
      const found = known.get(hash) ?? byHash(hash)
      return found === null ? null : { id: codes.idOf(found.id), registrationId: found.registration_id }
    },
    byHashAndKey: (hash, keyHash) => {
      const before = known.get(hash)
      const sought = codes.soughtBlob(hash)
      if (before !== undefined) {
        const now = db.get<Changing & Used>(selectChangingAndUse, keyHash, keyHash, before.seq, sought)
        return now === undefined ? unknown : { token: withPresent(before, now), use: useOf(now) }
      }
      const row = db.get<TokenRow & Used>(selectWholeAndUse, keyHash, keyHash, sought)
      if (row === undefined) return unknown
      remember(hash, row)
      return { token: row, use: useOf(row) }
    },
  }
}
