// The status port: what OCSP asks per serial, and the numbers and bytes of CRLs.
import { StoreError } from '../errors.ts'
import type { StatusPort } from '../ports.ts'
import type { CrlRecord } from '../records.ts'
import * as codes from './codes.ts'
import type { Parts } from './parts.ts'

interface StateRow {
  serial: Uint8Array
  issuer_id: number
  state: number
  not_after: number
  revoked_at: number | null
  reason: number | null
}

interface CrlRow {
  number: string
  this_update: number
  next_update: number
  sha256: Uint8Array
  entries: number
  der: Uint8Array | null
}

export const createStatus = (parts: Parts): StatusPort => {
  const { db, commit, journal } = parts
  return {
    states: (issuerId, serials) =>
      serials.map(serial => {
        const row = db.get<StateRow>(
          'SELECT serial, issuer_id, state, not_after, revoked_at, reason FROM certificate WHERE serial = ?',
          codes.soughtBlob(serial),
        )
        if (row === undefined) return listedOnly(parts, issuerId, serial)
        if (row.issuer_id !== issuerId) return null
        return {
          serial: codes.hexOf(row.serial),
          state: codes.certificateStates.name(row.state),
          notAfter: row.not_after,
          revokedAt: row.revoked_at,
          reason: row.reason === null ? null : codes.reasons.name(row.reason),
        }
      }),
    lastCrlNumber: issuerId =>
      BigInt(
        db.get<{ number: string }>('SELECT CAST(last_crl_number AS TEXT) AS number FROM issuer WHERE id = ?', issuerId)
          ?.number ?? '0',
      ),
    reserveCrlNumber: (issuerId, now) =>
      commit.write(() => {
        const row = db.get<{ number: string }>(
          `UPDATE issuer SET last_crl_number = max(last_crl_number + 1, ?) WHERE id = ?
           RETURNING CAST(last_crl_number AS TEXT) AS number`,
          now,
          issuerId,
        )
        if (row === undefined) throw new StoreError('not_found', `no issuer has id ${issuerId}`)
        return BigInt(row.number)
      }),
    recordCrl: (crl, leaf) => commit.write(() => recordCrl(parts, crl, () => journal.leaf(leaf))),
    latestCrl: issuerId => {
      const row = db.get<CrlRow>(
        `SELECT CAST(number AS TEXT) AS number, this_update, next_update, sha256, entries, der FROM crl
         WHERE issuer_id = ? ORDER BY crl.number DESC LIMIT 1`,
        issuerId,
      )
      if (row === undefined) return null
      return {
        issuerId,
        number: BigInt(row.number),
        thisUpdate: row.this_update,
        nextUpdate: row.next_update,
        sha256: codes.hexOf(row.sha256),
        entries: row.entries,
        der: row.der === null ? null : codes.bytesOf(row.der),
      }
    },
  }
}

/** Revoked, and issued after the backup that this ledger comes from: nothing else of it is known. */
const listedOnly = ({ db }: Parts, issuerId: number, serial: string): ReturnType<StatusPort['states']>[number] => {
  const row = db.get<{ reason: number; revoked_at: number; not_after: number }>(
    'SELECT reason, revoked_at, not_after FROM revocation WHERE issuer_id = ? AND serial = ? AND listed = 1',
    issuerId,
    codes.soughtBlob(serial),
  )
  if (row === undefined) return null
  return {
    serial,
    state: 'revoked',
    notAfter: row.not_after,
    revokedAt: row.revoked_at,
    reason: codes.reasons.name(row.reason),
  }
}

const recordCrl = ({ db }: Parts, crl: CrlRecord, writeLeaf: () => void): void => {
  const later = db.get<{ number: string }>(
    'SELECT CAST(number AS TEXT) AS number FROM crl WHERE issuer_id = ? AND crl.number >= ? ORDER BY crl.number DESC LIMIT 1',
    crl.issuerId,
    crl.number,
  )
  if (later !== undefined)
    throw new StoreError('crl_number_regressed', `expected a number above ${later.number}, got ${crl.number}`)
  // Hash and numbers of earlier CRLs stay; their bytes are of no use any more and may be large.
  db.run('UPDATE crl SET der = NULL WHERE issuer_id = ? AND der IS NOT NULL', crl.issuerId)
  db.run(
    'INSERT INTO crl(issuer_id, number, this_update, next_update, sha256, entries, der) VALUES (?, ?, ?, ?, ?, ?, ?)',
    crl.issuerId,
    crl.number,
    crl.thisUpdate,
    crl.nextUpdate,
    codes.blobOf(crl.sha256),
    crl.entries,
    crl.der,
  )
  db.run('UPDATE issuer SET last_crl_number = max(last_crl_number, ?) WHERE id = ?', crl.number, crl.issuerId)
  writeLeaf()
}
