// Foreign programs: how one is declared and found on this machine. What is done with them: compat.ts.
import { execFileSync } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { hiddenPlaces } from '../../scripts/bootstrap.mjs'

/** A program that nobody here wrote, or a library of a language. */
export interface Subject {
  /** As docs/compatibility.md calls it. */
  readonly name: string
  /** All that its checks run, in this order. */
  readonly programs: readonly string[]
  /** Arguments by which the first of them tells its version, or another way to it; '' where there is none to be had. */
  readonly version: readonly string[] | ((found: Programs) => string)
  /** What brings it: `Debian: apache2`, `Go module: github.com/…`. Debian's packages are installed by scripts/bootstrap.mjs. */
  readonly from: string
  /** An older one is skipped, by its version: distributions keep compilers for years. */
  readonly atLeast?: string
}

export interface Programs {
  /** @returns where it lies @throws Error for one that the subject does not declare */
  path(program: string): string
}

export interface FoundSubject extends Programs {
  readonly version: string
}

const places = (): readonly string[] => [
  ...(process.env.PATH ?? '').split(delimiter).filter(Boolean),
  ...hiddenPlaces(),
]

const isExecutable = (file: string): boolean => {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}

export const locate = (program: string): string | null =>
  places()
    .map(directory => join(directory, program))
    .find(isExecutable) ?? null

/** The first number with a dot in it that a program says about itself. */
export const versionIn = (text: string): string => /\d+(?:\.\d+)+[\w.+-]*/.exec(text)?.[0] ?? ''

const numbers = (version: string): readonly number[] => version.split('.').map(part => Number.parseInt(part, 10) || 0)

export const isAtLeast = (version: string, wanted: string): boolean => {
  const have = numbers(version)
  for (const [at, part] of numbers(wanted).entries()) {
    const mine = have[at] ?? 0
    if (mine !== part) return mine > part
  }
  return true
}

/** Both streams: half of all programs tell their version on the other one. */
const saidBy = (program: string, args: readonly string[]): string =>
  execFileSync('/bin/sh', ['-c', 'exec "$0" "$@" 2>&1', program, ...args], { encoding: 'utf8', timeout: 60_000 })

/** @returns what was found, or why its checks are skipped */
export const find = (subject: Subject): FoundSubject | { readonly missing: string } => {
  const { name, from, atLeast } = subject
  const paths = new Map(subject.programs.map(program => [program, locate(program)]))
  const absent = subject.programs.filter(program => paths.get(program) === null)
  if (absent.length > 0) return { missing: `${name} is not here: no ${absent.join(', ')} (${from})` }
  const path = (program: string): string => {
    const place = paths.get(program)
    if (place == null) throw new Error(`${name} does not declare ${program}`)
    return place
  }
  const first = path(subject.programs[0] as string)
  let version: string
  try {
    version =
      typeof subject.version === 'function' ? subject.version({ path }) : versionIn(saidBy(first, subject.version))
  } catch (error) {
    return { missing: `${name} does not run here (${from}): ${String(error).split('\n', 1)[0]}` }
  }
  if (atLeast !== undefined && !isAtLeast(version, atLeast))
    return { missing: `${name} ${version} is too old, ${atLeast} is needed (${from})` }
  return { version, path }
}
