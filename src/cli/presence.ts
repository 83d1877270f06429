// Whether something is there, as far as this user may know: what one is not permitted to look at is not missing.
import { opendirSync, statSync } from 'node:fs'
import { dirname } from 'node:path'

export type Presence = 'there' | 'absent' | 'not permitted'

const refusals: ReadonlySet<string> = new Set(['EACCES', 'EPERM'])
const isRefusal = (error: unknown): boolean => refusals.has((error as NodeJS.ErrnoException).code ?? '')

export const presenceOf = (path: string): Presence => {
  try {
    return statSync(path, { throwIfNoEntry: false }) === undefined ? 'absent' : 'there'
  } catch (error) {
    if (isRefusal(error)) return 'not permitted'
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return 'absent'
    throw error
  }
}

/** A directory whose entries this user may list and use. */
export const isOpen = (directory: string): boolean => {
  try {
    // Tried, not asked: access(2) answers for the real user, and files are opened by the effective one.
    opendirSync(directory).closeSync()
    statSync(`${directory}/.`)
    return true
  } catch (error) {
    if (isRefusal(error) || (error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

/** Who could look: the owner of the nearest part of the path that can be seen, as sudo takes it. */
export const ownerOf = (path: string): string => {
  try {
    return `#${statSync(path).uid}`
  } catch (error) {
    if (!isRefusal(error) || dirname(path) === path) throw error
    return ownerOf(dirname(path))
  }
}

/** The one cure there is. */
export const lookAsOwner = (path: string): string => `run it as the owner: sudo -u '${ownerOf(path)}' agentca doctor`
