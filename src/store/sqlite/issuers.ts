// The issuers port: the CA certificates this ledger issues under or chains to.
import { StoreError } from '../errors.ts'
import type { IssuersPort } from '../ports.ts'
import * as codes from './codes.ts'
import { type Connection, isUniqueViolation } from './connection.ts'
import type { Parts } from './parts.ts'
import * as rows from './rows.ts'

export const createIssuers = (parts: Parts): IssuersPort => {
  const { db, commit, journal } = parts
  return {
    add: (issuer, leaf) =>
      commit.write(() => {
        refuseSecondActive(parts, issuer.kind, issuer.state, null)
        const isFirst = rootsOf(db).length === 0
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
        // Before there is a root nobody follows the feed.
        if (issuer.kind === 'root' && !isFirst) tellRoots(parts, issuer.createdAt)
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
        if (issuer.kind === 'root') tellRoots(parts, at)
        return rows.issuerById(db, id)
      }),
  }
}

const root = codes.issuerKinds.code('root')
const retired = codes.issuerStates.code('retired')

/** The trust bundle: DER of the roots that are not retired, oldest first. */
export const selectRoots = `SELECT certificate FROM issuer WHERE kind = ${root} AND state <> ${retired} ORDER BY id`
export interface RootRow {
  readonly certificate: Uint8Array
}

const rootsOf = (db: Pick<Connection, 'all'>): readonly Uint8Array[] =>
  db.all<RootRow>(selectRoots).map(row => codes.bytesOf(row.certificate))

/** Verifiers follow the bundle by the feed. */
const tellRoots = ({ db, journal }: Parts, at: number): void => {
  journal.feed('bundle', at, { roots: rootsOf(db).map(der => Buffer.from(der).toString('base64')) })
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
