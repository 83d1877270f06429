import { describe, expect, it } from 'vitest'
import { parseIpAddress } from '../../src/pki/host-names.ts'
import { ipNetworkText, isAddressIn, isNetworkWithin, parseIpNetwork } from '../../src/pki/ip-networks.ts'

const network = (text: string) => {
  const parsed = parseIpNetwork(text)
  if (parsed === null) throw new Error(`no network: ${text}`)
  return parsed
}
const address = (text: string): Uint8Array => parseIpAddress(text) as Uint8Array

describe('a network', () => {
  it('is an address and a prefix, or an address by itself', () => {
    for (const text of ['10.0.0.0/8', '0.0.0.0/0', '192.0.2.128/25', 'fd00::/8', '::/0', '::1/128'])
      expect(ipNetworkText(network(text))).toBe(text)
    expect(ipNetworkText(network('192.0.2.1'))).toBe('192.0.2.1/32')
    expect(ipNetworkText(network('FD00:0::1'))).toBe('fd00::1/128')
  })

  it('has nothing behind its prefix, and no other form', () => {
    for (const text of [
      '10.0.0.1/8',
      '192.0.2.128/24',
      'fd00::1/8',
      '10.0.0.0/33',
      '::/129',
      '10.0.0.0/08',
      '10/8',
      'x',
      '',
      '10.0.0.0/',
      'localhost',
      '10.0.0.0/-1',
    ])
      expect(parseIpNetwork(text), text).toBeNull()
  })

  it('holds the addresses that share its prefix, of its own family', () => {
    expect(isAddressIn(address('10.255.0.1'), network('10.0.0.0/8'))).toBe(true)
    expect(isAddressIn(address('11.0.0.0'), network('10.0.0.0/8'))).toBe(false)
    expect(isAddressIn(address('192.0.2.127'), network('192.0.2.128/25'))).toBe(false)
    expect(isAddressIn(address('192.0.2.129'), network('192.0.2.128/25'))).toBe(true)
    expect(isAddressIn(address('::ffff:10.0.0.1'), network('10.0.0.0/8'))).toBe(false)
    expect(isAddressIn(address('fdff::'), network('fd00::/8'))).toBe(true)
    expect(isAddressIn(address('fc00::'), network('fd00::/8'))).toBe(false)
  })

  it('lies within one that holds all of its addresses', () => {
    expect(isNetworkWithin(network('10.1.0.0/16'), network('10.0.0.0/8'))).toBe(true)
    expect(isNetworkWithin(network('10.0.0.0/8'), network('10.0.0.0/8'))).toBe(true)
    expect(isNetworkWithin(network('10.0.0.0/7'), network('10.0.0.0/8'))).toBe(false)
    expect(isNetworkWithin(network('::/0'), network('0.0.0.0/0'))).toBe(false)
  })
})
