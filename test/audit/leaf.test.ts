import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { canonicalJson, createLeaf, emptyHead, extendHead, hashLeaf } from '../../src/audit/leaf.ts'
import { fromUtf8, toHex } from '../../src/base/bytes.ts'

const value = fc.letrec<{ value: never }>(tie => ({
  value: fc.oneof(
    fc.string({ unit: 'grapheme' }),
    fc.maxSafeInteger().filter(n => !Object.is(n, -0)),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.string(), tie('value'), { maxKeys: 4, noNullPrototype: true }),
  ) as never,
})).value

describe('canonical JSON (RFC 8785)', () => {
  it('reads back as the same value and is a fixed point', () => {
    fc.assert(
      fc.property(value, facts => {
        const text = canonicalJson(facts)
        expect(JSON.parse(text)).toEqual(facts)
        expect(canonicalJson(JSON.parse(text))).toBe(text)
      }),
    )
  })

  it('does not depend on the order in which members were set', () =>
    expect(canonicalJson({ b: 1, a: { d: [], c: null } })).toBe('{"a":{"c":null,"d":[]},"b":1}'))

  it.each([1.5, Number.NaN, 2 ** 53, -0, '\ud800'])('refuses %s, which has no one form', bad => {
    expect(() => canonicalJson(bad)).toThrow(TypeError)
  })
})

describe('a leaf', () => {
  const leaf = createLeaf('revoked', { at: 1, who: 'operator:ann', requestId: 'r1' }, 'agent:a', {
    reason: 'keyCompromise',
    gone: undefined,
  })

  it('holds who, what and when in canonical bytes, and nothing that is not known', () =>
    expect(fromUtf8(leaf.bytes)).toBe(
      '{"at":1,"event":"revoked","reason":"keyCompromise","req":"r1","sub":"agent:a","who":"operator:ann"}',
    ))

  it('cannot have its place or its bytes changed without changing the head', () => {
    const [a, b] = [hashLeaf(leaf.bytes), hashLeaf(new Uint8Array())]
    expect(toHex(b)).toBe('6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d') // RFC 6962's hash of an empty leaf
    expect(extendHead(extendHead(emptyHead, a), b)).not.toEqual(extendHead(extendHead(emptyHead, b), a))
  })
})
