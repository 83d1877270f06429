import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { oid, printableString, sequence, set, utf8String } from '../../src/pki/der.ts'
import {
  checkRegisteredName,
  commonNameFor,
  commonNameOf,
  comparableName,
  encodeName,
  equalNames,
  nameToString,
  parseName,
  type ShortName,
} from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { codeOf } from './refusal.ts'

const commonName = (value: Uint8Array) => sequence(set(sequence(oid(oidOf.commonName), value)))

describe('names', () => {
  it('what is encoded is parsed again, in order', () => {
    const attribute = fc.tuple(
      fc.constantFrom<ShortName>('CN', 'O', 'OU', 'L'),
      fc.string({ unit: 'grapheme', minLength: 1 }),
    )
    fc.assert(
      fc.property(fc.array(attribute), attributes => {
        const name = parseName(encodeName(attributes))
        expect(name.rdns.map(rdn => rdn[0]!.value)).toEqual(attributes.map(([, value]) => value))
      }),
    )
  })

  it('print by RFC 4514: most specific first, special characters escaped', () => {
    const name = parseName(
      encodeName([
        ['DC', 'org'],
        ['O', 'A, "B" + C'],
        ['CN', ' #x;<>\\ '],
      ]),
    )
    expect(nameToString(name)).toBe('CN=\\ #x\\;\\<\\>\\\\\\ ,O=A\\, \\"B\\" \\+ C,DC=org')
    expect(nameToString(parseName(commonName(Uint8Array.of(3, 2, 0, 1))))).toBe('CN=#03020001')
    expect(() => parseName(commonName(Uint8Array.of(5, 0)))).toThrow('no value of a name has tag 0x5')
  })

  it('the last common name is the one that counts', () => {
    expect(
      commonNameOf(
        parseName(
          encodeName([
            ['CN', 'a'],
            ['O', 'x'],
            ['CN', 'b'],
          ]),
        ),
      ),
    ).toBe('b')
    expect(commonNameOf(parseName(encodeName([])))).toBeNull()
  })

  it('compare without regard to case, string type and runs of spaces (RFC 5280 §7.1)', () => {
    const a = commonName(utf8String('Good  CA '))
    expect(equalNames(a, commonName(printableString('good ca')))).toBe(true)
    expect(equalNames(a, commonName(printableString('good cb')))).toBe(false)
    expect(
      equalNames(
        encodeName([
          ['O', 'a'],
          ['CN', 'b'],
        ]),
        encodeName([
          ['CN', 'b'],
          ['O', 'a'],
        ]),
      ),
    ).toBe(false)
    expect(equalNames(Uint8Array.of(1), Uint8Array.of(1))).toBe(true)
    expect(equalNames(Uint8Array.of(1), Uint8Array.of(2))).toBe(false)
  })

  it('have texts that are equal exactly when the names are', () => {
    const names = [
      commonName(utf8String('Good  CA ')),
      commonName(printableString('good ca')),
      commonName(printableString('good cb')),
      encodeName([['CN', '","']]),
      encodeName([
        ['CN', '"'],
        ['CN', '"'],
      ]),
      encodeName([]),
      Uint8Array.of(1),
      Uint8Array.of(2),
    ]
    for (const a of names) for (const b of names) expect(comparableName(a) === comparableName(b)).toBe(equalNames(a, b))
    expect(new Set(names.map(comparableName)).size).toBe(names.length - 1)
  })

  it('any bytes are parsed or refused, never more', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), bytes => void codeOf(() => parseName(bytes))))
  })
})

describe('registered names', () => {
  it('make common names with the prefix of their kind, at most 64 in all', () => {
    expect(commonNameFor('agent', 'billing-1')).toBe('agent-billing-1')
    expect(commonNameFor('service', 'orders')).toBe('svc-orders')
    expect(commonNameFor('operator', 'ann')).toBe('op-ann')
    expect(commonNameFor('agent', 'a'.repeat(58))).toHaveLength(64)
    expect(codeOf(() => commonNameFor('agent', 'a'.repeat(59)))).toBe('agent_name_malformed')
  })

  it.each(['', '-a', 'a-', '-', 'A', 'a_b', 'a.b', 'a b', 'ä', 'a\n', 'a/b'])('%j is none', name => {
    expect(codeOf(() => checkRegisteredName('service', name))).toBe('agent_name_malformed')
  })
})
