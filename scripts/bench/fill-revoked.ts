// Many revoked certificates in a ledger whose server does not run: the rows that lists are made of, and nothing else. By SQL, since a
// million certificates that are issued first take minutes.
import { randomBytes } from 'node:crypto'
import Database from 'better-sqlite3'
import { encodeSerial } from '../../src/pki/serial.ts'
import type { CaHome } from './world.ts'

const lifetimeMs = 86_400_000
/** As store/sqlite/codes.ts has them: keyCompromise (RFC 5280 §5.3.1), and a revocation by an operator. */
const keyCompromise = 1
const byOperator = 2

interface Given {
  readonly count: number
  /** Last octets of their serials: those of one shard, for instance. */
  readonly octets?: { readonly from: number; readonly to: number }
}

export const fillRevoked = ({ paths }: CaHome, { count, octets = { from: 0, to: 255 } }: Given): void => {
  const db = new Database(paths.database)
  try {
    const issuer = db.prepare(`SELECT id, revision FROM issuer WHERE kind = 1 AND state = 1`).get() as {
      readonly id: number
      readonly revision: number
    }
    const now = Date.now()
    const insert = db.prepare(
      `INSERT INTO revocation(issuer_id, serial, listed, reason, cause, revoked_at, not_after, revision)
       VALUES (?, ?, 1, ${keyCompromise}, ${byOperator}, ?, ?, ?)`,
    )
    const width = octets.to - octets.from + 1
    db.transaction(() => {
      for (let i = 0; i < count; i++) {
        const random10 = randomBytes(10)
        random10[9] = octets.from + (random10[9]! % width)
        // Issued over the last hour, revoked over it too.
        const at = now - 3_600_000 + Math.floor((i * 3_600_000) / count)
        const serial = encodeSerial({ prefix: 1, nowMs: at, random10 })
        insert.run(issuer.id, serial, at, now + lifetimeMs, issuer.revision + i + 1)
      }
      db.prepare('UPDATE issuer SET revision = revision + ? WHERE id = ?').run(count, issuer.id)
    })()
    db.pragma('wal_checkpoint(TRUNCATE)')
  } finally {
    db.close()
  }
}
