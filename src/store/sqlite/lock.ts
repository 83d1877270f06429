// Locking one lineage: two holders were seen, so its live certificates are held until an operator has looked.
import { StoreError } from '../errors.ts'
import type { LeafDraft } from '../records.ts'
import * as cascade from './cascade.ts'
import * as codes from './codes.ts'
import type { Parts } from './parts.ts'
import * as rows from './rows.ts'

export interface LockOrder {
  readonly instanceId: string
  readonly reason: string
  readonly leaf: LeafDraft
}

/** An instance that is locked or revoked already stays as it is, and no second leaf says so. */
export const lockInstance = (parts: Parts, lock: LockOrder, at: number): void => {
  const { db, journal } = parts
  const instance = rows.instanceRow(db, lock.instanceId)
  if (instance === undefined) throw new StoreError('not_found', `no instance has id ${lock.instanceId}`)
  if (codes.instanceStates.name(instance.state) !== 'active') return
  db.run(
    'UPDATE instance SET state = ?, lock_reason = ?, changed_at = ? WHERE seq = ?',
    codes.instanceStates.code('locked'),
    lock.reason,
    at,
    instance.seq,
  )
  cascade.collect(db, cascade.ofInstance(instance.seq), [codes.ISSUED], at)
  const radius = cascade.hitRadius(db)
  cascade.markHits(db, { state: codes.HELD, reason: 'certificateHold', cause: 'lock', at })
  journal.statusFeed('hold', at, {
    by: 'instance',
    value: lock.instanceId,
    reason: 'certificateHold',
    serials: radius.certificates,
    state: 'locked',
  })
  journal.leaf(lock.leaf)
}
