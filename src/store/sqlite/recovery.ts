// The recovery port: a ledger that comes from a backup takes over what was seen outside since.
import type { SubjectKind } from '../records.ts'
import type { Recovered, RecoveryPort, SeenRevocation } from '../recovery-port.ts'
import * as cascade from './cascade.ts'
import * as codes from './codes.ts'
import { lockInstance } from './lock.ts'
import type { Parts } from './parts.ts'
import { applyChange } from './registrations.ts'
import * as rows from './rows.ts'

/** Whoever is revoked already stays so; an expired one needs no entry. */
const live = [codes.INTENT, codes.ISSUED, codes.HELD]

export const createRecovery = (parts: Parts): RecoveryPort => {
  const { db, commit, journal } = parts

  const revoke = (rowOf: number, { reason, revokedAt }: SeenRevocation, at: number): boolean => {
    cascade.collect(db, cascade.ofRow(rowOf), live, at)
    const hit = db.get('SELECT 1 FROM temp.hit') !== undefined
    if (hit) cascade.markHits(db, { state: codes.REVOKED, reason, cause: 'revocation', at: revokedAt })
    return hit
  }

  /** @returns whether it is new */
  const listUnknown = ({ issuerId, serial, reason, revokedAt, until }: SeenRevocation): boolean => {
    const known = db.get('SELECT 1 FROM revocation WHERE issuer_id = ? AND serial = ?', issuerId, codes.blobOf(serial))
    if (known !== undefined) return false
    const { revision } = db.get<{ revision: number }>(
      'UPDATE issuer SET revision = revision + 1 WHERE id = ? RETURNING revision',
      issuerId,
    )!
    db.run(
      `INSERT INTO revocation(issuer_id, serial, listed, reason, cause, revoked_at, not_after, revision)
       VALUES (?, ?, 1, ?, ?, ?, ?, ?)`,
      issuerId,
      codes.blobOf(serial),
      // A hold of what is not known can never be released.
      codes.reasons.code(reason === 'certificateHold' ? 'unspecified' : reason),
      codes.causes.code('revocation'),
      revokedAt,
      until,
      revision,
    )
    return true
  }

  const hold = ({ kind, name }: { readonly kind: SubjectKind; readonly name: string }, at: number): boolean => {
    const before = rows.registrationByName(db, kind, name)
    if (before === null || before.state !== 'active') return false
    applyChange(parts, before, { set: {}, state: 'held', at })
    return true
  }

  const instanceOf = (rowOf: number) =>
    db.get<{ id: codes.StoredId; state: number; kind: number; name: string }>(
      `SELECT i.id, i.state, r.kind, r.name FROM certificate c JOIN instance i ON i.seq = c.instance
       JOIN registration r ON r.id = i.registration_id WHERE c.row = ?`,
      rowOf,
    )!

  /** Of one use each: whether they were used since is not known. */
  const revokeSecrets = (at: number): number => {
    const joins = db.run('UPDATE token SET state = 1, revoked_at = ? WHERE state = 0 AND expires_at > ?', at, at)
    const bindings = db.run(
      'UPDATE acme_binding SET state = 1, revoked_at = ? WHERE state = 0 AND account IS NULL AND expires_at > ?',
      at,
      at,
    )
    return joins.changes + bindings.changes
  }

  return {
    recover: command =>
      commit.write(() => {
        const { at } = command
        const held = command.suspended.filter(each => hold(each, at)).map(({ kind, name }) => `${kind}:${name}`)
        const locked: string[] = []
        let revoked = 0
        let unknown = 0
        for (const seen of command.seen) {
          const row = rows.certificateBySerial(db, seen.serial)
          if (row === undefined) {
            if (listUnknown(seen)) unknown++
            continue
          }
          if (seen.reason === 'certificateHold') {
            // With its agent, or before the backup: it is held as it was.
            if (row.state !== codes.ISSUED) continue
          } else {
            if (!revoke(row.row, seen, at)) continue
            revoked++
            // What was replaced says nothing of its instance; whatever else does.
            if (seen.reason === 'superseded') continue
          }
          const { id: stored, state, kind, name } = instanceOf(row.row)
          const id = codes.idOf(stored)
          if (codes.instanceStates.name(state) !== 'active') continue
          const leaf = command.lockLeaf({ id, kind: codes.subjectKinds.name(kind), name })
          lockInstance(parts, { instanceId: id, reason: 'restored', leaf }, at)
          locked.push(id)
        }
        for (const { issuerId, number } of command.crlNumbers)
          db.run('UPDATE issuer SET last_crl_number = max(last_crl_number, ?) WHERE id = ?', number, issuerId)
        const tokens = revokeSecrets(at)
        db.run(`UPDATE counter SET value = lower(hex(randomblob(8))) WHERE name = 'feed_epoch'`)
        const recovered: Recovered = { revoked, held, locked, unknown, tokens }
        db.run(
          `INSERT INTO meta(key, value) VALUES ('maintenance', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
          command.maintenance(recovered),
        )
        journal.leaf(command.leaf(recovered))
        return recovered
      }),
  }
}
