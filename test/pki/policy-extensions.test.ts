import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fromHex } from '../../src/base/bytes.ts'
import { implicitPrimitive, integer, oid, sequence } from '../../src/pki/der.ts'
import { parseInhibitAnyPolicy, parsePolicyConstraints, parsePolicyMappings } from '../../src/pki/policy-extensions.ts'
import { codeOf } from './refusal.ts'

const skip = (n: number, certificates: number) => implicitPrimitive(n, Uint8Array.of(certificates))

describe('policy extensions', () => {
  it('mappings are pairs in their order (RFC 5280 §4.2.1.5)', () => {
    const value = sequence(sequence(oid('1.2.3'), oid('1.2.4')), sequence(oid('1.2.3'), oid('1.2.5')))
    expect(parsePolicyMappings(value)).toEqual([
      { issuerDomainPolicy: '1.2.3', subjectDomainPolicy: '1.2.4' },
      { issuerDomainPolicy: '1.2.3', subjectDomainPolicy: '1.2.5' },
    ])
  })

  it('constraints may have one number or both (RFC 5280 §4.2.1.11)', () => {
    expect(parsePolicyConstraints(sequence(skip(0, 3)))).toEqual({
      requireExplicitPolicy: 3,
      inhibitPolicyMapping: null,
    })
    expect(parsePolicyConstraints(sequence(skip(1, 0)))).toEqual({
      requireExplicitPolicy: null,
      inhibitPolicyMapping: 0,
    })
    expect(parsePolicyConstraints(sequence(skip(0, 1), skip(1, 2)))).toEqual({
      requireExplicitPolicy: 1,
      inhibitPolicyMapping: 2,
    })
  })

  it('inhibitAnyPolicy is a number (RFC 5280 §4.2.1.14)', () => {
    expect(parseInhibitAnyPolicy(integer(7))).toBe(7)
  })

  it('empty ones, negative numbers, a wrong order and trailing bytes are refused', () => {
    expect(codeOf(() => parsePolicyMappings(sequence()))).toBe('extension_malformed')
    expect(codeOf(() => parsePolicyMappings(sequence(sequence(oid('1.2.3')))))).toBe('der_malformed')
    expect(codeOf(() => parsePolicyConstraints(sequence()))).toBe('extension_malformed')
    expect(codeOf(() => parsePolicyConstraints(sequence(skip(0, 0x80))))).toBe('der_malformed')
    expect(codeOf(() => parsePolicyConstraints(sequence(skip(1, 1), skip(0, 1))))).toBe('der_malformed')
    expect(codeOf(() => parseInhibitAnyPolicy(integer(-1)))).toBe('der_malformed')
    expect(codeOf(() => parseInhibitAnyPolicy(fromHex('02010100')!))).toBe('der_malformed')
  })

  it('any value is parsed or refused, never more', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 24 }), value => {
        for (const parse of [parsePolicyMappings, parsePolicyConstraints, parseInhibitAnyPolicy])
          expect(codeOf(() => parse(value))).toMatch(/^(accepted|der_malformed|extension_malformed)$/)
      }),
    )
  })
})
