// The owners port. An owner who is gone leaves agents that nobody answers for: they are held.
import { StoreError } from '../errors.ts'
import type { BlastRadius, OwnersPort } from '../ports.ts'
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
        db.run('INSERT INTO owner(name, state, created_at) VALUES (?, 0, ?)', name, at)
        journal.leaf(leaf)
        return rows.ownerOf(rows.ownerRow(db, name)!)
      }),
    find: name => {
      const found = rows.ownerRow(db, name)
      return found === undefined ? null : rows.ownerOf(found)
    },
    list: () =>
      db
        .all<rows.OwnerRow & { agents: number }>(
          `SELECT o.*, (SELECT count(*) FROM registration r WHERE r.owner_id = o.id AND r.kind = 0 AND r.state <> 2) AS agents
           FROM owner o ORDER BY o.name`,
        )
        .map(row => ({ ...rows.ownerOf(row), agents: row.agents })),
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
