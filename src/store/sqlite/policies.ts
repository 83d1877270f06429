// The policies port: versions of the policies, and the recomputation of every registration's scopes in the transaction that changes what
// they follow from.
import { StoreError } from '../errors.ts'
import type { PoliciesPort, PolicyDraft, PolicyVersion, ResolveScopes, ScopeChange } from '../policies-port.ts'
import type { Registration } from '../records.ts'
import type { Parts } from './parts.ts'
import { feedAgent } from './registrations.ts'
import * as rows from './rows.ts'
import { activeVersion } from './scopes.ts'

interface VersionRow {
  readonly id: number
  readonly hash: string
  readonly files: string
  readonly author: string
  readonly why: string | null
  readonly created_at: number
  readonly activated_at: number
  readonly active: number
}

const summaryOf = (row: Omit<VersionRow, 'files'>): Omit<PolicyVersion, 'files'> => ({
  id: row.id,
  hash: row.hash,
  author: row.author,
  why: row.why,
  createdAt: row.created_at,
  activatedAt: row.activated_at,
  active: row.active === 1,
})

const versionOf = (row: VersionRow | undefined): PolicyVersion | null =>
  row === undefined ? null : { ...summaryOf(row), files: JSON.parse(row.files) }

export const createPolicies = (parts: Parts): PoliciesPort => {
  const { db, commit, journal, scopes } = parts
  const get = (id: number): PolicyVersion | null =>
    versionOf(db.get<VersionRow>('SELECT * FROM policy_version WHERE id = ?', id))
  return {
    active: () => versionOf(db.get<VersionRow>('SELECT * FROM policy_version WHERE active = 1')),
    get,
    list: ({ before = Number.MAX_SAFE_INTEGER, limit }) =>
      db
        .all<Omit<VersionRow, 'files'>>(
          `SELECT id, hash, author, why, created_at, activated_at, active FROM policy_version WHERE id < ?
           ORDER BY id DESC LIMIT ?`,
          before,
          limit,
        )
        .map(summaryOf),
    provide: scopes.provide,
    activate: ({ version, expected, resolve, at, leaf }) =>
      commit.write(() => {
        const from = activeVersion(db)
        if (from !== expected)
          throw new StoreError('conflict', `policies ${from ?? 'none'} are in force, expected ${expected ?? 'none'}`, {
            hint: 'look again: agentca policy diff',
          })
        const to = typeof version === 'number' ? version : insert(parts, version, at)
        if (get(to) === null) throw new StoreError('not_found', `there are no policies of version ${to}`)
        db.run('UPDATE policy_version SET active = 0 WHERE active = 1')
        db.run('UPDATE policy_version SET active = 1, activated_at = ? WHERE id = ?', at, to)
        // If this transaction is undone, so is the version: nobody asks for it then.
        scopes.provide(to, resolve)
        const changes = recompute(parts, resolve, at)
        const stored = get(to)!
        journal.feed('policy', at, { version: to, hash: stored.hash })
        journal.leaf(leaf(from, to, changes))
        return { version: stored, changes }
      }),
    refresh: ({ at, leaf }) =>
      commit.write(() => {
        const version = activeVersion(db)
        if (version === null) return []
        const changes = recompute(parts, scopes.of, at)
        if (changes.length > 0) journal.leaf(leaf(version, changes))
        return changes
      }),
  }
}

const insert = ({ db }: Parts, { hash, files, author, why }: PolicyDraft, at: number): number =>
  db.run(
    `INSERT INTO policy_version(hash, files, author, why, created_at, activated_at, active) VALUES (?, ?, ?, ?, ?, ?, 0)`,
    hash,
    JSON.stringify(files),
    author,
    why,
    at,
    at,
  ).row

const pageSize = 500

const pageAfter = ({ db }: Parts, id: number): readonly Registration[] =>
  db
    .all<rows.RegistrationRow>(
      `${rows.selectRegistration} WHERE r.id > ? AND r.kind <> 2 AND r.state <> 2 ORDER BY r.id LIMIT ${pageSize}`,
      id,
    )
    .map(rows.registrationOf)

const recompute = (parts: Parts, resolve: ResolveScopes, at: number): readonly ScopeChange[] => {
  const changes: ScopeChange[] = []
  for (let page = pageAfter(parts, 0); page.length > 0; page = pageAfter(parts, page.at(-1)!.id))
    for (const before of page) {
      const change = rescope(parts, before, resolve(before, at), at)
      if (change !== null) changes.push(change)
    }
  return changes
}

/** @returns null when its scopes are what they were */
const rescope = (parts: Parts, before: Registration, now: readonly string[], at: number): ScopeChange | null => {
  const { db } = parts
  const { id, kind, name, scopes } = before
  const gained = now.filter(scope => !scopes.includes(scope))
  const lost = scopes.filter(scope => !now.includes(scope))
  if (gained.length === 0 && lost.length === 0) return null
  db.run(
    'UPDATE registration SET scopes = ?, version = version + 1, changed_at = ? WHERE id = ?',
    JSON.stringify(now),
    at,
    id,
  )
  const after = { ...before, scopes: now, version: before.version + 1, changedAt: at }
  feedAgent(parts, after)
  return { kind, name, version: after.version, gained, lost }
}
