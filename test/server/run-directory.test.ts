// Where the sockets lie: beside the database, or, with a long home, in a short directory that everybody finds and nobody else owns.
import { chownSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { homePaths } from '../../src/server/home.ts'
import { makeRunDirectory } from '../../src/server/run-directory.ts'

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-run-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

describe('the sockets', () => {
  test('lie in the home while their paths fit into sockaddr_un', () => {
    expect(homePaths('/var/lib/agentca').adminSocket).toBe('/var/lib/agentca/run/admin.sock')
  })

  test('of a long home are short, its own, and the same for whoever looks, whatever TMPDIR says', () => {
    const [long, other] = [`/home/${'x'.repeat(90)}`, `/home/${'y'.repeat(90)}`]
    const { run, adminSocket } = homePaths(long)
    expect(Buffer.byteLength(adminSocket)).toBeLessThanOrEqual(100)
    expect(homePaths(other).run).not.toBe(run)
    vi.stubEnv('TMPDIR', directory)
    expect(homePaths(long).run).toBe(run)
    vi.unstubAllEnvs()
  })
})

describe('their directory', () => {
  test('is made for this user alone, also where it was open before', () => {
    const run = join(directory, 'run')
    mkdirSync(run, { mode: 0o777 })
    makeRunDirectory(run)
    makeRunDirectory(run)
    expect(statSync(run).mode & 0o777).toBe(0o700)
  })

  test('is refused where a link leads elsewhere', () => {
    const link = join(directory, 'link')
    symlinkSync(directory, link)
    expect(() => makeRunDirectory(link)).toThrow(expect.objectContaining({ code: 'run_directory_unsafe' }))
  })

  test.runIf(process.getuid?.() === 0)('is refused where somebody else made it', () => {
    const foreign = join(directory, 'foreign')
    mkdirSync(foreign)
    chownSync(foreign, 65_534, 65_534)
    expect(() => makeRunDirectory(foreign)).toThrow(expect.objectContaining({ code: 'run_directory_unsafe' }))
  })
})
