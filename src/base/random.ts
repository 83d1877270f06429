// Random bytes for what is drawn all the time and is no secret (serials, ids of instances and requests): from the CSPRNG, many at once,
// because one call costs as much as a hundred times as many bytes.
import { randomFillSync } from 'node:crypto'

const pool = new Uint8Array(4096)
// Owned by this module: what lies before it was given out.
let taken = pool.length

/** @param length at most 4096 */
export const pooledRandomBytes = (length: number): Uint8Array => {
  if (taken + length > pool.length) {
    randomFillSync(pool)
    taken = 0
  }
  taken += length
  return pool.slice(taken - length, taken)
}
