// Certificate serial numbers: 16 bytes, positive, unique across replicas, close together in the index. Randomness and time are
// arguments. Text form: lower-case hex of the magnitude, as OpenSSL prints it but in lower case.
import { concatBytes, fromHex, toHex } from '../base/bytes.ts'
import { PkiError } from './errors.ts'

export interface SerialParts {
  /** Replica: 0x01 to 0x7f, so that the INTEGER is positive and keeps its length. */
  readonly prefix: number
  readonly nowMs: number
  /** 10 bytes from a CSPRNG: 80 bits, above the 64 that the CA/Browser Forum asks for. */
  readonly random10: Uint8Array
}

/** 16 ms, so that 40 bits reach to the year 2527; finer would not help the index. */
const tickMs = 16

/** @returns 16 bytes, the content of the INTEGER @throws PkiError not_encodable */
export const encodeSerial = ({ prefix, nowMs, random10 }: SerialParts): Uint8Array => {
  const ticks = Math.floor(nowMs / tickMs)
  if (!Number.isInteger(prefix) || prefix < 1 || prefix > 0x7f)
    throw new PkiError('not_encodable', `a serial prefix is 1 to 127, got ${prefix}`)
  if (random10.length !== 10) throw new PkiError('not_encodable', `expected 10 random bytes, got ${random10.length}`)
  if (!(ticks >= 0 && ticks < 2 ** 40)) throw new PkiError('not_encodable', `no time for a serial: ${nowMs}`)
  const serial = new Uint8Array(16)
  serial[0] = prefix
  for (let i = 5, rest = ticks; i >= 1; i--, rest = Math.floor(rest / 256)) serial[i] = rest % 256
  serial.set(random10, 6)
  return serial
}

/**
 * Hex of an INTEGER's content. Foreign serials may be negative (RFC 5280 §4.1.2.2 asks to cope): those get a `-`, so that
 * no two numbers share a text.
 */
export const serialHex = (content: Uint8Array): string => {
  if (content.length > 0 && content[0]! >= 0x80) return `-${toHex(negated(content))}`
  return toHex(content.length > 1 && content[0] === 0 ? content.subarray(1) : content)
}

const negated = (content: Uint8Array): Uint8Array => {
  const out = content.map(byte => ~byte & 0xff)
  for (let i = out.length - 1; i >= 0; i--) {
    out[i]! += 1
    if (out[i] !== 0) break
  }
  return out
}

/** Canonical text of a serial typed or pasted: colons, white space around, `0x` and upper case are tolerated. @throws PkiError serial_malformed */
export const parseSerialHex = (text: string): string => {
  const match = /^\s*(?:0x)?([0-9a-f]+(?::[0-9a-f]+)*)\s*$/i.exec(text)
  const digits = match?.[1]?.replaceAll(':', '').toLowerCase().replace(/^0+/, '')
  if (digits === undefined || digits.length > 40)
    throw new PkiError('serial_malformed', 'expected a serial number: 1 to 40 hex digits', {
      hint: 'agentca cert list shows serials',
    })
  const significant = digits === '' ? '0' : digits
  return significant.length % 2 === 0 ? significant : `0${significant}`
}

/** INTEGER content of a canonical serial text: what `integer()` and revocation entries take. @throws PkiError serial_malformed */
export const serialFromHex = (hex: string): Uint8Array => {
  const magnitude = fromHex(hex)
  if (magnitude === null || magnitude.length === 0) throw new PkiError('serial_malformed', 'not a canonical serial')
  return magnitude[0]! < 0x80 ? magnitude : concatBytes([Uint8Array.of(0), magnitude])
}
