// The certificates port: one by serial, pages newest first, and counts.
import type { CertificateFilter, CertificatesPort } from '../ports.ts'
import type { CertificateState } from '../records.ts'
import * as codes from './codes.ts'
import type { Connection, SqlValue } from './connection.ts'
import type { Parts } from './parts.ts'
import * as rows from './rows.ts'

export const createCertificates = ({ db, words, tbs }: Parts): CertificatesPort => ({
  get: serial => {
    const row = db.get<rows.CertificateRow>(
      `${rows.selectCertificateWithBytes} WHERE c.serial = +?`,
      codes.soughtBlob(serial),
    )
    return row === undefined ? null : rows.certificateWithBytesOf(words, tbs, row)
  },
  list: filter => {
    const { where, values } = conditionsOf(db, filter)
    const found = db.all<rows.CertificateRow>(
      `${rows.selectCertificate} WHERE ${where} ORDER BY c.row DESC LIMIT ?`,
      ...values,
      filter.limit + 1,
    )
    const page = found.slice(0, filter.limit)
    const last = page.at(-1)
    return {
      rows: page.map(row => rows.certificateOf(words, row)),
      next: found.length > filter.limit && last !== undefined ? codes.hexOf(last.serial) : null,
    }
  },
  // Issued is the rest: only the other states have an index of their own, and they are few.
  counts: now => {
    const counts: Record<CertificateState, number> = { intent: 0, issued: 0, held: 0, revoked: 0, orphaned: 0, void: 0 }
    const total = db.get<{ n: number }>('SELECT count(*) AS n FROM certificate WHERE not_after > +?', now)!.n
    let others = 0
    for (const state of codes.certificateStateNames) {
      if (state === 'issued') continue
      counts[state] = db.get<{ n: number }>(
        'SELECT count(*) AS n FROM certificate WHERE state = +? AND state <> 1 AND not_after > +?',
        codes.certificateStates.code(state),
        now,
      )!.n
      others += counts[state]
    }
    counts.issued = total - others
    return counts
  },
})

const conditionsOf = (
  db: Connection,
  filter: CertificateFilter,
): { readonly where: string; readonly values: SqlValue[] } => {
  const where: string[] = ['true']
  const values: SqlValue[] = []
  const also = (condition: string, ...more: SqlValue[]): void => {
    where.push(condition)
    values.push(...more)
  }
  const { serials, registration, keyHash, states } = filter
  if (serials !== undefined) also(`c.serial IN (${serials.map(() => '?').join(',')})`, ...serials.map(codes.soughtBlob))
  if (registration !== undefined)
    also(
      'c.registration_id = (SELECT id FROM registration WHERE kind = +? AND name = +?)',
      codes.subjectKinds.code(registration.kind),
      registration.name,
    )
  // Services and operators are few: by way of their registrations, not through every certificate of an agent.
  if (filter.kind === 'agent') also('c.kind = 0')
  else if (filter.kind !== undefined)
    also('c.registration_id IN (SELECT id FROM registration WHERE kind = ?)', codes.subjectKinds.code(filter.kind))
  if (filter.issuerId !== undefined) also('c.issuer_id = ?', filter.issuerId)
  if (filter.instanceId !== undefined) also('c.instance = +?', rows.instanceSeq(db, filter.instanceId))
  if (keyHash !== undefined) {
    const blob = codes.soughtBlob(keyHash)
    also('substr(c.key_hash, 1, 8) = ? AND c.key_hash = +?', blob.slice(0, 8), blob)
  }
  if (states !== undefined) {
    also(`c.state IN (${states.map(codes.certificateStates.code).join(',')})`)
    if (!states.includes('issued')) also('c.state <> 1')
  }
  if (filter.liveAt !== undefined) also('c.not_after > ?', filter.liveAt)
  if (filter.expiredAt !== undefined) also('c.not_after <= ?', filter.expiredAt)
  if (filter.before !== undefined)
    also('c.row < (SELECT row FROM certificate WHERE serial = +?)', codes.soughtBlob(filter.before))
  return { where: where.join(' AND '), values }
}
