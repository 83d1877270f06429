// Identifiers of orders, and whose they are.
import { describe, expect, it } from 'vitest'
import type { AcmeError } from '../../src/acme/errors.ts'
import { grantedNames, ownName, parseIdentifiers } from '../../src/acme/identifiers.ts'
import { parseTrustDomain } from '../../src/pki/spiffe.ts'
import type { Registration } from '../../src/store/records.ts'

const domain = parseTrustDomain('example.org')

const refusal = (value: unknown): AcmeError => {
  try {
    parseIdentifiers(value)
  } catch (error) {
    return error as AcmeError
  }
  throw new Error('expected a refusal')
}

const service = (dnsNames: readonly string[]) =>
  ({ kind: 'service', name: 'orders', dnsNames }) as unknown as Registration

describe('identifiers of an order', () => {
  it('come in their one form, each once (RFC 8738 §3, RFC 5952)', () => {
    expect(
      parseIdentifiers([
        { type: 'dns', value: 'Orders.Example' },
        { type: 'dns', value: 'orders.example' },
        { type: 'ip', value: '2001:DB8:0:0::1' },
      ]),
    ).toEqual([
      { type: 'dns', value: 'orders.example' },
      { type: 'ip', value: '2001:db8::1' },
    ])
  })

  it.each([
    ['none', []],
    ['no list', { type: 'dns', value: 'a.example' }],
    ['no value', [{ type: 'dns' }]],
    ['an address as a name', [{ type: 'dns', value: '127.0.0.1' }]],
    ['a trailing dot', [{ type: 'dns', value: 'a.example.' }]],
    ['a wildcard inside', [{ type: 'dns', value: 'a.*.example' }]],
    ['a zone', [{ type: 'ip', value: 'fe80::1%eth0' }]],
    ['a leading zero', [{ type: 'ip', value: '010.0.0.1' }]],
    ['too many', Array.from({ length: 101 }, (_, i) => ({ type: 'dns', value: `n${i}.example` }))],
  ])('that are %s are malformed', (_, value) => {
    expect(refusal(value).code).toBe('malformed')
  })

  it('of another type are unsupported, and a mixture of faults is compound with one subproblem each (RFC 8555 §6.7.1)', () => {
    expect(refusal([{ type: 'email', value: 'a@example.org' }]).code).toBe('unsupportedIdentifier')
    const mixed = refusal([
      { type: 'email', value: 'a@example.org' },
      { type: 'dns', value: 'a..example' },
      { type: 'dns', value: 'good.example' },
    ])
    expect(mixed.code).toBe('compound')
    expect(mixed.subproblems.map(({ type, identifier }) => [type, identifier?.value])).toEqual([
      ['unsupportedIdentifier', 'a@example.org'],
      ['malformed', 'a..example'],
    ])
  })
})

describe('granted names', () => {
  it('are those of registration and binding, letter for letter, the own one, and the common name', () => {
    const granted = grantedNames(
      service(['Orders.Internal', '192.0.2.7']),
      [{ type: 'dns', value: '*.orders.example' }],
      domain,
    )
    expect([...granted].sort()).toEqual([
      'dns:*.orders.example',
      'dns:orders.internal',
      'dns:orders.service.example.org',
      'dns:svc-orders',
      'ip:192.0.2.7',
    ])
    expect(granted.has('dns:a.orders.example')).toBe(false)
  })

  it('have no own one where the trust domain is no DNS name', () => {
    expect(ownName({ kind: 'agent', name: 'a' }, parseTrustDomain('under_score.example'))).toBeNull()
    expect(ownName({ kind: 'agent', name: 'a' }, domain)?.value).toBe('a.agent.example.org')
  })
})
