// A directory and those above it that are missing, one after the other. Node's own recursive mkdir never returns where a file system
// answers ENOENT although the directory above is there, as procfs does: it takes that for a parent to be made, for ever.
import { mkdirSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { ServerError } from './errors.ts'

const isThere = (path: string): boolean => statSync(path, { throwIfNoEntry: false }) !== undefined

/** Mode 0700 for what is made; what is there keeps its own. @throws ServerError `directory_unusable`; what the system refuses else */
export const makeDirectory = (directory: string): void => {
  const path = resolve(directory)
  if (isThere(path)) return
  makeDirectory(dirname(path))
  try {
    mkdirSync(path, { mode: 0o700 })
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    // Somebody else made it just now.
    if (code === 'EEXIST') return
    if (code !== 'ENOENT') throw cause
    throw new ServerError(
      'directory_unusable',
      `${dirname(path)} takes no directory: its file system holds no files of ours`,
      {
        cause,
        hint: 'name a place on a disk (--home, AGENTCA_HOME)',
      },
    )
  }
}
