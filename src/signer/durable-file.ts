// Small state files that must survive a power cut: written beside, fsynced, renamed, directory fsynced. Synchronous on purpose:
// the caller must not go on before the bytes are down.
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'

const syncDirectory = (path: string): void => {
  const fd = openSync(dirname(path), 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** Mode 0600. Atomic: a reader sees the old or the new content. */
export const writeDurably = (path: string, content: string): void => {
  const beside = `${path}.${process.pid}.tmp`
  const fd = openSync(beside, 'w', 0o600)
  try {
    writeSync(fd, content)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  renameSync(beside, path)
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
