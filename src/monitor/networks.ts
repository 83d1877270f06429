// From an address to the network it is in, by a stated length of prefix: text in, text out. A source that is no address is not known: a
// proxy asked without saying for whom, a socket had closed. It is no second place.
import { ipAddressText, parseIpAddress } from '../pki/host-names.ts'

/** Bits of the prefix. */
export interface NetworkLengths {
  readonly ipv4: number
  readonly ipv6: number
}

const masked = (bytes: Uint8Array, bits: number): Uint8Array =>
  bytes.map((byte, at) => byte & (0xff00 >> Math.min(8, Math.max(0, bits - 8 * at))) & 0xff)

/** A zone (RFC 4007 §11) says by which interface, not from where. */
const addressIn = (source: string): Uint8Array | null => parseIpAddress(source.split('%', 1)[0] ?? '')

export const isKnownSource = (source: string): boolean => addressIn(source) !== null

/** @returns `192.0.2.0/24`; null where the source is not known */
export const networkOf = (source: string, { ipv4, ipv6 }: NetworkLengths): string | null => {
  const address = addressIn(source)
  if (address === null) return null
  const bits = address.length === 4 ? ipv4 : ipv6
  return `${ipAddressText(masked(address, bits))}/${bits}`
}
