// Which shard a serial belongs to: a rule that certificates of years ago are found by, so that its values are written down here.
import { describe, expect, it } from 'vitest'
import { isShardCount, octetsOf, parseShardName, shardName, shardOf, shardsOf } from '../../src/pki/crl-shards.ts'

const serialEnding = (octet: number): Uint8Array => Uint8Array.of(1, 2, 3, octet)

describe('a shard', () => {
  it.each([
    [0x00, 8, 1],
    [0x1f, 8, 1],
    [0x20, 8, 2],
    [0xff, 8, 8],
    [0x7f, 2, 1],
    [0x80, 2, 2],
    [0xab, 256, 0xac],
    [0xab, 1, 1],
  ])('of a serial that ends in octet %i, of %i, is the %ith', (octet, of, number) => {
    expect(shardOf(serialEnding(octet), of)).toEqual({ number, of })
  })

  it('covers the octets that lead to it, and all shards together every octet once', () => {
    for (const of of [1, 2, 4, 8, 16, 32, 64, 128, 256]) {
      const covered = shardsOf(of).flatMap(shard => {
        const { from, to } = octetsOf(shard)
        const octets = Array.from({ length: to - from + 1 }, (_, i) => from + i)
        for (const octet of octets) expect(shardOf(serialEnding(octet), of)).toEqual(shard)
        return octets
      })
      expect(covered).toEqual(Array.from({ length: 256 }, (_, i) => i))
    }
  })

  it('is split into whole shards by the next count', () => {
    for (const octet of [0, 77, 128, 255]) {
      const { number } = shardOf(serialEnding(octet), 16)
      expect(shardOf(serialEnding(octet), 8).number).toBe(Math.ceil(number / 2))
    }
  })

  it('has a name that says its count, and is read back from it alone', () => {
    for (const shard of [...shardsOf(2), ...shardsOf(256)]) expect(parseShardName(shardName(shard))).toEqual(shard)
    for (const text of ['', '1-of-1', '0-of-8', '9-of-8', '1-of-3', '01-of-8', '1-of-512', '1-of-8.crl', '1-of-8/..'])
      expect(parseShardName(text)).toBeNull()
  })
})

it('counts of shards are powers of two up to 256', () => {
  expect(Array.from({ length: 600 }, (_, i) => i - 2).filter(isShardCount)).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256])
  expect([1.5, Number.NaN].some(isShardCount)).toBe(false)
  expect(() => shardOf(serialEnding(1), 3)).toThrowError(expect.objectContaining({ code: 'not_encodable' }))
})
