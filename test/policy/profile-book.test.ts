import { describe, expect, it } from 'vitest'
import type { PolicyError } from '../../src/policy/errors.ts'
import { createProfileBook } from '../../src/policy/profile-book.ts'
import type { SchemaError } from '../../src/schema/errors.ts'
import { parseProfile } from '../../src/schema/profile.ts'

const faultsOf = (text: string): readonly string[] => {
  try {
    createProfileBook([parseProfile('p', text)])
    return []
  } catch (error) {
    return (error as SchemaError).faults.map(fault => fault.path)
  }
}

describe('no profile exceeds the ceilings', () => {
  it.each([
    ['a life below five minutes', 'kind: agent\nlifetime: 299s', ['p.lifetime']],
    ['an agent of more than a day', 'kind: agent\nlifetime: 86401s', ['p.lifetime']],
    ['a service of more than 90 days', 'kind: service\nlifetime: 91d', ['p.lifetime']],
    ['an operator of more than 90 days', 'kind: operator\nlifetime: 91d', ['p.lifetime']],
    ['a backdate of more than five minutes', 'kind: agent\nbackdate: 301s', ['p.backdate']],
    ['a backdate that the signer would count as life', 'kind: agent\nlifetime: 1d\nbackdate: 120s', ['p.backdate']],
    ['an agent as a server', 'kind: agent\nextendedKeyUsage: [clientAuth, serverAuth]', ['p.extendedKeyUsage']],
    ['an operator as a server', 'kind: operator\nextendedKeyUsage: [serverAuth]', ['p.extendedKeyUsage']],
    ['an operator with DNS names', 'kind: operator\ndnsNames: registration', ['p.dnsNames']],
    [
      'no revocation information for more than 15 minutes',
      'kind: agent\nlifetime: 901s\nrevocationUrls: absent\nnoRevAvail: present',
      ['p.noRevAvail'],
    ],
    [
      'places of revocation beside none (RFC 9608 §3)',
      'kind: agent\nlifetime: 10m\nnoRevAvail: present',
      ['p.revocationUrls'],
    ],
  ])('%s is refused', (_, text, paths) => expect(faultsOf(text)).toEqual(paths))

  it.each([
    'kind: agent\nlifetime: 300s',
    'kind: agent\nlifetime: 1d\nbackdate: 119s',
    'kind: agent\nlifetime: 23h\nbackdate: 300s',
    'kind: service\nlifetime: 90d\nextendedKeyUsage: [serverAuth]',
    'kind: agent\nlifetime: 15m\nrevocationUrls: absent\nnoRevAvail: present',
  ])('the ceiling itself is allowed: %j', text => expect(faultsOf(text)).toEqual([]))

  it('tells every fault of every profile at once', () => {
    const profiles = [
      parseProfile('a', 'kind: agent\nlifetime: 2d\nbackdate: 10m'),
      parseProfile('b', 'kind: operator\nextendedKeyUsage: [serverAuth]'),
      parseProfile('c', 'kind: agent'),
      parseProfile('c', 'kind: agent'),
    ]
    const expected = expect.objectContaining({
      faults: ['a.lifetime', 'a.backdate', 'b.extendedKeyUsage', 'c'].map(path => expect.objectContaining({ path })),
    })
    expect(() => createProfileBook(profiles)).toThrow(expected)
  })
})

describe('a profile book', () => {
  const book = createProfileBook([
    parseProfile('web', 'kind: service\nlifetime: 1d'),
    parseProfile('agent', 'kind: agent'),
  ])

  it('finds a profile by its name, with units and hash', () => {
    expect(book.get('agent')).toMatchObject({
      name: 'agent',
      hash: parseProfile('agent', 'kind: agent').hash,
      lifetimeSeconds: 3600,
      backdateSeconds: 60,
      rules: {
        profileHash: expect.any(String),
        instanceLimit: 50,
        keyReuse: 'never',
        recovery: { mode: 'none', count: 3, windowSeconds: 86_400 },
      },
    })
    expect(book.list().map(({ name }) => name)).toEqual(['agent', 'web'])
  })

  it.each(['', 'Agent', '__proto__', 'constructor'])('has no profile %j', name =>
    expect(() => book.get(name)).toThrow(expect.objectContaining({ code: 'profile_unknown' }) as PolicyError),
  )
})
