// What the operating system refuses about a file: not ours to foresee at each place, but the operator's to cure, and no stack helps.
import { CliError, type CliErrorCode } from './errors.ts'

interface Told {
  readonly code: CliErrorCode
  readonly what: string
  readonly hint: string
}

const notPermitted: Told = {
  code: 'file_not_permitted',
  what: 'permission denied',
  hint: 'run the command as the user that owns the CA’s home, or name another home with --home',
}
const wrongPlace: Told = {
  code: 'file_unusable',
  what: 'a part of this path is not what it should be',
  hint: 'name another home (--home, AGENTCA_HOME) or another file',
}
const full: Told = { code: 'disk_full', what: 'no space left', hint: 'make room, then run the same command again' }

const told: Readonly<Record<string, Told>> = {
  EACCES: notPermitted,
  EPERM: notPermitted,
  EROFS: { ...notPermitted, what: 'the file system is read-only' },
  ENOTDIR: wrongPlace,
  EISDIR: wrongPlace,
  ELOOP: wrongPlace,
  ENAMETOOLONG: wrongPlace,
  ENOSPC: full,
  EDQUOT: full,
}

/** @returns null for what is no refusal of the operating system about a named file */
export const systemError = (cause: unknown): CliError | null => {
  if (!(cause instanceof Error)) return null
  const { code = '', path, syscall = 'use' } = cause as NodeJS.ErrnoException
  const known = Object.hasOwn(told, code) ? told[code] : undefined
  if (known === undefined || path === undefined) return null
  return new CliError(known.code, `cannot ${syscall} ${path}: ${known.what}`, { cause, hint: known.hint })
}
