// Which addresses a probe may connect to. Two rules: the address lies in a network that the operator allowed; and where it is special,
// in one that was named for it: 0.0.0.0/0 allows no loopback, 127.0.0.0/8 does.
import { type IpNetwork, isAddressIn, isNetworkWithin, parseIpNetwork } from '../../pki/ip-networks.ts'

/**
 * From the IANA registries of special-purpose addresses (RFC 6890), what leads to this machine, to its neighbours, to many machines or
 * past an IPv4 rule inside an IPv6 address; and where clouds serve credentials to whoever asks.
 */
const specialNetworks: readonly IpNetwork[] = [
  '0.0.0.0/8', // this network (RFC 791 §3.2): Linux connects to loopback
  '127.0.0.0/8', // loopback
  '169.254.0.0/16', // link-local, metadata of most clouds
  '192.0.0.0/24', // IETF protocol assignments, metadata of Oracle's cloud
  '192.88.99.0/24', // 6to4 relays
  '198.18.0.0/15', // benchmarks of network devices
  '100.100.100.200/32', // metadata of Alibaba's cloud
  '168.63.129.16/32', // metadata of Azure's hosts
  '224.0.0.0/4', // multicast
  '240.0.0.0/4', // reserved, broadcast
  '::/96', // unspecified, loopback, IPv4-compatible
  '::ffff:0:0/96', // IPv4-mapped
  '::ffff:0:0:0/96', // IPv4-translated (RFC 2765)
  '64:ff9b::/96', // NAT64
  '64:ff9b:1::/48', // NAT64 of local use
  '100::/64', // discard
  '2001::/23', // IETF protocol assignments, Teredo
  '2002::/16', // 6to4
  'fd00:ec2::/32', // metadata and other services of AWS
  'fd20:ce::254/128', // metadata of Google's cloud
  'fe80::/10', // link-local
  'fec0::/10', // site-local
  'ff00::/8', // multicast
].map(text => parseIpNetwork(text) as IpNetwork)

/** @param address 4 or 16 octets */
export const isAllowedAddress = (address: Uint8Array, allowedNetworks: readonly IpNetwork[]): boolean => {
  const special = specialNetworks.filter(network => isAddressIn(address, network))
  return allowedNetworks.some(
    allowed => isAddressIn(address, allowed) && special.every(network => isNetworkWithin(allowed, network)),
  )
}
