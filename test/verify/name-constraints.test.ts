import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { dnsName, type GeneralName, ipName, uriName } from '../../src/pki/general-names.ts'
import { parseIpAddress } from '../../src/pki/host-names.ts'
import { encodeName } from '../../src/pki/names.ts'
import { usualBudget } from '../../src/verify/budget.ts'
import { type Fit, fitOf, formOf, type Subtree } from '../../src/verify/name-forms.ts'
import { ca, leaf, nameDer, resultOf, root } from './chains.ts'

const email = (value: string): GeneralName => ({ kind: 'email', value })
const directory = (...attributes: Parameters<typeof encodeName>[0]): GeneralName => ({
  kind: 'directory',
  nameDer: encodeName(attributes),
})
const network = (address: string, mask: string): GeneralName =>
  ipName(Uint8Array.from([...parseIpAddress(address)!, ...parseIpAddress(mask)!]))

/** Name, base, how it fits a subtree that permits, and one that excludes where that differs. */
type Row = readonly [string, string, Fit, Fit?]

const judge =
  (make: (value: string) => GeneralName) =>
  ([name, base, permitted, excluded = permitted]: Row): void => {
    const judged = (subtree: Subtree) => fitOf(make(name), make(base), subtree)
    expect([name, base, judged('permitted'), judged('excluded')]).toEqual([name, base, permitted, excluded])
  }

describe('forms of names within subtrees (RFC 5280 §4.2.1.10)', () => {
  it('DNS names: zero or more labels to the left', () => {
    const rows: readonly Row[] = [
      ['example.com', 'example.com', 'within'],
      ['WWW.Example.COM', 'example.com', 'within'],
      ['a.b.example.com', 'example.com', 'within'],
      ['notexample.com', 'example.com', 'outside'],
      ['com', 'example.com', 'outside'],
      ['example.com.evil.org', 'example.com', 'outside'],
      ['example.com', '.example.com', 'outside'],
      ['a.example.com', '.example.com', 'within'],
      ['example.com', '', 'within'],
      [`${'a.'.repeat(120)}a.example.com`, 'example.com', 'within'],
      [`${'a.'.repeat(121)}a.example.com`, 'example.com', 'unreadable'],
      ['example.com.', 'example.com', 'unreadable'],
      ['', 'example.com', 'unreadable'],
      ['a b.example.com', 'example.com', 'unreadable'],
      ['example.com', 'exa mple.com', 'unreadable'],
    ]
    rows.forEach(judge(dnsName))
  })

  it('DNS wildcards: all of what they stand for is permitted, none of it excluded', () => {
    const rows: readonly Row[] = [
      ['*.example.com', 'example.com', 'within'],
      ['*.example.com', '.example.com', 'within'],
      ['*.example.com', 'host.example.com', 'outside', 'within'],
      ['*.example.com', 'a.host.example.com', 'outside'],
      ['*.example.com', 'host.example.org', 'outside'],
      ['*', 'example.com', 'unreadable'],
      ['f*o.example.com', 'example.com', 'unreadable'],
      ['a.*.example.com', 'example.com', 'unreadable'],
    ]
    rows.forEach(judge(dnsName))
  })

  it('mail addresses: a mailbox, a host, or what lies below a domain', () => {
    const rows: readonly Row[] = [
      ['joe@example.com', 'joe@example.com', 'within'],
      ['joe@Example.COM', 'joe@example.com', 'within'],
      ['Joe@example.com', 'joe@example.com', 'outside'],
      ['j@example.com', 'j@example.com', 'within'],
      ['joe@example.com', '@example.com', 'unreadable'],
      ['joe@example.com', 'example.com', 'within'],
      ['joe@mail.example.com', 'example.com', 'outside'],
      ['joe@mail.example.com', '.example.com', 'within'],
      ['joe@example.com', '.example.com', 'outside'],
      ['"a@b"@example.com', 'example.com', 'within'],
      ['example.com', 'example.com', 'unreadable'],
      ['@example.com', 'example.com', 'unreadable'],
      ['joe@', 'example.com', 'unreadable'],
      ['joe@example.com', '', 'unreadable'],
    ]
    rows.forEach(judge(email))
  })

  it('URIs: their host, which has to be a name', () => {
    const rows: readonly Row[] = [
      ['spiffe://example.org/agent/a', 'example.org', 'within'],
      ['https://EXAMPLE.org:8443?q', 'example.org', 'within'],
      ['https://user:secret@example.org#f', 'example.org', 'within'],
      ['https://www.example.org/', 'example.org', 'outside'],
      ['https://www.example.org/', '.example.org', 'within'],
      ['https://example.org/', '.example.org', 'outside'],
      ['https://evil.com/@example.org', 'example.org', 'outside'],
      ['https://evil.com\\@example.org/', 'example.org', 'unreadable'],
      ['https://a@evil.com@example.org/', 'example.org', 'unreadable'],
      ['https://example%2eorg/', 'example.org', 'unreadable'],
      ['https://192.0.2.1/', '192.0.2.1', 'unreadable'],
      ['https://0xc0000201/', 'example.org', 'unreadable'],
      ['https://[2001:db8::1]/', 'example.org', 'unreadable'],
      ['urn:example.org', 'example.org', 'unreadable'],
      ['spiffe:///a', 'example.org', 'unreadable'],
    ]
    rows.forEach(judge(uriName))
  })

  it('addresses: of one family, under a mask that is a prefix', () => {
    const placed = (address: string, base: GeneralName) => fitOf(ipName(parseIpAddress(address)!), base, 'permitted')
    expect(placed('192.0.2.77', network('192.0.2.0', '255.255.255.0'))).toBe('within')
    expect(placed('192.0.3.77', network('192.0.2.0', '255.255.255.0'))).toBe('outside')
    expect(placed('192.0.2.130', network('192.0.2.128', '255.255.255.252'))).toBe('within')
    expect(placed('192.0.2.132', network('192.0.2.128', '255.255.255.252'))).toBe('outside')
    expect(placed('10.1.2.3', network('0.0.0.0', '0.0.0.0'))).toBe('within')
    expect(placed('2001:db8::1', network('2001:db8::', 'ffff:ffff::'))).toBe('within')
    expect(placed('2001:db9::1', network('2001:db8::', 'ffff:ffff::'))).toBe('outside')
    expect(placed('2001:db8::1', network('192.0.2.0', '255.255.255.0'))).toBe('outside')
    expect(placed('192.0.2.1', network('192.0.2.0', '255.0.255.0'))).toBe('unreadable')
    expect(placed('192.0.2.1', ipName(new Uint8Array(4)))).toBe('unreadable')
    expect(fitOf(ipName(new Uint8Array(5)), network('192.0.2.0', '255.255.255.0'), 'permitted')).toBe('unreadable')
  })

  it('directory names: RDN by RDN from the most significant one', () => {
    const base = directory(['C', 'DE'], ['O', 'Example'])
    const placed = (name: GeneralName) => fitOf(name, base, 'permitted')
    expect(placed(directory(['C', 'DE'], ['O', ' example ']))).toBe('within')
    expect(placed(directory(['C', 'DE'], ['O', 'Example'], ['CN', 'x']))).toBe('within')
    expect(placed(directory(['C', 'DE']))).toBe('outside')
    expect(placed(directory(['O', 'Example'], ['C', 'DE']))).toBe('outside')
    expect(fitOf(directory(['CN', 'x']), directory(), 'permitted')).toBe('within')
  })

  it('forms that nobody processes are unreadable, and each a form of its own', () => {
    const other = (tag: number): GeneralName => ({ kind: 'other', der: Uint8Array.of(tag, 0) })
    expect(formOf(other(0xa0))).not.toBe(formOf(other(0xa3)))
    expect(fitOf(other(0xa0), other(0xa0), 'permitted')).toBe('unreadable')
    const id: GeneralName = { kind: 'registeredId', oid: '1.2.3' }
    expect(fitOf(id, id, 'excluded')).toBe('unreadable')
  })

  it('any name fits any base in one of three ways, never more', () => {
    const text = fc.string({ unit: fc.constantFrom(...'ab.@*:/[]#?%\\-0 é'), maxLength: 12 })
    fc.assert(
      fc.property(text, text, fc.constantFrom<Subtree>('permitted', 'excluded'), (name, base, subtree) => {
        for (const make of [dnsName, uriName, email])
          expect(['within', 'outside', 'unreadable']).toContain(fitOf(make(name), make(base), subtree))
      }),
    )
  })
})

describe('constraints along a path', () => {
  const top = root()
  const below = (
    constraints: { permitted?: readonly GeneralName[]; excluded?: readonly GeneralName[] },
    names: readonly GeneralName[],
    subject = nameDer('a leaf'),
  ) => {
    const limited = ca('limited', top, { constraints: { permitted: [], excluded: [], ...constraints } })
    return resultOf([top, limited, leaf(limited, { names, subject })])
  }
  const org = uriName('spiffe://example.org/agent/a')

  it('leave names of other forms alone', () => {
    expect(below({ permitted: [dnsName('example.org')] }, [org])).toBe('valid')
    expect(below({ excluded: [dnsName('example.org')] }, [org])).toBe('valid')
  })

  it('hold for every name of the form', () => {
    const permitted = [uriName('example.org'), uriName('example.net')]
    expect(below({ permitted }, [org, uriName('spiffe://example.net/a')])).toBe('valid')
    expect(below({ permitted }, [org, uriName('spiffe://example.com/a')])).toBe('name_not_permitted')
    expect(below({ permitted, excluded: [uriName('example.net')] }, [org, uriName('spiffe://example.net/a')])).toBe(
      'name_not_permitted',
    )
  })

  it('refuse what cannot be read, whichever way they constrain', () => {
    const urn = [uriName('urn:x')]
    expect(below({ permitted: [uriName('example.org')] }, urn)).toBe('name_not_permitted')
    expect(below({ excluded: [uriName('example.org')] }, urn)).toBe('name_not_permitted')
    const id: GeneralName = { kind: 'registeredId', oid: '1.2.3' }
    expect(below({ permitted: [id] }, [org])).toBe('valid')
    expect(below({ permitted: [id] }, [id])).toBe('name_not_permitted')
    expect(below({ excluded: [id] }, [id])).toBe('name_not_permitted')
  })

  it('of directory names hold for the subject, where there is one', () => {
    const permitted = [directory(['O', 'Example'])]
    expect(
      below(
        { permitted },
        [org],
        encodeName([
          ['O', 'Example'],
          ['CN', 'x'],
        ]),
      ),
    ).toBe('valid')
    expect(below({ permitted }, [org], nameDer('x'))).toBe('name_not_permitted')
    expect(below({ permitted }, [org], encodeName([]))).toBe('valid')
    expect(below({ permitted }, [directory(['CN', 'x'])], encodeName([]))).toBe('name_not_permitted')
  })

  it('of several CAs hold all at once', () => {
    const first = ca('first', top, { constraints: { permitted: [uriName('example.org')], excluded: [] } })
    const second = ca('second', first, { constraints: { permitted: [uriName('.example.org')], excluded: [] } })
    expect(resultOf([top, first, leaf(first, { names: [org] })])).toBe('valid')
    expect(resultOf([top, first, second, leaf(second, { names: [org] })])).toBe('name_not_permitted')
    expect(resultOf([top, first, second, leaf(second)])).toBe('valid')
  })

  it('do not hold for CAs that issue to themselves, but for a leaf that does (RFC 5280 §6.1.3 (b))', () => {
    const limited = ca('limited', top, { constraints: { permitted: [], excluded: [directory(['CN', 'limited'])] } })
    const rekeyed = ca('limited', limited)
    expect(resultOf([top, limited, rekeyed, leaf(rekeyed)])).toBe('valid')
    expect(resultOf([top, limited, leaf(limited, { subject: 'limited' })])).toBe('name_not_permitted')
  })

  it('are paid for by the name', () => {
    const names = Array.from({ length: 200 }, (_, i) => uriName(`spiffe://example.org/${i}`))
    const excluded = Array.from({ length: 200 }, (_, i) => uriName(`example-${i}.com`))
    const limited = ca('limited', top, { constraints: { permitted: [], excluded } })
    const chain = [top, limited, leaf(limited, { names })]
    const judged = (nameComparisons: number) => resultOf(chain, { budget: { ...usualBudget, nameComparisons } })
    expect(judged(39_999)).toBe('budget_exceeded')
    expect(judged(40_000)).toBe('valid')
  })
})
