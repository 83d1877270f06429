// Ids that nobody has to guess, but that must never come twice: those made one after the other lie beside each other in an index, so that
// a commit of many writes few of its pages. The same idea as serials (pki/serial.ts) and UUID version 7 (RFC 9562 §5.7).
import { concatBytes, toHex } from './bytes.ts'

/**
 * 128 bits, lower-case hex: 48 of time, 80 drawn. Should the clock go back, only the order suffers.
 * @param nowMs milliseconds since the epoch
 */
export const timeOrderedId = (nowMs: number, random10: Uint8Array): string => {
  if (random10.length !== 10) throw new TypeError(`expected 10 random octets, got ${random10.length}`)
  const time = new Uint8Array(6)
  let rest = nowMs
  for (let i = 5; i >= 0; i--) {
    time[i] = rest % 256
    rest = Math.floor(rest / 256)
  }
  return toHex(concatBytes([time, random10]))
}
