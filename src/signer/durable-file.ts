// Small state files that must survive a power cut: written beside, fsynced, renamed, directory fsynced. Synchronous on purpose:
// the caller must not go on before the bytes are down.
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  fchownSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname } from 'node:path'

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants

/** A file or a directory: what it holds now outlives a power cut. */
export const syncPath = (path: string): void => {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

const syncDirectory = (path: string): void => syncPath(dirname(path))

/**
 * Mode 0600. Atomic: a reader sees the old or the new content.
 * @param owner of the file, where root writes for somebody else. Whoever owns the directory may put links there: the name cannot be
 *   known beforehand, no link is followed, and the file is theirs before it has its name.
 */
export const writeDurably = (
  path: string,
  content: string,
  owner: { readonly uid: number; readonly gid: number } | null = null,
): void => {
  const beside = `${path}.${randomBytes(8).toString('hex')}.tmp`
  const fd = openSync(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
  try {
    try {
      if (owner !== null) fchownSync(fd, owner.uid, owner.gid)
      writeFileSync(fd, content)
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    renameSync(beside, path)
  } catch (error) {
    rmSync(beside, { force: true })
    throw error
  }
  syncDirectory(path)
}

export const removeDurably = (path: string): void => {
  rmSync(path, { force: true })
  syncDirectory(path)
}

/** @returns null when the file does not exist */
export const readIfPresent = (path: string): string | null => {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

/** @returns milliseconds since the epoch; null when the file does not exist or may not be looked at */
export const modifiedAt = (path: string): number | null => {
  try {
    return statSync(path).mtimeMs
  } catch {
    return null
  }
}
