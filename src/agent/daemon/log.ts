// The daemon's log: one line an event on standard error, for people or as JSON. Under systemd each line says how grave it is.
import type { Log, LogFields } from '../../base/log.ts'
import { printable } from '../../base/printable.ts'
import type { DaemonIo } from './io.ts'
import { oneOf, type Values } from './options.ts'

type Level = 'debug' | 'info' | 'warn' | 'error'

/** sd-daemon(3): `<N>` in front of a line is its priority. */
const priorities: Readonly<Record<Level, string>> = { debug: '<7>', info: '<6>', warn: '<4>', error: '<3>' }

const plain = (value: unknown): unknown => (value instanceof Error ? value.message : value)

const fieldText = ([name, value]: readonly [string, unknown]): string => {
  const text = typeof value === 'string' ? value : JSON.stringify(plain(value))
  return ` ${name}=${/^[^\s"]+$/.test(text) ? text : JSON.stringify(text)}`
}

export interface LogOptions {
  readonly format: 'text' | 'json'
  readonly verbose: boolean
}

export const createLog = (io: DaemonIo, { format, verbose }: LogOptions, inherited: LogFields = {}): Log => {
  const journal = io.env.JOURNAL_STREAM !== undefined && format === 'text'
  const write = (level: Level, fields: LogFields, message: string): void => {
    if (level === 'debug' && !verbose) return
    const all = Object.entries({ ...inherited, ...fields }).filter(([, value]) => value !== undefined && value !== null)
    if (format === 'json') {
      const flat = Object.fromEntries(all.map(([name, value]) => [name, plain(value)]))
      io.err(`${JSON.stringify({ at: new Date().toISOString(), level, message, ...flat })}\n`)
      return
    }
    const line = `${message}${all.map(fieldText).join('')}`
    io.err(`${journal ? priorities[level] : 'agentca-agent: '}${printable(line)}\n`)
  }
  return {
    debug: (fields, message) => write('debug', fields, message),
    info: (fields, message) => write('info', fields, message),
    warn: (fields, message) => write('warn', fields, message),
    error: (fields, message) => write('error', fields, message),
    child: fields => createLog(io, { format, verbose }, { ...inherited, ...fields }),
  }
}

/** As the options of a command say. @throws AgentError `option_invalid` */
export const logOf = (io: DaemonIo, values: Values): Log =>
  createLog(io, { format: oneOf(values, 'log-format', ['text', 'json']), verbose: values.verbose === true })
