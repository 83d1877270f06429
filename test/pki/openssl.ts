// OpenSSL as the outside judge: files in a temporary directory that is removed with the test.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Bench extends Disposable {
  file(name: string, content: string | Uint8Array): string
  path(name: string): string
  /** stdout; throws with stderr when the exit code is not 0. */
  openssl(...args: string[]): string
  /** For expected failures. */
  try(...args: string[]): { readonly status: number | null; readonly output: string }
}

export const createBench = (): Bench => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-pki-'))
  const path = (name: string) => join(directory, name)
  return {
    path,
    file(name, content) {
      writeFileSync(path(name), content)
      return path(name)
    },
    openssl: (...args) =>
      execFileSync('openssl', args, { cwd: directory, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }),
    try(...args) {
      const { status, stdout, stderr } = spawnSync('openssl', args, { cwd: directory, encoding: 'utf8' })
      return { status, output: stdout + stderr }
    },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  }
}
