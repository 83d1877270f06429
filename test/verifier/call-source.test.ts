// Where a call came from that a proxy forwards: by the last word of the proxy itself, or not known.
import { describe, expect, it } from 'vitest'
import { forwardedAddress, forwardedSource, plainAddress } from '../../src/verifier/call-source.ts'

describe('the address of a caller behind a proxy', () => {
  it.each([
    ['x-forwarded-for', '192.0.2.7', '192.0.2.7'],
    ['x-forwarded-for', '10.9.9.9, 203.0.113.5 ,192.0.2.7', '192.0.2.7'],
    ['x-forwarded-for', '2001:db8::7', '2001:db8::7'],
    ['x-forwarded-for', '[2001:db8::7]:4711', '2001:db8::7'],
    ['x-forwarded-for', '192.0.2.7:4711', '192.0.2.7'],
    ['x-forwarded-for', '::ffff:192.0.2.7', '192.0.2.7'],
    ['x-forwarded-for', '192.0.2.7, unknown', null],
    ['x-forwarded-for', '192.0.2.7,', null],
    ['x-forwarded-for', '', null],
    ['forwarded', 'for=192.0.2.43', '192.0.2.43'],
    ['forwarded', 'for=10.9.9.9, For="[2001:db8:cafe::17]:4711";proto=https;by=203.0.113.43', '2001:db8:cafe::17'],
    ['forwarded', 'for="10.9.9.9,for=10.8.8.8";proto=http, proto=https;for=192.0.2.7:80', '192.0.2.7'],
    // RFC 7239 §6.3: who hides is nowhere.
    ['forwarded', 'for=192.0.2.43, for=_hidden', null],
    ['forwarded', 'for=192.0.2.43, for=unknown', null],
    ['forwarded', 'for=192.0.2.43, by=10.0.0.1', null],
    ['forwarded', 'xfor=192.0.2.43', null],
    ['forwarded', 'for="192.0.2.43', null],
  ] as const)('in %s: %s', (header, value, address) => {
    expect(forwardedAddress(header, value)).toBe(address)
  })

  it('is not known where no header is configured, whatever the request says; the proxy is known by its socket', () => {
    const headers = { 'x-forwarded-for': '192.0.2.7', forwarded: 'for=192.0.2.8' }
    expect(forwardedSource(null, headers, '::ffff:10.0.0.5')).toEqual({ address: null, proxy: '10.0.0.5' })
    expect(forwardedSource('forwarded', headers, undefined)).toEqual({ address: '192.0.2.8', proxy: null })
    expect(forwardedSource('x-forwarded-for', {}, '10.0.0.5')).toEqual({ address: null, proxy: '10.0.0.5' })
  })

  it('is a plain address', () => {
    expect(['::ffff:192.0.2.7', 'fe80::1%eth0', '::1', 'localhost', '', undefined].map(plainAddress)).toEqual([
      ...['192.0.2.7', 'fe80::1%eth0', '::1'],
      ...[null, null, null],
    ])
  })
})
