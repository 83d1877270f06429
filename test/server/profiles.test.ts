import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import type { SchemaError } from '../../src/schema/errors.ts'
import { loadProfiles } from '../../src/server/profiles.ts'

const directories: string[] = []
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true })
})

const directoryOf = (files: Readonly<Record<string, string>>): string => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-profiles-'))
  directories.push(directory)
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text)
  return directory
}

const faultsOf = (directory: string): readonly string[] => {
  try {
    loadProfiles(directory)
    return []
  } catch (error) {
    return (error as SchemaError).faults.map(fault => fault.path)
  }
}

describe('the directory of profiles', () => {
  it('gives a book of its files, named as they are', () => {
    const directory = directoryOf({
      'b.yaml': 'kind: service',
      'a-1.yaml': 'kind: agent',
      'README.md': 'not a profile',
    })
    expect(
      loadProfiles(directory)
        .list()
        .map(({ name, kind }) => [name, kind]),
    ).toEqual([
      ['a-1', 'agent'],
      ['b', 'service'],
    ])
  })

  it('tells every fault of every file at once, with file and key: of the text, of the schema, of the ceilings', () => {
    const directory = directoryOf({
      'good.yaml': 'kind: agent',
      'long.yaml': 'kind: agent\nlifetime: 2d\nbackdate: 1h',
      'schema.yaml': 'kind: robot\nextra: 1',
      'text.yaml': 'kind: [',
      'other.yml': 'kind: agent',
      'Upper.yaml': 'kind: agent',
    })
    expect(faultsOf(directory)).toEqual([
      'Upper.yaml',
      'long.yaml:lifetime',
      'long.yaml:backdate',
      'other.yml',
      'schema.yaml:kind',
      'schema.yaml:extra',
      'text.yaml',
    ])
  })

  it('must be there, and hold a profile', () => {
    expect(faultsOf(directoryOf({}))).toEqual([''])
    expect(faultsOf(join(directoryOf({}), 'missing'))).toEqual([''])
  })

  it('of ca-config has the seven profiles of a new installation', () => {
    const book = loadProfiles(join(import.meta.dirname, '../../ca-config/profiles'))
    expect(book.list().map(({ name, kind, lifetimeSeconds }) => [name, kind, lifetimeSeconds])).toEqual([
      ['acme', 'agent', 604_800],
      ['acme-service', 'service', 604_800],
      ['agent', 'agent', 3600],
      ['agent-short', 'agent', 600],
      ['api', 'service', 30 * 86_400],
      ['operator', 'operator', 43_200],
      ['service', 'service', 86_400],
    ])
    expect(book.get('api')).toMatchObject({ extendedKeyUsage: ['clientAuth', 'serverAuth'], dnsNames: 'registration' })
    expect(book.get('agent-short')).toMatchObject({ noRevAvail: 'present', revocationUrls: 'absent' })
  })
})
