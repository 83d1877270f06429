// What comes with the packages that are used: their licences, where they were fetched from, their install scripts, and the bill of materials
// that the package carries.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'

interface Locked {
  readonly version?: string
  readonly license?: string
  readonly dev?: boolean
  readonly integrity?: string
  readonly link?: boolean
  readonly hasInstallScript?: boolean
}

const readJson = <T>(path: string): T => JSON.parse(readFileSync(join(root, path), 'utf8')) as T
const { packages } = readJson<{ packages: Readonly<Record<string, Locked>> }>('package-lock.json')
const locked = Object.entries(packages).filter(([path]) => path !== '')
const nameOf = (path: string): string => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)

/** Whoever gets the package may do with them what its own licence (Apache 2.0) lets them do. */
const allowed = ['Apache-2.0', 'MIT', 'MIT OR Apache-2.0', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD']

/** Only used here, never handed on. */
const allowedInDevelopment: Readonly<Record<string, string>> = {
  'MPL-2.0': 'file-based: binds whoever changes and hands on those very files',
  '(BSD-3-Clause OR GPL-2.0)': 'ours to choose: BSD-3-Clause',
  '(MIT AND Zlib)': 'both let everything and demand a notice',
}

test('every package has a licence that the package may be handed on under', () => {
  const others = locked.filter(([, { license = 'none', dev }]) => {
    if (allowed.includes(license)) return false
    return !(dev === true && license in allowedInDevelopment)
  })
  expect(others.map(([path, { license }]) => `${path}: ${license}`)).toEqual([])
})

test('every package is pinned by its digest', () => {
  // Biome for other machines than the one that wrote the lock file: npm leaves out what it did not fetch.
  const elsewhere = (path: string, { dev }: Locked) => dev === true && path.startsWith('node_modules/@biomejs/cli-')
  const loose = locked.filter(
    ([path, entry]) => entry.integrity === undefined && entry.link !== true && !elsewhere(path, entry),
  )
  expect(loose.map(([path]) => path)).toEqual([])
})

test('every package with an install script is named, with a decision about it', () => {
  const { allowScripts } = readJson<{ allowScripts: Readonly<Record<string, boolean>> }>('package.json')
  const scripted = locked.filter(([, { hasInstallScript }]) => hasInstallScript === true).map(([path]) => nameOf(path))
  expect([...new Set(scripted)].filter(name => !(name in allowScripts))).toEqual([])
})

test('the bill of materials has each package that a user gets, with version and licence, and no other', () => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-sbom-'))
  try {
    const file = join(directory, 'sbom.cdx.json')
    execFileSync(process.execPath, [join(root, 'scripts/sbom.mjs'), file], { stdio: ['ignore', 'ignore', 'inherit'] })
    const bom = JSON.parse(readFileSync(file, 'utf8')) as {
      readonly bomFormat: string
      readonly components: readonly { readonly purl: string; readonly licenses?: readonly unknown[] }[]
    }
    expect(bom.bomFormat).toBe('CycloneDX')
    const wanted = locked
      .filter(([, { dev }]) => dev !== true)
      .map(([path, { version }]) => `${nameOf(path)}@${version}`)
    const listed = bom.components.map(({ purl }) => decodeURIComponent(purl).replace(/^pkg:npm\//, ''))
    expect(new Set(listed)).toEqual(new Set(wanted))
    expect(bom.components.filter(({ licenses = [] }) => licenses.length === 0)).toEqual([])
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
})
