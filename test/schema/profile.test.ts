import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parseDuration } from '../../src/schema/document.ts'
import { SchemaError } from '../../src/schema/errors.ts'
import { parseProfile } from '../../src/schema/profile.ts'

const directory = new URL('../../ca-config/profiles/', import.meta.url)
const faultsOf = (text: string): readonly string[] => {
  try {
    parseProfile('p', text)
    return []
  } catch (error) {
    return (error as SchemaError).faults.map(fault => fault.path)
  }
}

describe('a profile', () => {
  it.each(readdirSync(directory))('of ca-config loads: %s', file => {
    expect(parseProfile(file.replace('.yaml', ''), readFileSync(new URL(file, directory), 'utf8')).hash).toMatch(
      /^[0-9a-f]{64}$/,
    )
  })

  it('has the defaults of the design', () =>
    expect(parseProfile('p', 'kind: agent')).toMatchObject({
      lifetime: 3600,
      backdate: 60,
      extendedKeyUsage: ['clientAuth'],
      keyReuse: 'never',
    }))

  it('has one hash for one content, whatever the order and the comments', () => {
    const hash = parseProfile('p', 'kind: agent\nlifetime: 1h').hash
    expect(parseProfile('p', '# note\nlifetime: 60m\nkind: agent').hash).toBe(hash)
    expect(parseProfile('p', 'kind: agent\nlifetime: 2h').hash).not.toBe(hash)
  })

  it('reports all faults at once, each with its path', () =>
    expect(
      faultsOf(
        'kind: robot\nlifetime: soon\nextra: 1\nrecovery: {mode: magic, more: 2}\nkeyAlgorithms: [P-224]\ninstances: 0',
      ),
    ).toEqual(
      expect.arrayContaining([
        'kind',
        'lifetime',
        'extra',
        'recovery.mode',
        'recovery.more',
        'keyAlgorithms.0',
        'instances',
      ]),
    ))

  it.each(['', 'kind: [', 'kind: agent\nkind: agent', 'a: &a 1\nkind: *a', 'just text'])(
    'refuses %j as a whole',
    text => expect(() => parseProfile('p', text)).toThrow(SchemaError),
  )
})

it('a duration is a whole number and one unit', () => {
  expect([parseDuration('90s'), parseDuration('10m'), parseDuration('1h'), parseDuration('30d')]).toEqual([
    90, 600, 3600, 2_592_000,
  ])
  for (const text of ['', '0s', '1', '1.5h', '-1h', '1w', '1h30m', ' 1h']) expect(parseDuration(text)).toBeNull()
})
