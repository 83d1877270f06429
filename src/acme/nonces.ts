// Replay-Nonces (RFC 8555 §6.5): each good once, and only in the process that gave it out. A nonce is a number under a MAC whose key dies
// with the process; of the last so many numbers one bit each says whether it was used. Bounded memory, whoever asks for however many.
import { createHmac, timingSafeEqual } from 'node:crypto'
import { fromBase64url, toBase64url } from '../base/bytes.ts'

export interface Nonces {
  create(): string
  /** @returns whether it was given out here, is not too old, and was not taken before */
  take(nonce: string): boolean
}

/** 128 KiB. A client that is overtaken by a million others between answer and request asks again (badNonce). */
const defaultWindow = 2 ** 20
const numberBytes = 6
const macBytes = 16

/** @param key 32 random bytes, of this process only @param window how many of the latest can be taken; a multiple of 8 */
export const createNonces = (key: Uint8Array, window: number = defaultWindow): Nonces => {
  // Owned by this closure: bit `n % window` says that number n can still be taken.
  const open = new Uint8Array(window / 8)
  let next = 0

  const macOf = (number: Uint8Array): Buffer => createHmac('sha256', key).update(number).digest().subarray(0, macBytes)

  return {
    create: () => {
      const number = Buffer.alloc(numberBytes)
      number.writeUIntBE(next, 0, numberBytes)
      const slot = next % window
      open[slot >> 3] = (open[slot >> 3] as number) | (1 << (slot & 7))
      next++
      return toBase64url(Buffer.concat([number, macOf(number)]))
    },
    take: nonce => {
      const bytes = fromBase64url(nonce)
      if (bytes === null || bytes.length !== numberBytes + macBytes) return false
      const number = bytes.subarray(0, numberBytes)
      if (!timingSafeEqual(macOf(number), bytes.subarray(numberBytes))) return false
      const value = Buffer.from(number).readUIntBE(0, numberBytes)
      if (value < next - window) return false
      const slot = value % window
      const bit = 1 << (slot & 7)
      if (((open[slot >> 3] as number) & bit) === 0) return false
      open[slot >> 3] = (open[slot >> 3] as number) & ~bit
      return true
    },
  }
}
