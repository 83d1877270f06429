import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { makeDirectory } from '../../src/server/make-directory.ts'
import { runCommand } from '../cli/command.ts'

const directory = mkdtempSync(join(tmpdir(), 'agentca-mkdir-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

it('makes what is missing for its owner alone, and leaves what is there', () => {
  const path = join(directory, 'a', 'b', 'c')
  makeDirectory(path)
  makeDirectory(path)
  for (const each of ['a', 'a/b', 'a/b/c']) expect(statSync(join(directory, each)).mode & 0o777).toBe(0o700)
})

it('is refused below a file, and where a file system takes none, instead of trying for ever', () => {
  writeFileSync(join(directory, 'file'), '')
  expect(() => makeDirectory(join(directory, 'file', 'x'))).toThrow(expect.objectContaining({ code: 'ENOTDIR' }))
  expect(() => makeDirectory('/proc/agentca/x')).toThrow(expect.objectContaining({ code: 'directory_unusable' }))
})

it('ends agentca init in procfs with one line and exit code 2', async () => {
  const { code, out, err } = await runCommand(['init', '--home', '/proc/agentca'], { cwd: directory })
  expect([code, out]).toEqual([2, ''])
  expect(err.trim().split('\n')).toHaveLength(2)
  expect(err).toContain('/proc takes no directory')
  expect(err).toContain('--home')
})
