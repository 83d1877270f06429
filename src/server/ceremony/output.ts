// Files a ceremony leaves behind: whole or not at all, and durable before anything says that they exist. Public material only; keys
// never leave their token.
import { chmodSync, closeSync, fsyncSync, linkSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { makeDirectory } from '../make-directory.ts'
import { CeremonyError } from './errors.ts'

export interface OutputFile {
  readonly path: string
  /** `new`: an existing file is an error. `replace`: it is exchanged in one step. */
  readonly mode: 'new' | 'replace'
}

const syncDirectory = (directory: string): void => {
  const fd = openSync(directory, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

const exists = (path: string): CeremonyError =>
  new CeremonyError('output_exists', `${path} exists already`, {
    hint: 'move it away, or name another file with --out',
  })

/** Mode 0644; missing directories are made 0700. @throws CeremonyError `output_exists` */
export const writeOutput = (output: OutputFile, content: string | Uint8Array): void => {
  const directory = dirname(output.path)
  makeDirectory(directory)
  const beside = `${output.path}.${process.pid}.tmp`
  const bytes = typeof content === 'string' ? Buffer.from(content, 'utf8') : content
  const fd = openSync(beside, 'w', 0o644)
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  // The umask of whoever runs the ceremony must not decide whether relying parties' tools can read a certificate.
  chmodSync(beside, 0o644)
  if (output.mode === 'replace') renameSync(beside, output.path)
  else
    try {
      linkSync(beside, output.path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw exists(output.path)
      throw error
    } finally {
      rmSync(beside, { force: true })
    }
  syncDirectory(directory)
}

/** Before anything irreversible: @throws CeremonyError `output_exists` */
export const checkOutputFree = (output: OutputFile, present: (path: string) => boolean): void => {
  if (output.mode === 'new' && present(output.path)) throw exists(output.path)
}
