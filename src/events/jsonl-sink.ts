// Events as JSON lines in a file that only this user reads. A batch is on the disk before it counts as delivered. Rotation: move the file
// and send SIGHUP.
import { closeSync, constants, fdatasync, fstatSync, mkdirSync, openSync, readSync, write } from 'node:fs'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import type { Sink } from './sink.ts'

const writeTo = promisify(write) as (fd: number, bytes: Uint8Array) => Promise<{ bytesWritten: number }>
const sync = promisify(fdatasync)
const newline = 0x0a

/** A crash may have left half a line: whoever reads must not take it and the next one for one. */
const endsInTheMiddle = (fd: number): boolean => {
  const { size } = fstatSync(fd)
  if (size === 0) return false
  const last = new Uint8Array(1)
  return readSync(fd, last, 0, 1, size - 1) === 1 && last[0] !== newline
}

const writeAll = async (fd: number, bytes: Uint8Array): Promise<void> => {
  for (let at = 0; at < bytes.length; ) at += (await writeTo(fd, bytes.subarray(at))).bytesWritten
  await sync(fd)
}

export const createJsonlSink = (file: string): Sink => {
  let fd: number | null = null
  // Not while a batch is being written: the next one opens it again.
  let stale = false
  const close = (): void => {
    if (fd !== null) closeSync(fd)
    fd = null
    stale = false
  }
  const open = (): { readonly fd: number; readonly torn: boolean } => {
    if (stale) close()
    if (fd !== null) return { fd, torn: false }
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
    const flags = constants.O_APPEND | constants.O_CREAT | constants.O_RDWR
    fd = openSync(file, flags, 0o600)
    return { fd, torn: endsInTheMiddle(fd) }
  }
  return {
    name: 'jsonl',
    target: file,
    settleMs: 0,
    send: async events => {
      try {
        const opened = open()
        const text = events.map(({ json }) => `${json}\n`).join('')
        await writeAll(opened.fd, Buffer.from(opened.torn ? `\n${text}` : text, 'latin1'))
      } catch (error) {
        close()
        throw error
      }
    },
    lost: () => false,
    reopen: () => {
      stale = true
    },
    close: async () => close(),
  }
}
