// A directory whose content is in memory and gone with the machine, for the identity of one program: no key reaches a disk. What a
// killed run left behind the next one of the same user removes.
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { access, lstat, mkdir, readdir, rm, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** f_type of statfs(2). */
const inMemory: ReadonlySet<number> = new Set([0x01021994, 0x858458f6])

const prefix = 'agentca-exec-'

const isInMemory = async (path: string): Promise<boolean> => {
  try {
    await access(path, constants.W_OK | constants.X_OK)
    // Node gives the 32 bits with their sign.
    return inMemory.has(Number((await statfs(path)).type) >>> 0)
  } catch {
    return false
  }
}

const isRunning = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

const removeLeftOver = async (base: string): Promise<void> => {
  for (const name of await readdir(base).catch(() => [])) {
    const pid = new RegExp(`^${prefix}(\\d{1,10})-[0-9a-f]{16}$`).exec(name)?.[1]
    if (pid === undefined || isRunning(Number(pid))) continue
    const path = join(base, name)
    const found = await lstat(path).catch(() => null)
    if (found?.isDirectory() === true && found.uid === process.getuid?.())
      await rm(path, { recursive: true, force: true })
  }
}

export interface MemoryDirectory extends AsyncDisposable {
  readonly path: string
  readonly kept: 'in memory' | 'on disk'
}

/** @param candidates file systems that may be in memory, best first */
export const createMemoryDirectory = async (candidates: readonly string[]): Promise<MemoryDirectory> => {
  let base: string | null = null
  for (const candidate of candidates) if (base === null && (await isInMemory(candidate))) base = candidate
  const place = base ?? tmpdir()
  await removeLeftOver(place)
  const path = join(place, `${prefix}${process.pid}-${randomBytes(8).toString('hex')}`)
  await mkdir(path, { mode: 0o700 })
  return {
    path,
    kept: base === null && !(await isInMemory(place)) ? 'on disk' : 'in memory',
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  }
}
