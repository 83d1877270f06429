// The policies port: versions of the policies, and the scopes that follow from them for every registration. A fleet of any size gets them
// in steps, a transaction each; the last one puts the version in force.
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
  readonly rolled_to: number | null
}

const summaryOf = (row: Omit<VersionRow, 'files'>): Omit<PolicyVersion, 'files'> => ({
  id: row.id,
  hash: row.hash,
  author: row.author,
  why: row.why,
  createdAt: row.created_at,
  activatedAt: row.activated_at,
  active: row.active === 1,
  unfinished: row.rolled_to !== null,
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
          `SELECT id, hash, author, why, created_at, activated_at, active, rolled_to FROM policy_version WHERE id < ?
           ORDER BY id DESC LIMIT ?`,
          before,
          limit,
        )
        .map(summaryOf),
    provide: scopes.provide,
    rolling: () => versionOf(db.get<VersionRow>('SELECT * FROM policy_version WHERE rolled_to IS NOT NULL')),
    activate: async command => {
      let step = await commit.write(() => stepOf(parts, command, begin(parts, command), 0, []))
      // A transaction each: others have their turn, and what is rolled back is one step.
      while (step.version === null) {
        const { to, after, changes } = step
        step = await commit.write(() => stepOf(parts, command, to, after, changes))
      }
      return { version: step.version, changes: step.changes }
    },
    refresh: async ({ at, leaf }) => {
      const changes: ScopeChange[] = []
      let after: number | null = 0
      while (after !== null) {
        const from: number = after
        after = await commit.write(() => {
          const version = activeVersion(db)
          if (version === null) return null
          const page = pageAfter(parts, from)
          const changed = rescopeAll(parts, page, scopes.of, at)
          if (changed.length > 0) journal.leaf(leaf(version, changed))
          changes.push(...changed)
          return page.length < pageSize ? null : page.at(-1)!.id
        })
      }
      return changes
    },
  }
}

type Activation = Parameters<PoliciesPort['activate']>[0]

/** @returns the version that comes into force from now on, in the place of any other that was about to */
const begin = (parts: Parts, { version, expected, resolve, at }: Activation): number => {
  const { db, scopes } = parts
  checkExpected(db, expected)
  const to = typeof version === 'number' ? version : insert(parts, version, at)
  if (db.get('SELECT id FROM policy_version WHERE id = ?', to) === undefined)
    throw new StoreError('not_found', `there are no policies of version ${to}`)
  db.run('UPDATE policy_version SET rolled_to = NULL WHERE rolled_to IS NOT NULL')
  db.run('UPDATE policy_version SET rolled_to = 0 WHERE id = ?', to)
  // If this transaction is undone, so is the version: nobody asks for it then.
  scopes.provide(to, resolve)
  return to
}

const checkExpected = (db: Parts['db'], expected: number | null): void => {
  const from = activeVersion(db)
  if (from === expected) return
  throw new StoreError('conflict', `policies ${from ?? 'none'} are in force, expected ${expected ?? 'none'}`, {
    hint: 'look again: agentca policy diff',
  })
}

interface Step {
  readonly to: number
  /** Registration that was reached. */
  readonly after: number
  /** So far. */
  readonly changes: readonly ScopeChange[]
  /** null: there are more. */
  readonly version: PolicyVersion | null
}

/** The last one puts the version in force, in the same transaction. */
const stepOf = (
  parts: Parts,
  { expected, resolve, at, leaf, stepLeaf }: Activation,
  to: number,
  after: number,
  before: readonly ScopeChange[],
): Step => {
  const { db, journal } = parts
  checkExpected(db, expected)
  if (db.get('SELECT id FROM policy_version WHERE id = ? AND rolled_to IS NOT NULL', to) === undefined)
    throw new StoreError('conflict', `others than policies ${to} are about to come into force`, {
      hint: 'look again: agentca policy diff',
    })
  const page = pageAfter(parts, after)
  const changed = rescopeAll(parts, page, resolve, at)
  const changes = [...before, ...changed]
  if (page.length === pageSize) {
    const last = page.at(-1)!.id
    db.run('UPDATE policy_version SET rolled_to = ? WHERE id = ?', last, to)
    if (changed.length > 0) journal.leaf(stepLeaf(to, changed))
    return { to, after: last, changes, version: null }
  }
  db.run('UPDATE policy_version SET active = 0 WHERE active = 1')
  db.run('UPDATE policy_version SET active = 1, rolled_to = NULL, activated_at = ? WHERE id = ?', at, to)
  const stored = versionOf(db.get<VersionRow>('SELECT * FROM policy_version WHERE id = ?', to))!
  journal.feed('policy', at, { version: to, hash: stored.hash })
  journal.leaf(leaf(expected, to, changes))
  return { to, after, changes, version: stored }
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

/** So many are changed, told and signed for within a few milliseconds: everybody else has their turn after that. */
const pageSize = 50

const pageAfter = ({ db }: Parts, id: number): readonly Registration[] =>
  db
    .all<rows.RegistrationRow>(
      `${rows.selectRegistration} WHERE r.id > ? AND r.kind <> 2 AND r.state <> 2 ORDER BY r.id LIMIT ${pageSize}`,
      id,
    )
    .map(rows.registrationOf)

const rescopeAll = (
  parts: Parts,
  page: readonly Registration[],
  resolve: ResolveScopes,
  at: number,
): readonly ScopeChange[] =>
  page.map(before => rescope(parts, before, resolve(before, at), at)).filter(change => change !== null)

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
