// Files and standard input as commands take them, with the fault told in one line.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { messageOf } from '../base/errors.ts'
import { CliError } from './errors.ts'
import type { CommandIo } from './io.ts'

/** Larger than any input a command takes whole. */
const maxInputBytes = 16 * 1024 * 1024

const reasonOf = (error: unknown): string => {
  const { code } = error as { code?: string }
  if (code === 'ENOENT') return 'there is no such file'
  if (code === 'EACCES') return 'permission denied'
  return code === 'EISDIR' ? 'it is a directory' : messageOf(error)
}

/** @param why what reading threw */
export const unreadable = (name: string, why: unknown): CliError =>
  new CliError('file_unreadable', `cannot read ${name}: ${reasonOf(why)}`)

/** @throws CliError file_unreadable */
export const readInput = (io: CommandIo, name: string): Uint8Array => {
  try {
    const bytes = readFileSync(resolve(io.cwd, name))
    if (bytes.length > maxInputBytes) throw new Error(`it has more than ${maxInputBytes} bytes`)
    return new Uint8Array(bytes)
  } catch (error) {
    throw unreadable(name, error)
  }
}

/** @throws CliError file_unreadable */
export const readInputText = (io: CommandIo, name: string): string => Buffer.from(readInput(io, name)).toString('utf8')

/** A secret from a file, or from standard input for `-`: one line, without its end. @throws CliError file_unreadable */
export const readSecret = async (io: CommandIo, name: string): Promise<string> => {
  const source = name === '-' ? 'standard input' : name
  const secret = (name === '-' ? await io.readStdin() : readInputText(io, name)).replace(/\r?\n$/, '')
  if (secret === '' || secret.includes('\n')) throw unreadable(source, new Error('expected one line with the secret'))
  return secret
}

/** Never over a file that is there. @param mode of what holds a secret: 0o600 @throws CliError file_not_written */
export const writeOutput = (io: CommandIo, name: string, content: string | Uint8Array, mode = 0o666): void => {
  const path = resolve(io.cwd, name)
  if (existsSync(path))
    throw new CliError('file_not_written', `${name} exists already`, { hint: 'remove it, or name another file' })
  try {
    writeFileSync(path, content, { flag: 'wx', mode })
  } catch (error) {
    throw new CliError('file_not_written', `cannot write ${name}: ${messageOf(error)}`)
  }
}
