import { describe, expect, it } from 'vitest'
import { isAllowedAddress } from '../../../src/acme/validation/allowed-address.ts'
import { parseIpAddress } from '../../../src/pki/host-names.ts'
import { networks } from './probe-world.ts'

const allowed = (address: string, ...texts: readonly string[]): boolean =>
  isAllowedAddress(parseIpAddress(address) as Uint8Array, networks(...texts))

describe('an address that probes may connect to', () => {
  it('lies in a network of the configuration; an empty list allows none', () => {
    expect(allowed('10.1.2.3')).toBe(false)
    expect(allowed('10.1.2.3', '10.0.0.0/8')).toBe(true)
    expect(allowed('11.1.2.3', '10.0.0.0/8')).toBe(false)
    expect(allowed('fd12::1', '10.0.0.0/8', 'fd00::/8')).toBe(true)
  })

  it.each([
    '127.0.0.1',
    '127.255.255.254',
    '0.0.0.0',
    '0.1.2.3',
    '169.254.169.254',
    '192.0.0.192',
    '100.100.100.200',
    '168.63.129.16',
    '224.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::127.0.0.1',
    '::ffff:127.0.0.1',
    '::ffff:10.0.0.1',
    '::ffff:0:10.0.0.1',
    '64:ff9b::7f00:1',
    '64:ff9b:1::a00:1',
    '2002:7f00:1::1',
    '2001:0:7f00:1::1',
    'fd00:ec2::254',
    'fd20:ce::254',
    'fe80::1',
    'fec0::1',
    'ff02::1',
  ])('is not %s because everything is allowed: special ones are named by themselves', address => {
    expect(allowed(address, '0.0.0.0/0', '::/0')).toBe(false)
    expect(allowed(address, address)).toBe(true)
  })

  it('a network that reaches beyond the special one does not name it', () => {
    expect(allowed('127.0.0.1', '126.0.0.0/7')).toBe(false)
    expect(allowed('127.0.0.1', '127.0.0.0/8')).toBe(true)
    expect(allowed('100.100.100.200', '100.64.0.0/10')).toBe(false)
    expect(allowed('100.100.100.201', '100.64.0.0/10')).toBe(true)
  })
})
