// A disk that fails for one process when a test says so: builds shims/disk-fault.c, which that process is started with.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export interface DiskFault {
  /** `write`: whatever changes a file, opening it for that included. `sync`: fsync. */
  readonly call: 'write' | 'sync'
  readonly errno: 'ENOSPC' | 'EIO' | 'EROFS' | 'EDQUOT'
  /** For files whose path begins so. */
  readonly under: string
}

export interface FailingDisk extends Disposable {
  readonly env: Readonly<Record<string, string>>
  fail(fault: DiskFault): void
  heal(): void
}

const source = fileURLToPath(new URL('./shims/disk-fault.c', import.meta.url))

export const buildFailingDisk = (): FailingDisk => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-disk-'))
  const library = join(directory, 'disk.so')
  const control = join(directory, 'control')
  const flags = ['-shared', '-fPIC', '-O1', '-std=gnu11', '-w', `-DCONTROL_FILE="${control}"`]
  execFileSync('gcc', [...flags, '-o', library, source, '-ldl'])
  return {
    env: { LD_PRELOAD: library },
    fail: ({ call, errno, under }) => {
      writeFileSync(`${control}.new`, `${call} ${constants.errno[errno]} ${under}\n`)
      renameSync(`${control}.new`, control)
    },
    heal: () => rmSync(control, { force: true }),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  }
}
