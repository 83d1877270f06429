// From an address to the network it is in, by a stated length of prefix: text in, text out.
import { ipAddressText, parseIpAddress } from '../pki/host-names.ts'

/** Bits of the prefix. */
export interface NetworkLengths {
  readonly ipv4: number
  readonly ipv6: number
}

const masked = (bytes: Uint8Array, bits: number): Uint8Array =>
  bytes.map((byte, at) => byte & (0xff00 >> Math.min(8, Math.max(0, bits - 8 * at))) & 0xff)

/** @returns `192.0.2.0/24`; what is no address is its own network */
export const networkOf = (source: string, { ipv4, ipv6 }: NetworkLengths): string => {
  const address = parseIpAddress(source)
  if (address === null) return source
  const bits = address.length === 4 ? ipv4 : ipv6
  return `${ipAddressText(masked(address, bits))}/${bits}`
}
