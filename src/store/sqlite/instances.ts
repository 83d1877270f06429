// The instances port: lineages as an operator sees them, and the way out of a lock.
import { StoreError } from '../errors.ts'
import type { InstancesPort } from '../ports.ts'
import * as cascade from './cascade.ts'
import * as codes from './codes.ts'
import type { SqlValue } from './connection.ts'
import { lockInstance } from './lock.ts'
import type { Parts } from './parts.ts'
import * as rows from './rows.ts'

export const createInstances = (parts: Parts): InstancesPort => {
  const { db, words, commit, journal } = parts
  return {
    get: id => {
      const row = rows.instanceRow(db, id)
      return row === undefined ? null : rows.instanceOf(row)
    },
    list: filter => {
      const where = ['true']
      const values: SqlValue[] = []
      if (filter.kind !== undefined) {
        where.push('i.registration_id IN (SELECT id FROM registration WHERE kind = ?)')
        values.push(codes.subjectKinds.code(filter.kind))
      }
      if (filter.liveAt !== undefined) {
        where.push('i.state <> 2 AND i.live_until > ?')
        values.push(filter.liveAt)
      }
      if (filter.registrationId !== undefined) {
        where.push('i.registration_id = ?')
        values.push(filter.registrationId)
      }
      if (filter.state !== undefined) {
        where.push(`i.state = ${codes.instanceStates.code(filter.state)}`)
      }
      if (filter.after !== undefined) {
        where.push('i.seq > ?')
        const after = rows.instanceSeq(db, filter.after)
        values.push(after < 0 ? Number.MAX_SAFE_INTEGER : after)
      }
      return db
        .all<rows.InstanceRow>(
          `${rows.selectInstance} WHERE ${where.join(' AND ')} ORDER BY i.seq LIMIT ?`,
          ...values,
          filter.limit,
        )
        .map(row => {
          const head = row.head === null ? undefined : rows.certificateByRow(db, row.head)
          return {
            ...rows.instanceOf(row),
            registration: rows.registrationById(db, row.registration_id)!,
            head: head === undefined ? null : rows.certificateOf(words, head),
          }
        })
    },
    lock: (lock, at) =>
      commit.write(() => {
        const instance = rows.instanceRow(db, lock.instanceId)
        if (instance === undefined) throw new StoreError('not_found', `no instance has id ${lock.instanceId}`)
        const state = codes.instanceStates.name(instance.state)
        if (state !== 'active') throw new StoreError('conflict', `expected an active instance, got ${state}`)
        lockInstance(parts, lock, at)
        return rows.instanceOf(rows.instanceRow(db, lock.instanceId)!)
      }),
    unlock: (id, at, leaf) =>
      commit.write(() => {
        const instance = rows.instanceRow(db, id)
        if (instance === undefined) throw new StoreError('not_found', `no instance has id ${id}`)
        const state = codes.instanceStates.name(instance.state)
        if (state !== 'locked') throw new StoreError('conflict', `expected a locked instance, got ${state}`)
        db.run('UPDATE instance SET state = 0, lock_reason = NULL, changed_at = ? WHERE seq = ?', at, instance.seq)
        const held = rows.registrationById(db, instance.registration_id)!.state === 'held'
        // Held by the agent's hold too: released with that one.
        cascade.collect(db, cascade.ofInstance(instance.seq), held ? [] : [codes.HELD], at)
        const { certificates } = cascade.hitRadius(db)
        cascade.releaseHits(db)
        journal.statusFeed('release', at, {
          by: 'instance',
          value: id,
          serials: certificates,
          state: 'active',
        })
        journal.leaf(leaf)
        return rows.instanceOf(rows.instanceRow(db, id)!)
      }),
  }
}
