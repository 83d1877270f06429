// Where a copy of the ledger lies while it is packed or unpacked: in the home, on the same disk and under the same protection as the
// ledger itself; gone afterwards, and what a killed process left behind goes with the next one.
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const prefix = '.backup-'

const isRunning = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // EPERM: it is somebody else's, and runs.
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

const removeStale = (home: string): void => {
  for (const name of readdirSync(home)) {
    if (!name.startsWith(prefix)) continue
    const pid = Number(name.slice(prefix.length))
    if (pid === process.pid || !Number.isInteger(pid) || isRunning(pid)) continue
    rmSync(join(home, name), { recursive: true, force: true })
  }
}

export interface Scratch extends Disposable {
  readonly directory: string
}

const endings = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const

/** Whoever interrupts the command leaves nothing readable behind. */
const goneAtEnd = (directory: string): Scratch => {
  const remove = () => rmSync(directory, { recursive: true, force: true })
  const handlers = Object.entries(endings).map(([signal, code]) => [signal, () => process.exit(code)] as const)
  process.once('exit', remove)
  for (const [signal, handler] of handlers) process.once(signal, handler)
  return {
    directory,
    [Symbol.dispose]: () => {
      process.off('exit', remove)
      for (const [signal, handler] of handlers) process.off(signal, handler)
      remove()
    },
  }
}

/** Where no home is, such as on the machine of an operator who looks at a backup. */
export const makeScratchAnywhere = (): Scratch => goneAtEnd(mkdtempSync(join(tmpdir(), 'agentca-backup-')))

/** One at a time in a process. */
export const makeScratch = (home: string): Scratch => {
  removeStale(home)
  const directory = join(home, `${prefix}${process.pid}`)
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { mode: 0o700 })
  return goneAtEnd(directory)
}
