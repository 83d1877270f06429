// The owners port. An owner who is gone leaves agents that nobody answers for: they are held.
import { StoreError } from '../errors.ts'
import type { BlastRadius, OwnerEntry, OwnersPort } from '../ports.ts'
import * as codes from './codes.ts'
import type { Parts } from './parts.ts'
import { applyChange } from './registrations.ts'
import * as rows from './rows.ts'

export const createOwners = (parts: Parts): OwnersPort => {
  const { db, commit, journal } = parts
  return {
    ensure: (name, at, leaf) =>
      commit.write(() => {
        const found = rows.ownerRow(db, name)
        if (found !== undefined) return rows.ownerOf(found)
        put(parts, name, null, at)
        journal.leaf(leaf)
        return rows.ownerOf(rows.ownerRow(db, name)!)
      }),
    create: ({ name, managedBy, at }, leaf) =>
      commit.write(() => {
        if (rows.ownerRow(db, name) !== undefined)
          throw new StoreError('already_exists', `owner ${name} exists already`, { hint: 'agentca owner list' })
        put(parts, name, managedBy, at)
        journal.leaf(leaf)
        return entryOf(parts, name)
      }),
    find: name => {
      const found = rows.ownerRow(db, name)
      return found === undefined ? null : rows.ownerOf(found)
    },
    list: () => db.all<EntryRow>(`${selectEntry} ORDER BY o.name`).map(entryOfRow),
    change: (name, decide) =>
      commit.write(() => {
        const { change, leaf } = decide(entryOf(parts, name))
        if ('removedAt' in change)
          // The row stays for what is retired, and says whose it was.
          db.run('UPDATE owner SET removed_at = ?, managed_by = NULL WHERE name = ?', change.removedAt, name)
        else db.run('UPDATE owner SET managed_by = ? WHERE name = ?', change.managedBy, name)
        journal.leaf(leaf)
      }),
    gone: (name, at, leaf) =>
      commit.write(() => {
        const owner = rows.ownerRow(db, name)
        if (owner === undefined) throw new StoreError('not_found', `no owner is called ${name}`)
        db.run('UPDATE owner SET state = ? WHERE id = ?', codes.activeOrGone.code('gone'), owner.id)
        const radius = holdAgents(parts, owner.id, at)
        journal.leaf(leaf(radius))
        return radius
      }),
  }
}

interface EntryRow extends rows.OwnerRow {
  agents: number
  registrations: number
}

const selectEntry = `SELECT o.*,
  (SELECT count(*) FROM registration r WHERE r.owner_id = o.id AND r.kind = 0 AND r.state <> 2) AS agents,
  (SELECT count(*) FROM registration r WHERE r.owner_id = o.id AND r.state <> 2) AS registrations
  FROM owner o WHERE o.removed_at IS NULL`

const entryOfRow = (row: EntryRow): OwnerEntry => ({
  ...rows.ownerOf(row),
  agents: row.agents,
  registrations: row.registrations,
  managedBy: row.managed_by,
})

/** @throws StoreError `not_found` */
const entryOf = ({ db }: Parts, name: string): OwnerEntry => {
  const row = db.get<EntryRow>(`${selectEntry} AND o.name = ?`, name)
  if (row === undefined) throw new StoreError('not_found', `no owner is called ${name}`, { hint: 'agentca owner list' })
  return entryOfRow(row)
}

/** One who was removed begins anew. */
const put = ({ db }: Parts, name: string, managedBy: string | null, at: number): void => {
  db.run(
    `INSERT INTO owner(name, state, created_at, managed_by) VALUES (?, 0, ?, ?)
       ON CONFLICT(name) DO UPDATE SET state = 0, created_at = excluded.created_at, managed_by = excluded.managed_by, removed_at = NULL`,
    name,
    at,
    managedBy,
  )
}

const holdAgents = (parts: Parts, ownerId: number, at: number): BlastRadius => {
  const agents = parts.db.all<rows.RegistrationRow>(
    `${rows.selectRegistration} WHERE r.owner_id = ? AND r.kind = 0 AND r.state = 0 ORDER BY r.name`,
    ownerId,
  )
  return agents
    .map(row => applyChange(parts, rows.registrationOf(row), { set: {}, state: 'held', at }).radius)
    .reduce(addRadius, emptyRadius)
}

export const emptyRadius: BlastRadius = {
  registrations: [],
  instances: 0,
  certificates: 0,
  intents: 0,
  tokens: 0,
  serials: [],
  subscriptions: 0,
}

const addRadius = (a: BlastRadius, b: BlastRadius): BlastRadius => ({
  registrations: [...a.registrations, ...b.registrations],
  instances: a.instances + b.instances,
  certificates: a.certificates + b.certificates,
  intents: a.intents + b.intents,
  tokens: a.tokens + b.tokens,
  serials: [...a.serials, ...b.serials].slice(0, 1000),
  subscriptions: a.subscriptions + b.subscriptions,
})
