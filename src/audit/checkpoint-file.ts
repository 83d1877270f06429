// Signed notes one after the other in a file that only grows, a blank line between them: on another disk, or collected by another
// machine, it shows a log that was rolled back or rewritten. A note that a power cut tore is cut off before the next is appended.
import { type FileHandle, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fromUtf8, utf8 } from '../base/bytes.ts'
import { AgentCaError } from '../base/errors.ts'
import { type ParsedNote, parseNote } from './checkpoint.ts'

/** Several notes long: the last whole one is in it. */
const tailBytes = 8192

interface Tail {
  /** null: none yet. */
  readonly lastNote: ParsedNote | null
  /** Where the last whole note ends, in bytes. */
  readonly end: number
  readonly size: number
}

const wholeNotes = /(?:^|\n)(?<note>[^\n]+\n(?:[^\n]+\n)+\n\u2014 [^\n]+\n)/g

const readTail = async (file: FileHandle, path: string, origin: string): Promise<Tail> => {
  const { size } = await file.stat()
  const buffer = new Uint8Array(Math.min(size, tailBytes))
  await file.read(buffer, 0, buffer.length, size - buffer.length)
  // Cut at a line, so that the decoding is strict from there on.
  const from = size > tailBytes ? buffer.indexOf(0x0a) + 1 : 0
  const foreign = (cause?: unknown): AgentCaError<'conflict'> =>
    new AgentCaError('conflict', `${path} holds something else than checkpoints of ${origin}`, { cause })
  let text: string
  let lastNote: ParsedNote | null = null
  let end = 0
  try {
    text = fromUtf8(buffer.subarray(from))
    const last = [...text.matchAll(wholeNotes)].at(-1)
    if (last !== undefined) {
      lastNote = parseNote(last.groups!.note!)
      end = last.index + last[0].length
    }
  } catch (cause) {
    throw foreign(cause)
  }
  const torn = text.slice(end).replace(/^\n/, '')
  const first = `${origin}\n`
  const ours = torn.startsWith(first) || first.startsWith(torn)
  if (!ours || (lastNote !== null && lastNote.origin !== origin)) throw foreign()
  return { lastNote, end: size - buffer.length + from + utf8(text.slice(0, end)).length, size }
}

/**
 * Durable when it resolves.
 * @throws AgentCaError `conflict` when the file holds something else; the error of the file system
 */
export const appendNote = async (path: string, origin: string, note: string): Promise<void> => {
  const file = await open(path, 'a+', 0o644)
  try {
    const { end, size } = await readTail(file, path, origin)
    if (end < size) await file.truncate(end)
    await file.writeFile(`${end === 0 ? '' : '\n'}${note}`)
    await file.sync()
    if (size === 0) await syncDirectory(dirname(path))
  } finally {
    await file.close()
  }
}

const syncDirectory = async (path: string): Promise<void> => {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/** @returns null when there is no file, or nothing in it. @throws as appendNote */
export const lastNoteOf = async (path: string, origin: string): Promise<ParsedNote | null> => {
  let file: FileHandle
  try {
    file = await open(path, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
  try {
    return (await readTail(file, path, origin)).lastNote
  } finally {
    await file.close()
  }
}
