// Files that others read while they are replaced: written beside, fsynced, renamed, directory fsynced. A reader sees the old bytes or
// the new ones, also after a power cut.
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { coalesced } from './coalesced.ts'
import type { Pieces } from './pieces.ts'

/** Public data, whatever the umask says: web servers of another user read it. */
const fileMode = 0o644

export interface PublishedFile {
  /** @returns null when there is no such file. @throws the error of the file system */
  read(): Promise<Uint8Array | null>
  /** Whether the last successful `read` or `show` had these bytes. */
  shows(content: Uint8Array): boolean
  /**
   * Resolves when these bytes, or newer ones given meanwhile, are durable under the name. The bytes must not change afterwards.
   * @throws the error of the file system; the old file is then untouched
   */
  show(content: Uint8Array | Pieces): Promise<void>
}

/** One of them a path. */
export const createPublishedFile = (path: string): PublishedFile => {
  let wanted: Uint8Array | Pieces | null = null
  let shown: Uint8Array | Pieces | null = null
  const shows = (content: Uint8Array | Pieces): boolean =>
    content === shown ||
    (shown instanceof Uint8Array && content instanceof Uint8Array && Buffer.compare(content, shown) === 0)
  const write = coalesced(async (): Promise<void> => {
    const content = wanted
    if (content === null || shows(content)) return
    await replaceFile(path, content)
    shown = content
  })
  return {
    shows,
    read: async () => {
      const read = await readFile(path).then(
        bytes => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length),
        (error: NodeJS.ErrnoException) => {
          if (error.code === 'ENOENT') return null
          throw error
        },
      )
      shown = read
      return read
    },
    show: content => {
      wanted = content
      return write()
    },
  }
}

/** A directory that somebody removed is made again. */
const openBeside = async (path: string): Promise<FileHandle> => {
  try {
    return await open(path, 'w', fileMode)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    await mkdir(dirname(path), { recursive: true, mode: 0o755 })
    return open(path, 'w', fileMode)
  }
}

const replaceFile = async (path: string, content: Uint8Array | Pieces): Promise<void> => {
  const directory = dirname(path)
  const beside = join(directory, `.${basename(path)}.tmp`)
  const file = await openBeside(beside)
  try {
    await file.chmod(fileMode)
    await file.writeFile(content)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(beside, path)
  const parent = await open(directory, 'r')
  try {
    await parent.sync()
  } finally {
    await parent.close()
  }
}

/** Makes the directory and removes what a crash left half written in it. */
export const preparePublicDirectory = async (path: string): Promise<void> => {
  await mkdir(path, { recursive: true, mode: 0o755 })
  const leftovers = (await readdir(path)).filter(name => name.startsWith('.') && name.endsWith('.tmp'))
  for (const name of leftovers) await rm(join(path, name), { force: true })
}
