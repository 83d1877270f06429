// The tokens port. Uses are claimed by issuance (issuance.ts), in the transaction that records the intent.
import { StoreError } from '../errors.ts'
import type { TokensPort } from '../ports.ts'
import * as codes from './codes.ts'
import { isUniqueViolation, type SqlValue } from './connection.ts'
import type { Parts } from './parts.ts'
import * as rows from './rows.ts'
import { storedWord } from './words.ts'

export const createTokens = (parts: Parts): TokensPort => {
  const { db, words, commit, journal, tokens } = parts
  const byId = (id: string): rows.TokenRow | undefined =>
    db.get<rows.TokenRow>('SELECT * FROM token WHERE seq = ?', rows.tokenSeq(db, id))
  return {
    create: (token, leaf) =>
      commit.write(() => {
        try {
          db.run(
            `INSERT INTO token(id, hash, registration_id, audience, uses, uses_taken, bound_key_hash, state, expires_at,
               created_at, created_by, evidence) VALUES (?, ?, ?, ?, ?, 0, ?, 0, ?, ?, ?, ?)`,
            codes.storedId(token.id),
            codes.blobOf(token.hash),
            token.registrationId,
            storedWord(words, token.audience),
            token.uses,
            token.boundKeyHash === null ? null : codes.blobOf(token.boundKeyHash),
            token.expiresAt,
            token.createdAt,
            storedWord(words, token.createdBy),
            token.evidence == null ? null : JSON.stringify(token.evidence),
          )
        } catch (error) {
          if (isUniqueViolation(error)) throw new StoreError('already_exists', `token ${token.id} exists already`)
          throw error
        }
        journal.leaf(leaf)
        return rows.tokenOf(words, byId(token.id)!)
      }),
    get: id => {
      const row = byId(id)
      return row === undefined ? null : rows.tokenOf(words, row)
    },
    byHash: hash => {
      const row = tokens.byHash(hash)
      return row === null ? null : rows.tokenOf(words, row)
    },
    holderOf: tokens.holderOf,
    list: filter => {
      const where = ['true']
      const values: SqlValue[] = []
      const also = (condition: string, value: SqlValue): void => {
        where.push(condition)
        values.push(value)
      }
      if (filter.kind !== undefined)
        also('registration_id IN (SELECT id FROM registration WHERE kind = ?)', codes.subjectKinds.code(filter.kind))
      if (filter.registrationId !== undefined) also('registration_id = ?', filter.registrationId)
      if (filter.before !== undefined) also('seq < ?', rows.tokenSeq(db, filter.before))
      return db
        .all<rows.TokenRow>(
          `SELECT * FROM token WHERE ${where.join(' AND ')} ORDER BY seq DESC LIMIT ?`,
          ...values,
          filter.limit,
        )
        .map(row => rows.tokenOf(words, row))
    },
    unclaimedEvidence: ({ registrationId, now, limit }) =>
      db.get<{ n: number }>(
        `SELECT count(*) AS n FROM (SELECT 1 FROM token INDEXED BY token_unclaimed
           WHERE registration_id = ? AND expires_at > ? AND evidence IS NOT NULL AND uses_taken = 0 LIMIT ?)`,
        registrationId,
        now,
        limit,
      )!.n,
    pruneEvidence: ({ before, limit }) =>
      commit.write(() => {
        // A use that was given back still says which lineage its key began.
        const { changes } = db.run(
          `DELETE FROM token WHERE seq IN (SELECT t.seq FROM token t INDEXED BY token_unclaimed
               WHERE t.evidence IS NOT NULL AND t.uses_taken = 0 AND t.expires_at < ?
                 AND NOT EXISTS (SELECT 1 FROM token_use u WHERE u.token = t.seq) LIMIT ?)`,
          before,
          limit,
        )
        if (changes > 0) tokens.forget()
        return changes
      }),
    revoke: (id, at, leaf) =>
      commit.write(() => {
        if (byId(id) === undefined) throw new StoreError('not_found', `no token has id ${id}`)
        db.run('UPDATE token SET state = 1, revoked_at = ? WHERE seq = ? AND state = 0', at, rows.tokenSeq(db, id))
        journal.leaf(leaf)
        return rows.tokenOf(words, byId(id)!)
      }),
  }
}
