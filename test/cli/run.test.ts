// The command line as a whole: exit codes, where errors go, what they say.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'
import { exitCodeOfError } from '../../src/cli/errors.ts'
import { systemError } from '../../src/cli/system-error.ts'
import { runCommand } from './command.ts'

describe('a command line', () => {
  it('answers version on standard output with exit code 0', async () => {
    const { code, out, err } = await runCommand(['version', '-o', 'json'])
    expect([code, err]).toEqual([0, ''])
    expect(JSON.parse(out)).toMatchObject({ version: expect.stringMatching(/^\d+\.\d+\.\d+/) })
  })

  it.each([
    [['versoin'], "unknown command 'versoin'", 'did you mean version?'],
    [['version', '--outptu', 'json'], "unknown option '--outptu'", 'did you mean --output?'],
    [['version', '-o', 'xml'], 'Allowed choices are table, json', 'agentca version --help'],
    [['version', 'now'], 'too many arguments', 'agentca version --help'],
  ])('refuses %j with exit code 2, what is wrong and what to type', async (argv, what, hint) => {
    const { code, out, err } = await runCommand(argv)
    expect([code, out]).toEqual([2, ''])
    expect(err).toContain(what)
    expect(err).toContain(`  hint: ${hint}\n`)
  })

  it('tells a usage error as one JSON document where JSON is asked for', async () => {
    const { code, out, err } = await runCommand(['versoin', '--output=json'])
    expect([code, out]).toEqual([2, ''])
    expect(JSON.parse(err)).toEqual({
      code: 'usage',
      detail: "unknown command 'versoin'",
      hint: 'did you mean version?',
    })
  })

  it('says which path the operating system refuses, without a stack', async () => {
    const file = join(root, 'package.json')
    for (const argv of [
      ['init', '--home', join(file, 'home')],
      ['serve', '--home', join(file, 'home')],
    ]) {
      const { code, out, err } = await runCommand(argv)
      expect([code, out]).toEqual([2, ''])
      expect(err).toMatch(/^agentca: cannot open \S+\/package\.json\/home\/init\.json: .*\n {2}hint: name another home/)
      expect(err).not.toContain('    at ')
    }
  })

  it.each([
    ['EACCES', 4, 'file_not_permitted'],
    ['EROFS', 4, 'file_not_permitted'],
    ['ENOSPC', 7, 'disk_full'],
    ['ENOTDIR', 2, 'file_unusable'],
  ])('tells %s of a file by exit code %i', (code, exit, name) => {
    const error = systemError(Object.assign(new Error(code), { code, path: '/var/lib/agentca', syscall: 'mkdir' }))
    expect([error?.code, exitCodeOfError(error)]).toEqual([name, exit])
    expect(systemError(Object.assign(new Error(code), { code }))).toBeNull()
  })

  it('shows help on standard output when asked, and on standard error with exit code 2 when nothing was', async () => {
    const asked = await runCommand(['--help'])
    expect([asked.code, asked.err]).toEqual([0, ''])
    expect(asked.out).toContain('Usage: agentca')
    const byWord = await runCommand(['help', 'agent'])
    expect([byWord.code, byWord.out.split('\n')[0]]).toEqual([0, 'Usage: agentca agent [options] [command]'])
    const bare = await runCommand([])
    expect([bare.code, bare.out]).toEqual([2, ''])
    expect(bare.err).toContain('Usage: agentca')
  })
})

describe('bin/agentca', () => {
  it('runs from another directory, through a symbolic link, whichever Node starts it', () => {
    const directory = mkdtempSync(join(tmpdir(), 'agentca-bin-'))
    try {
      const link = join(directory, 'agentca')
      symlinkSync(join(root, 'bin', 'agentca'), link)
      const ran = spawnSync(link, ['version'], { cwd: directory, encoding: 'utf8' })
      expect(ran).toMatchObject({ status: 0, stderr: '' })
      expect(ran.stdout).toMatch(/^agentca \d+\.\d+\.\d+ \(node 26\.10\.0,/)
      expect(spawnSync(link, ['versoin'], { cwd: directory }).status).toBe(2)
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })
})
