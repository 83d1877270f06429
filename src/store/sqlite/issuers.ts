// The issuers port: the CA certificates this ledger issues under or chains to.
import { StoreError } from '../errors.ts'
import type { IssuersPort } from '../ports.ts'
import * as codes from './codes.ts'
import { isUniqueViolation } from './connection.ts'
import type { Parts } from './parts.ts'
import * as rows from './rows.ts'

export const createIssuers = (parts: Parts): IssuersPort => {
  const { db, commit, journal } = parts
  return {
    add: (issuer, leaf) =>
      commit.write(() => {
        refuseSecondActive(parts, issuer.kind, issuer.state, null)
        let id: number
        try {
          id = db.run(
            `INSERT INTO issuer(name, kind, state, certificate, parent_id, key_label, spki_hash, not_before, not_after, created_at,
               changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
            issuer.name,
            codes.issuerKinds.code(issuer.kind),
            codes.issuerStates.code(issuer.state),
            issuer.certificate,
            issuer.parentId,
            issuer.keyLabel,
            codes.blobOf(issuer.spkiHash),
            issuer.notBefore,
            issuer.notAfter,
            issuer.createdAt,
            issuer.createdAt,
          ).row
        } catch (error) {
          if (isUniqueViolation(error)) throw new StoreError('already_exists', `issuer ${issuer.name} exists already`)
          throw error
        }
        journal.leaf(leaf)
        return rows.issuerById(db, id)
      }),
    list: () => db.all<rows.IssuerRow>('SELECT * FROM issuer ORDER BY id').map(rows.issuerOf),
    setState: (id, state, at, leaf, retire) =>
      commit.write(() => {
        const set = (target: number, code: number): void => {
          db.run('UPDATE issuer SET state = ?, changed_at = ? WHERE id = ?', code, at, target)
        }
        const issuer = rows.issuerById(db, id)
        if (retire !== null) {
          rows.issuerById(db, retire)
          set(retire, codes.issuerStates.code('retired'))
        }
        refuseSecondActive(parts, issuer.kind, state, id)
        set(id, codes.issuerStates.code(state))
        journal.leaf(leaf)
        return rows.issuerById(db, id)
      }),
  }
}

const refuseSecondActive = ({ db }: Parts, kind: string, state: string, except: number | null): void => {
  if (kind !== 'issuing' || state !== 'active') return
  const active = db.get<{ id: number; name: string }>('SELECT id, name FROM issuer WHERE kind = 1 AND state = 1')
  if (active !== undefined && active.id !== except)
    throw new StoreError('conflict', `issuing CA ${active.name} is active`, {
      facts: { active: active.name },
      hint: `retire ${active.name} in the same step`,
    })
}
