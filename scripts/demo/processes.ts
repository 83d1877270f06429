// Processes of the demonstration: the command line run to its end, and programs that speak in JSON lines.
import { type ChildProcess, spawn } from 'node:child_process'
import { openSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

export const root = join(import.meta.dirname, '../..')
const cli = join(root, 'bin/agentca')

export interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

/** `agentca ARGS…`; never rejects for an exit code. */
export const agentca = (...args: readonly string[]): Promise<Ran> =>
  new Promise((resolve, reject) => {
    const child = spawn(cli, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    let [out, err] = ['', '']
    child.stdout.on('data', chunk => {
      out += chunk
    })
    child.stderr.on('data', chunk => {
      err += chunk
    })
    child.once('error', reject)
    child.once('close', code => resolve({ code: code ?? 1, out, err }))
  })

/** What it said last, with its cure, in one line; its log is not for people. */
const reasonOf = (err: string): string => {
  const lines = err.trim().split('\n')
  const words = lines.filter(line => !line.startsWith('{')).map(line => line.trim().replace(/^agentca: /, ''))
  return words.join('; ') || (lines.at(-1) ?? '')
}

/** A command that failed, in its own words; its exit code becomes ours. */
export class CommandFailed extends Error {
  readonly code: number
  constructor({ code, err }: Ran, args: readonly string[]) {
    super(reasonOf(err) || `agentca ${args.join(' ')} ended with ${code}`)
    this.code = code
  }
}

/** The same, but an exit code other than 0 is the end. @returns its JSON */
export const agentcaJson = async <T>(...args: readonly string[]): Promise<T> => {
  const ran = await agentca(...args, '-o', 'json')
  if (ran.code !== 0) throw new CommandFailed(ran, args)
  return JSON.parse(ran.out) as T
}

export interface Line {
  readonly event?: string
  readonly at?: number
  readonly [fact: string]: unknown
}

export interface Speaker {
  readonly child: ChildProcess
  /** The next line for which this holds. @throws when the program ends before, or says nothing of the kind for a minute */
  next(wanted: (line: Line) => boolean): Promise<Line>
  stop(): Promise<void>
}

/** Starts a program whose stdout is JSON lines; its stderr goes to `logFile`. */
export const speak = (
  command: readonly [string, ...string[]],
  options: { readonly env?: Readonly<Record<string, string>>; readonly logFile: string },
): Speaker => {
  const [program, ...args] = command
  const log = openSync(options.logFile, 'a', 0o600)
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', log], env: { ...process.env, ...options.env } })
  const waiting = new Set<{
    wanted: (line: Line) => boolean
    resolve: (line: Line) => void
    reject: (error: Error) => void
  }>()
  let ended: string | null = null
  createInterface({ input: child.stdout! }).on('line', text => {
    if (!text.startsWith('{')) return
    const line = JSON.parse(text) as Line
    for (const each of waiting)
      if (each.wanted(line)) {
        waiting.delete(each)
        each.resolve(line)
      }
  })
  const end = (how: string): void => {
    ended = how
    for (const { reject } of waiting) reject(new Error(`${args[0]} ended: ${how}; see ${options.logFile}`))
    waiting.clear()
  }
  child.once('error', error => end(error.message))
  child.once('close', (code, signal) => end(String(signal ?? `exit code ${code}`)))
  const next: Speaker['next'] = wanted =>
    new Promise((resolve, reject) => {
      if (ended !== null) return reject(new Error(`${args[0]} ended: ${ended}; see ${options.logFile}`))
      const silent = setTimeout(() => {
        waiting.delete(waiter)
        reject(new Error(`${args[0]} did not say what was expected within a minute; see ${options.logFile}`))
      }, 60_000)
      const settle =
        <T>(settled: (value: T) => void) =>
        (value: T): void => {
          clearTimeout(silent)
          settled(value)
        }
      const waiter = { wanted, resolve: settle(resolve), reject: settle(reject) }
      waiting.add(waiter)
    })
  return {
    child,
    next,
    stop: async () => {
      if (ended !== null) return
      const gone = new Promise(resolve => child.once('close', resolve))
      child.kill('SIGTERM')
      const force = setTimeout(() => child.kill('SIGKILL'), 15_000)
      await gone
      clearTimeout(force)
    },
  }
}
