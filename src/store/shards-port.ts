// The port for sharded revocation lists: which sets of shards certificates may name, and the numbers of each shard. The demands of ports.ts
// hold here too. Their bytes lie in files: what is lost of them is made anew from the rows.
import type { CrlRecord, LeafDraft } from './records.ts'

/** One list of a set, by its place in it: from 1. */
export interface ShardKey {
  readonly issuerId: number
  readonly number: number
  readonly of: number
}

export interface ShardSet {
  readonly of: number
  /** When the last certificate that names one of it has ended; null: certificates are issued that do. */
  readonly until: number | null
}

/** The last list of a shard. */
export interface ShardRecord extends Omit<CrlRecord, 'der'> {
  readonly shard: ShardKey
  /** Of the revocations that it certainly shows. */
  readonly revision: number
}

export interface ShardsPort {
  sets(issuerId: number): readonly ShardSet[]
  /**
   * From now on certificates of this issuer name shards of a set of so many; 1: none. Every other set ends with the last certificate of
   * this issuer that is there now; one without any is gone at once.
   */
  use(issuerId: number, of: number): Promise<void>
  /** A set that has ended: no list of it will follow. */
  drop(issuerId: number, of: number): Promise<void>
  /** Number = max(last + 1, floor), under the ledger's lock; burnt even if the list is never published. */
  reserveNumber(shard: ShardKey, floor: bigint): Promise<bigint>
  /** @throws StoreError `crl_number_regressed` when a number at or above is already recorded */
  record(list: ShardRecord, leaf: LeafDraft): Promise<void>
  /** null: none yet. */
  latest(shard: ShardKey): ShardRecord | null
}
