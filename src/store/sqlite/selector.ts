// What a revocation selector stands for: conditions over certificates, instances, tokens and external account bindings.
import { StoreError } from '../errors.ts'
import type { RevocationSelector } from '../ports.ts'
import type { SubjectKind } from '../records.ts'
import { ofInstance, ofRow, type Selection } from './cascade.ts'
import * as codes from './codes.ts'
import type { Connection, SqlValue } from './connection.ts'
import { pastKeyOctets } from './pruning.ts'
import * as rows from './rows.ts'

export interface Target {
  readonly certificates: Selection
  /** The lineages that end, with everything live in them; null: none (one serial). */
  readonly instances: (Selection & { readonly instance: string; readonly instanceValues: readonly SqlValue[] }) | null
  readonly tokens: { readonly where: string; readonly values: readonly SqlValue[] } | null
  /** External account bindings that no account was made with: evidence like a join token. A condition without values. */
  readonly bindings: string | null
  /** Named even when nothing of them is live. */
  readonly registrations: readonly { readonly kind: SubjectKind; readonly name: string }[] | null
}

const none: Selection = { from: 'certificate c', where: 'false', values: [] }

const lineages = (instance: string, ...values: SqlValue[]): Target['instances'] => ({
  from: 'instance i JOIN certificate c ON c.instance = i.seq',
  where: `i.state <> 2 AND ${instance}`,
  values,
  instance,
  instanceValues: values,
})

/** @throws StoreError `not_found` */
export const resolveSelector = (db: Connection, selector: RevocationSelector, now: number): Target => {
  const { value } = selector
  const missing = (): never => {
    throw new StoreError('not_found', `no ${selector.by} is known as ${value}`, { facts: { by: selector.by, value } })
  }
  switch (selector.by) {
    case 'serial': {
      const row = rows.certificateBySerial(db, value) ?? missing()
      return { certificates: ofRow(row.row), instances: null, tokens: null, bindings: null, registrations: null }
    }
    case 'instance': {
      const row = rows.instanceRow(db, value) ?? missing()
      const { seq } = row
      const instances = lineages('i.seq = ?', seq)
      return { certificates: ofInstance(seq), instances, tokens: null, bindings: null, registrations: null }
    }
    case 'agent':
    case 'service':
    case 'operator': {
      const found = rows.registrationByName(db, selector.by, value) ?? missing()
      return ofRegistrations([{ id: found.id, kind: found.kind, name: found.name }])
    }
    case 'owner': {
      const owner = rows.ownerRow(db, value) ?? missing()
      const owned = db.all<{ id: number; kind: number; name: string }>(
        'SELECT id, kind, name FROM registration WHERE owner_id = ? AND state <> 2 ORDER BY kind, name',
        owner.id,
      )
      return ofRegistrations(owned.map(row => ({ ...row, kind: codes.subjectKinds.name(row.kind) })))
    }
    case 'token': {
      const token = rows.tokenSeq(db, value)
      return token < 0 ? missing() : ofToken(token)
    }
    // A key need not have been seen: it may be known as stolen before it is ever used.
    case 'key':
      return ofKey(codes.blobOf(value))
    case 'issuer': {
      const issuer = db.get<{ id: number }>('SELECT id FROM issuer WHERE name = ?', value) ?? missing()
      return ofIssuer(issuer.id, now)
    }
  }
}

const ofRegistrations = (
  owned: readonly { readonly id: number; readonly kind: SubjectKind; readonly name: string }[],
): Target => {
  const ids = owned.map(each => each.id).join(',')
  return {
    certificates: none,
    instances: lineages(`i.registration_id IN (${ids})`),
    tokens: { where: `registration_id IN (${ids})`, values: [] },
    bindings: `registration_id IN (${ids})`,
    registrations: owned.map(({ kind, name }) => ({ kind, name })),
  }
}

const ofToken = (token: number): Target => ({
  certificates: none,
  instances: lineages(
    'i.seq IN (SELECT c.instance FROM token_use u JOIN certificate c ON c.row = u.certificate WHERE u.token = ?)',
    token,
  ),
  tokens: { where: 'seq = ?', values: [token] },
  bindings: null,
  registrations: null,
})

/** Whoever has a certificate of this key, and the ACME account that has or had it. */
const ofKey = (keyHash: Uint8Array): Target => ({
  certificates: none,
  instances: lineages(
    `i.seq IN (SELECT instance FROM certificate WHERE substr(key_hash, 1, 8) = ? AND key_hash = ?
       UNION ALL SELECT account FROM acme_key WHERE key_hash = ? UNION ALL SELECT instance FROM past_key WHERE key_hash = ?)`,
    keyHash.slice(0, 8),
    keyHash,
    keyHash,
    keyHash.slice(0, pastKeyOctets),
  ),
  tokens: { where: 'bound_key_hash = ?', values: [keyHash] },
  bindings: null,
  registrations: null,
})

const ofIssuer = (issuer: number, now: number): Target => ({
  certificates: none,
  instances: lineages('i.seq IN (SELECT instance FROM certificate WHERE issuer_id = ? AND not_after > ?)', issuer, now),
  tokens: null,
  bindings: null,
  registrations: null,
})
