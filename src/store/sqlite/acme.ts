// The ports for ACME over SQLite: bindings and accounts here, orders in acme-orders.ts.
import type {
  AcmeAccount,
  AcmeAccountChange,
  AcmeAccountsPort,
  AcmeBinding,
  AcmeBindingsPort,
  AcmePorts,
} from '../acme-port.ts'
import { StoreError } from '../errors.ts'
import type { IssuanceFacts } from '../ports.ts'
import { createAcmeOrders } from './acme-orders.ts'
import { beginWaiting, pruneWaiting, waitingAccounts } from './acme-waiting.ts'
import * as codes from './codes.ts'
import { isUniqueViolation, type SqlValue } from './connection.ts'
import { readFacts } from './facts.ts'
import type { Parts } from './parts.ts'
import * as rows from './rows.ts'

interface BindingRow {
  seq: number
  kid: string
  registration_id: number
  sealed_key: Uint8Array
  names: string
  state: number
  expires_at: number
  created_at: number
  created_by: string
  account_id: codes.StoredId | null
}

const selectBinding =
  'SELECT b.*, (SELECT id FROM instance i WHERE i.seq = b.account) AS account_id FROM acme_binding b'

const bindingOf = (row: BindingRow): AcmeBinding => ({
  kid: row.kid,
  registrationId: row.registration_id,
  sealedKey: codes.bytesOf(Buffer.from(row.sealed_key)),
  names: JSON.parse(row.names),
  state: row.state === 0 ? 'active' : 'revoked',
  expiresAt: row.expires_at,
  createdAt: row.created_at,
  createdBy: row.created_by,
  account: row.account_id === null ? null : codes.idOf(row.account_id),
})

const createBindings = ({ db, commit, journal }: Parts): AcmeBindingsPort => {
  const get = (kid: string): AcmeBinding | null => {
    const row = db.get<BindingRow>(`${selectBinding} WHERE b.kid = ?`, kid)
    return row === undefined ? null : bindingOf(row)
  }
  const mustGet = (kid: string): AcmeBinding => {
    const found = get(kid)
    if (found === null) throw new StoreError('not_found', `no external account binding has kid ${kid}`)
    return found
  }
  return {
    create: (binding, leaf) =>
      commit.write(() => {
        db.run(
          `INSERT INTO acme_binding(kid, registration_id, sealed_key, names, state, expires_at, created_at, created_by)
             VALUES (?, ?, ?, ?, 0, ?, ?, ?)`,
          binding.kid,
          binding.registrationId,
          binding.sealedKey,
          JSON.stringify(binding.names),
          binding.expiresAt,
          binding.createdAt,
          binding.createdBy,
        )
        journal.leaf(leaf)
        return mustGet(binding.kid)
      }),
    get,
    list: ({ registrationId, before, limit }) => {
      const where = ['true']
      const values: SqlValue[] = []
      if (registrationId !== undefined) {
        where.push('b.registration_id = ?')
        values.push(registrationId)
      }
      if (before !== undefined) {
        where.push('b.seq < (SELECT seq FROM acme_binding WHERE kid = ?)')
        values.push(before)
      }
      const sql = `${selectBinding} WHERE ${where.join(' AND ')} ORDER BY b.seq DESC LIMIT ?`
      return db.all<BindingRow>(sql, ...values, limit).map(bindingOf)
    },
    revoke: (kid, at, leaf) =>
      commit.write(() => {
        mustGet(kid)
        db.run('UPDATE acme_binding SET state = 1, revoked_at = ? WHERE kid = ? AND state = 0', at, kid)
        journal.leaf(leaf)
        return mustGet(kid)
      }),
  }
}

interface AccountRow {
  instance: number
  id: string
  registration_id: number
  kid: string | null
  thumbprint: string
  jwk: string
  contacts: string
  names: string
  created_at: number
  deactivated_at: number | null
}

const selectAccount = 'SELECT a.*, i.id, i.registration_id FROM acme_account a JOIN instance i ON i.seq = a.instance'

const accountOf = (row: AccountRow): AcmeAccount => ({
  id: codes.idOf(row.id),
  registrationId: row.registration_id,
  kid: row.kid,
  thumbprint: row.thumbprint,
  jwk: row.jwk,
  contacts: JSON.parse(row.contacts),
  names: JSON.parse(row.names),
  createdAt: row.created_at,
  deactivatedAt: row.deactivated_at,
})

const rememberKey = ({ db }: Parts, keyHash: string, account: number): void => {
  try {
    db.run('INSERT INTO acme_key(key_hash, account) VALUES (?, ?)', codes.blobOf(keyHash), account)
  } catch (error) {
    if (isUniqueViolation(error)) throw new StoreError('conflict', 'this key is, or was, an account’s already')
    throw error
  }
}

const insertAccount = (parts: Parts, account: Omit<AcmeAccount, 'deactivatedAt'>, keyHash: string): void => {
  const { db } = parts
  // It takes no place among the live instances before it has a certificate: live_until is 0.
  const { row: instance } = db.run(
    'INSERT INTO instance(id, registration_id, state, live_until, created_at, changed_at) VALUES (?, ?, 0, 0, ?, ?)',
    codes.storedId(account.id),
    account.registrationId,
    account.createdAt,
    account.createdAt,
  )
  rememberKey(parts, keyHash, instance)
  db.run(
    `INSERT INTO acme_account(instance, kid, thumbprint, jwk, contacts, names, created_at, waiting_of)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    instance,
    account.kid,
    account.thumbprint,
    account.jwk,
    JSON.stringify(account.contacts),
    JSON.stringify(account.names),
    account.createdAt,
    account.kid === null ? account.registrationId : null,
  )
  if (account.kid === null) {
    beginWaiting(db, account.registrationId)
    return
  }
  const { changes } = db.run(
    'UPDATE acme_binding SET account = ? WHERE kid = ? AND account IS NULL AND state = 0',
    instance,
    account.kid,
  )
  if (changes === 0) throw new StoreError('conflict', 'this external account binding was used before')
}

/** What there is to know about a key that is to be an account's, of this registration. */
const keyFacts = (parts: Parts, registrationId: number, keyHash: string, now: number): IssuanceFacts => {
  const registration = rows.registrationById(parts.db, registrationId)
  if (registration == null) throw new StoreError('not_found', `no registration ${registrationId}`)
  const { kind, name } = registration
  return readFacts(parts, { evidence: { kind: 'registration', subject: kind, name }, keyHash, now }).facts
}

const applyAccountChange = (parts: Parts, row: AccountRow, change: AcmeAccountChange, at: number): void => {
  const { db } = parts
  if ('contacts' in change)
    db.run('UPDATE acme_account SET contacts = ? WHERE instance = +?', JSON.stringify(change.contacts), row.instance)
  else if ('deactivatedAt' in change) {
    db.run(
      'UPDATE acme_account SET deactivated_at = ? WHERE instance = +? AND deactivated_at IS NULL',
      change.deactivatedAt,
      row.instance,
    )
    db.run('UPDATE instance SET closed_at = ?, changed_at = ? WHERE seq = +?', at, at, row.instance)
  } else {
    change.check(keyFacts(parts, row.registration_id, change.keyHash, at))
    rememberKey(parts, change.keyHash, row.instance)
    db.run(
      'UPDATE acme_account SET thumbprint = ?, jwk = ? WHERE instance = +?',
      change.thumbprint,
      change.jwk,
      row.instance,
    )
  }
}

const createAccounts = (parts: Parts, bindings: AcmeBindingsPort): AcmeAccountsPort => {
  const { db, commit, journal } = parts
  const rowById = (id: string): AccountRow | undefined =>
    db.get<AccountRow>(`${selectAccount} WHERE i.seq = ?`, rows.instanceSeq(db, id))
  return {
    get: id => {
      const row = rowById(id)
      return row === undefined ? null : accountOf(row)
    },
    byThumbprint: thumbprint => {
      const row = db.get<AccountRow>(`${selectAccount} WHERE a.thumbprint = ?`, thumbprint)
      return row === undefined ? null : accountOf(row)
    },
    waits: id =>
      db.get('SELECT 1 FROM acme_account WHERE instance = ? AND waiting_of IS NOT NULL', rows.instanceSeq(db, id)) !==
      undefined,
    create: ({ account, keyHash, decide }) =>
      commit.write(() => {
        const binding = account.kid === null ? null : bindings.get(account.kid)
        const facts = keyFacts(parts, account.registrationId, keyHash, account.createdAt)
        const admission = decide(facts, binding, () => waitingAccounts(db, account.registrationId))
        if (admission.act === 'create') {
          insertAccount(parts, account, keyHash)
          journal.leaf(admission.leaf)
        } else if (admission.leaf !== null) journal.leaf(admission.leaf)
        return admission
      }),
    change: (id, change, at, leaf) =>
      commit.write(() => {
        const row = rowById(id)
        if (row === undefined) throw new StoreError('not_found', `no account has id ${id}`)
        applyAccountChange(parts, row, change, at)
        journal.leaf(leaf)
        return accountOf(rowById(id)!)
      }),
    pruneWaiting: pruneWaiting(parts),
  }
}

export const createAcme = (parts: Parts): AcmePorts => {
  const bindings = createBindings(parts)
  return { bindings, accounts: createAccounts(parts, bindings), orders: createAcmeOrders(parts) }
}
