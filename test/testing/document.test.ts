// The example of docs/testing.md, run as it is printed; and that nothing of the product leads to the folder it imports.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, test } from 'vitest'
import { blockWith } from '../setup/documents.ts'

const source = join(import.meta.dirname, '../../src')

test('the example of docs/testing.md passes', () => {
  const { text } = blockWith('docs/testing.md', 'js', "from 'agentca/testing'")
  const entry = (name: string): string => pathToFileURL(join(source, name, 'index.ts')).href
  const directory = mkdtempSync(join(tmpdir(), 'agentca-testing-doc-'))
  try {
    const file = join(directory, 'example.test.mjs')
    const here = text.replace(/'agentca\/(testing|verifier|agent)'/g, (_, name: string) => `'${entry(name)}'`)
    expect(here).not.toBe(text)
    writeFileSync(file, here)
    const { NODE_OPTIONS: _, NODE_ENV: __, AGENTCA_HOME: ___, NODE_TEST_CONTEXT: ____, ...env } = process.env
    const said = execFileSync(process.execPath, ['--test', file], { encoding: 'utf8', env })
    expect(said).toMatch(/pass 1\b[\s\S]*fail 0\b/)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
})

/** Every file that a file imports, statically or not, and whatever those import. */
const closureOf = (entry: string, seen = new Set<string>()): ReadonlySet<string> => {
  if (seen.has(entry)) return seen
  seen.add(entry)
  for (const [, specifier] of readFileSync(entry, 'utf8').matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g))
    closureOf(resolve(dirname(entry), specifier as string), seen)
  return seen
}

test('neither the server nor a command, the SDK or the verifier can load software keys', () => {
  const entries = ['cli/main.ts', 'signer/main.ts', 'agent/index.ts', 'verifier/index.ts', 'server/serve.ts']
  for (const entry of entries) {
    const closure = [...closureOf(join(source, entry))].map(file => file.slice(source.length + 1))
    expect(closure.length, entry).toBeGreaterThan(5)
    expect(
      closure.filter(file => file.startsWith('testing/')),
      entry,
    ).toEqual([])
  }
  const naming = readdirSync(source, { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ts') && !name.startsWith('testing/'))
    .filter(name => /['"`][^'"`\n]*\/testing(?:\/|['"`])/.test(readFileSync(join(source, name), 'utf8')))
  expect(naming).toEqual([])
})
