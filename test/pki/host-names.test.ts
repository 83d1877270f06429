import { isIP } from 'node:net'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { toHex } from '../../src/base/bytes.ts'
import { ipAddressText, isDnsName, parseIpAddress } from '../../src/pki/host-names.ts'

/** What WHATWG's parser makes of an IPv6 literal: the text of RFC 5952. */
const urlText = (address: string): string => new URL(`http://[${address}]/`).hostname.slice(1, -1)

describe('an IP address', () => {
  it('is text that node:net takes for one, and no other (RFC 4291 §2.2)', () => {
    const group = fc.oneof(
      fc.constantFrom('', '0', '::', ':', '12345', '1.2.3.4', 'g'),
      fc.nat({ max: 0xffff }).map(n => n.toString(16)),
    )
    const anyText = fc.oneof(
      fc.ipV4(),
      fc.ipV6(),
      fc.ipV4Extended(),
      fc.array(group, { minLength: 1, maxLength: 9 }).map(parts => parts.join(':')),
      fc.array(fc.nat({ max: 300 }), { minLength: 3, maxLength: 5 }).map(parts => parts.join('.')),
    )
    fc.assert(
      fc.property(anyText, text => {
        expect(parseIpAddress(text)?.length ?? 0).toBe({ 0: 0, 4: 4, 6: 16 }[isIP(text)])
      }),
      { numRuns: 2000 },
    )
  })

  it('comes back as the one text of RFC 5952', () => {
    const sparse = fc.array(fc.oneof(fc.constant(0), fc.nat({ max: 0xffff })), { minLength: 8, maxLength: 8 })
    fc.assert(
      fc.property(sparse, groups => {
        const octets = Uint8Array.from(groups.flatMap(group => [group >> 8, group & 0xff]))
        const text = ipAddressText(octets)
        expect(text).toBe(urlText(text))
        expect(toHex(parseIpAddress(text)!)).toBe(toHex(octets))
      }),
      { numRuns: 2000 },
    )
    expect(ipAddressText(parseIpAddress('2001:DB8:0:0:1:0:0:1')!)).toBe('2001:db8::1:0:0:1')
    expect(ipAddressText(parseIpAddress('::ffff:192.0.2.1')!)).toBe('::ffff:c000:201')
    expect(ipAddressText(parseIpAddress('127.0.0.1')!)).toBe('127.0.0.1')
  })

  it.each([
    '',
    '127.0.0.01',
    '0x7f.0.0.1',
    '1.2.3',
    '[::1]',
    'fe80::1%eth0',
    '10.0.0.0/8',
    ':::',
    '1::2::3',
    'localhost',
  ])('is not %j', text => expect(parseIpAddress(text)).toBeNull())
})

describe('a DNS name', () => {
  it.each(['localhost', 'a.b', 'orders.internal', 'x--y.example', '*.example.org', '1.example', `${'a'.repeat(63)}.b`])(
    'in preferred name syntax: %s',
    name => expect(isDnsName(name)).toBe(true),
  )
  const long = `${'abcdefg.'.repeat(32)}a`
  it.each([
    '',
    '.',
    'a.',
    '.a',
    'a..b',
    '-a.b',
    'a-.b',
    'A.b',
    'a_b.c',
    'ä.b',
    '*',
    '*.org',
    'a.*.b',
    'a*.b.c',
    '127.0.0.1',
    'a b',
  ])('is not %j', name => expect(isDnsName(name)).toBe(false))
  it('has at most 253 characters and labels of at most 63', () => {
    expect(isDnsName(long)).toBe(false)
    expect(isDnsName(`${'a'.repeat(64)}.b`)).toBe(false)
  })
})
