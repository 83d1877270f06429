// How a foreign program is found, and why one is skipped.
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { foreignPackages } from '../../scripts/bootstrap.mjs'
import { textOf } from '../setup/documents.ts'
import { pageFile, parsePage } from './page.ts'
import { find, isAtLeast, type Subject, versionIn } from './subject.ts'

const foreign: Subject = { name: 'Foreign', programs: ['agentca-foreign'], version: ['-v'], from: 'Debian: foreign' }

let directory: string
const install = (script: string): void => {
  writeFileSync(join(directory, 'agentca-foreign'), `#!/bin/sh\n${script}\n`)
  chmodSync(join(directory, 'agentca-foreign'), 0o755)
}
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-subject-'))
  vi.stubEnv('PATH', `${directory}:${process.env.PATH}`)
})
afterAll(() => {
  vi.unstubAllEnvs()
  rmSync(directory, { recursive: true, force: true })
})

describe('a foreign program', () => {
  it('that is not here is skipped by its name, with what brings it', () => {
    expect(find(foreign)).toEqual({ missing: 'Foreign is not here: no agentca-foreign (Debian: foreign)' })
  })

  it('is found on PATH, and says its version on either stream', () => {
    install('echo "foreign version 2.4.1 (Debian)" >&2')
    const found = find(foreign)
    expect(found).toMatchObject({ version: '2.4.1' })
    expect('path' in found && found.path('agentca-foreign')).toBe(join(directory, 'agentca-foreign'))
    expect(() => 'path' in found && found.path('another')).toThrow('Foreign does not declare another')
  })

  it('that is too old is skipped by its version', () => {
    install('echo 1.19')
    expect(find({ ...foreign, atLeast: '1.21' })).toEqual({
      missing: 'Foreign 1.19 is too old, 1.21 is needed (Debian: foreign)',
    })
  })

  it('that does not run is skipped, with its reason', () => {
    install('exit 3')
    expect(find(foreign)).toEqual({
      missing: expect.stringMatching(/^Foreign does not run here \(Debian: foreign\): /),
    })
  })
})

describe('a Debian package of docs/compatibility.md', () => {
  /** What agentca itself or other tests need (planSetup), or every Debian has. */
  const elsewhere = ['openssl', 'gnutls-bin', 'nginx', 'haproxy', 'python3']
  const packages = parsePage(textOf(pageFile)).flatMap(({ from }) => /^Debian: (\S+)$/.exec(from)?.[1] ?? [])

  it.each([...new Set(packages)])('is installed by the set-up: %s', name => {
    expect([...Object.keys(foreignPackages), ...elsewhere]).toContain(name)
  })
})

describe('a version', () => {
  it.each([
    ['nginx version: nginx/1.22.1', '1.22.1'],
    ['go version go1.26.8 linux/amd64', '1.26.8'],
    ['Redis server v=7.0.15 sha=00000000:0', '7.0.15'],
    ['OpenSSL 3.0.17 1 Jul 2025', '3.0.17'],
    ['none', ''],
  ])('is found in %s', (text, version) => expect(versionIn(text)).toBe(version))

  it('is compared number by number', () => {
    expect(isAtLeast('1.26.8', '1.21')).toBe(true)
    expect(isAtLeast('1.19', '1.21')).toBe(false)
    expect(isAtLeast('1.21', '1.21.0')).toBe(true)
    expect(isAtLeast('0.66.0', '1.71')).toBe(false)
  })
})
