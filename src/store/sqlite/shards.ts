// The shards port: sets of sharded revocation lists, and the numbers and facts of each list.
import { StoreError } from '../errors.ts'
import type { ShardKey, ShardRecord, ShardSet, ShardsPort } from '../shards-port.ts'
import * as codes from './codes.ts'
import type { Parts } from './parts.ts'

interface ShardRow {
  number: string
  this_update: number
  next_update: number
  sha256: Uint8Array
  entries: number
  revision: number
}

const whereShard = 'issuer_id = ? AND shards = ? AND shard = ?'
const keyOf = ({ issuerId, of, number }: ShardKey) => [issuerId, of, number] as const

export const createShards = ({ db, commit, journal }: Parts): ShardsPort => ({
  sets: issuerId =>
    db.all<ShardSet>(
      'SELECT shards AS "of", until_at AS until FROM crl_shard_set WHERE issuer_id = ? ORDER BY shards',
      issuerId,
    ),
  use: (issuerId, of) =>
    commit.write(() => {
      const lastEnd = db.get<{ at: number }>(
        'SELECT not_after AS at FROM certificate WHERE issuer_id = ? ORDER BY not_after DESC LIMIT 1',
        issuerId,
      )?.at
      const others = 'issuer_id = ? AND shards <> ? AND until_at IS NULL'
      if (lastEnd === undefined) db.run(`DELETE FROM crl_shard_set WHERE ${others}`, issuerId, of)
      else db.run(`UPDATE crl_shard_set SET until_at = ? WHERE ${others}`, lastEnd, issuerId, of)
      if (of > 1)
        db.run(
          `INSERT INTO crl_shard_set(issuer_id, shards, until_at) VALUES (?, ?, NULL)
           ON CONFLICT (issuer_id, shards) DO UPDATE SET until_at = NULL`,
          issuerId,
          of,
        )
    }),
  drop: (issuerId, of) =>
    commit.write(() => void db.run('DELETE FROM crl_shard_set WHERE issuer_id = ? AND shards = ?', issuerId, of)),
  reserveNumber: (shard, floor) =>
    commit.write(() => {
      const row = db.get<{ number: string }>(
        `INSERT INTO crl_shard(issuer_id, shards, shard, last_number) VALUES (?, ?, ?, ?)
         ON CONFLICT (issuer_id, shards, shard) DO UPDATE SET last_number = max(last_number + 1, excluded.last_number)
         RETURNING CAST(last_number AS TEXT) AS number`,
        ...keyOf(shard),
        floor,
      )
      return BigInt(row!.number)
    }),
  record: (list, leaf) =>
    commit.write(() => {
      recordList(db, list)
      journal.leaf(leaf)
    }),
  latest: shard => {
    const row = db.get<ShardRow>(
      `SELECT CAST(number AS TEXT) AS number, this_update, next_update, sha256, entries, revision FROM crl_shard
       WHERE ${whereShard} AND crl_shard.number IS NOT NULL`,
      ...keyOf(shard),
    )
    if (row === undefined) return null
    return {
      shard,
      issuerId: shard.issuerId,
      number: BigInt(row.number),
      thisUpdate: row.this_update,
      nextUpdate: row.next_update,
      sha256: codes.hexOf(row.sha256),
      entries: row.entries,
      revision: row.revision,
    }
  },
})

const recordList = (db: Parts['db'], { shard, ...list }: ShardRecord): void => {
  const { changes } = db.run(
    `UPDATE crl_shard SET number = ?, this_update = ?, next_update = ?, sha256 = ?, entries = ?, revision = ?,
       last_number = max(last_number, ?)
     WHERE ${whereShard} AND (number IS NULL OR number < ?)`,
    list.number,
    list.thisUpdate,
    list.nextUpdate,
    codes.blobOf(list.sha256),
    list.entries,
    list.revision,
    list.number,
    ...keyOf(shard),
    list.number,
  )
  if (changes === 0)
    throw new StoreError('crl_number_regressed', `expected a number above the last of this shard, got ${list.number}`)
}
