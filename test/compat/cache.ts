// What takes long to make for a foreign language is made once: Go programs, crates, classes, virtual environments. Outside the repository, by
// the hash of all that goes into it, so that a change makes another one. It may be removed at any time.
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

export const cacheFolder = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'agentca-compat')

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** One maker at a time; whoever finds the mark of a process that is gone takes its place. */
const locked = async <T>(file: string, work: () => Promise<T>): Promise<T> => {
  const take = (): boolean => {
    try {
      writeFileSync(file, String(process.pid), { flag: 'wx' })
      return true
    } catch {
      try {
        const pid = Number(readFileSync(file, 'utf8'))
        if (pid > 0 && !isAlive(pid)) rmSync(file, { force: true })
      } catch {
        // It has just been given back.
      }
      return false
    }
  }
  // As long as the slowest compiler takes; the test that waits has a time of its own.
  while (!take()) await delay(100)
  try {
    return await work()
  } finally {
    rmSync(file, { force: true })
  }
}

/**
 * @param name of the thing, kebab-case
 * @param inputs all that it is made from: sources, versions of compilers, lists of packages
 * @param make fills the empty directory, which is where the thing stays; throws where it cannot be made
 * @returns that directory
 */
export const cached = async (
  name: string,
  inputs: readonly string[],
  make: (directory: string) => Promise<unknown>,
): Promise<string> => {
  const hash = createHash('sha256').update(JSON.stringify(inputs)).digest('hex').slice(0, 16)
  const directory = join(cacheFolder, `${name}-${hash}`)
  const complete = join(directory, '.complete')
  if (existsSync(complete)) return directory
  mkdirSync(cacheFolder, { recursive: true })
  return locked(`${directory}.lock`, async () => {
    if (existsSync(complete)) return directory
    rmSync(directory, { recursive: true, force: true })
    mkdirSync(directory)
    await make(directory)
    writeFileSync(complete, '')
    return directory
  })
}
