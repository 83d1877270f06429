// Networks of IP addresses in CIDR notation (RFC 4632 §3.1, RFC 4291 §2.3): text to a checked value, and what lies in what. IPv4 and
// IPv6 never lie in each other: an IPv4-mapped address is an IPv6 one. Which networks may be used for what is decided elsewhere.
import { ipAddressText, parseIpAddress } from './host-names.ts'

export interface IpNetwork {
  /** 4 or 16 octets, zero behind the prefix. */
  readonly octets: Uint8Array
  readonly prefixBits: number
}

const bitsBehind = (octets: Uint8Array, prefixBits: number): boolean =>
  octets.some((octet, at) => (octet & (0xff >> Math.min(8, Math.max(0, prefixBits - 8 * at)))) !== 0)

/**
 * `10.0.0.0/8`, `fd00::/8`; an address without a prefix is a network of one.
 * @returns null for anything else, and for bits behind the prefix, which say that something else was meant
 */
export const parseIpNetwork = (text: string): IpNetwork | null => {
  const match = /^([0-9a-fA-F.:]+)(?:\/(0|[1-9][0-9]{0,2}))?$/.exec(text)
  const octets = match === null ? null : parseIpAddress(match[1]!)
  if (match === null || octets === null) return null
  const prefixBits = match[2] === undefined ? octets.length * 8 : Number(match[2])
  return prefixBits > octets.length * 8 || bitsBehind(octets, prefixBits) ? null : { octets, prefixBits }
}

export const ipNetworkText = ({ octets, prefixBits }: IpNetwork): string => `${ipAddressText(octets)}/${prefixBits}`

/** @param address 4 or 16 octets */
export const isAddressIn = (address: Uint8Array, network: IpNetwork): boolean => {
  if (address.length !== network.octets.length) return false
  return network.octets.every((octet, at) => {
    const mask = (0xff00 >> Math.min(8, Math.max(0, network.prefixBits - 8 * at))) & 0xff
    return (address[at]! & mask) === octet
  })
}

/** Whether every address of `inner` is one of `outer`. */
export const isNetworkWithin = (inner: IpNetwork, outer: IpNetwork): boolean =>
  inner.prefixBits >= outer.prefixBits && isAddressIn(inner.octets, outer)
