// Which shard of an issuer's revocation list a certificate belongs to. The last octet of a serial comes from the CSPRNG and never
// changes, so that a shard is known from the serial alone, for as long as the certificate lives, whatever is configured later. Counts
// are powers of two: shards of one count are equally large, and each splits into whole shards of the next.
import { PkiError } from './errors.ts'

export const maxShards = 256

/** 1: no shards, the complete list alone. */
export const isShardCount = (count: number): boolean =>
  Number.isInteger(count) && count >= 1 && count <= maxShards && (count & (count - 1)) === 0

/** One of several lists that an issuer's certificates are divided among. */
export interface Shard {
  /** From 1. */
  readonly number: number
  readonly of: number
}

/** The scope of a list: the last octets of the serials that could be on it, both ends included. */
export interface OctetRange {
  readonly from: number
  readonly to: number
}

export const allOctets: OctetRange = { from: 0, to: 255 }

/** @param serial content of the INTEGER, or its magnitude */
export const lastOctetOf = (serial: Uint8Array): number => serial[serial.length - 1]!

/** @throws PkiError not_encodable for a count that is none */
export const shardOf = (serial: Uint8Array, of: number): Shard => {
  if (!isShardCount(of)) throw new PkiError('not_encodable', `expected a power of two up to ${maxShards} shards`)
  return { number: Math.floor((lastOctetOf(serial) * of) / 256) + 1, of }
}

export const octetsOf = ({ number, of }: Shard): OctetRange => {
  const width = 256 / of
  return { from: (number - 1) * width, to: number * width - 1 }
}

export const shardsOf = (of: number): readonly Shard[] => Array.from({ length: of }, (_, i) => ({ number: i + 1, of }))

/** As URLs and files name it. The count is part of the name: a list of another count is another list. */
export const shardName = ({ number, of }: Shard): string => `${number}-of-${of}`

/** @returns null for what `shardName` does not write */
export const parseShardName = (text: string): Shard | null => {
  const [, number, of] = /^([1-9][0-9]{0,2})-of-([1-9][0-9]{0,2})$/.exec(text) ?? []
  const shard = { number: Number(number), of: Number(of) }
  return isShardCount(shard.of) && shard.of > 1 && shard.number <= shard.of ? shard : null
}
