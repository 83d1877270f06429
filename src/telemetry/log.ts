// The log: JSON lines by pino behind base's port. What goes out is plain data made here: secrets by their names, bytes and long texts
// by their size, errors by code and message. A stack is only for what nobody meant to throw.
import { pino } from 'pino'
import { isAgentCaError } from '../base/errors.ts'
import type { Log, LogFields } from '../base/log.ts'
import { printableJson } from '../base/printable.ts'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

export interface LogOptions {
  readonly level: LogLevel
  /** A file descriptor, 2 for stderr, written synchronously so that the last line before a crash is there; or anything that takes lines. */
  readonly destination: number | { write(line: string): void }
}

/** Members that never go out, whatever they hold: lower case, without `-` and `_`. */
const secretNames: ReadonlySet<string> = new Set([
  ...['pin', 'token', 'key', 'authorization', 'password', 'secret', 'cookie', 'privatekey', 'hmackey'],
  ...['csr', 'jws', 'jwt', 'evidence', 'body'],
])
const isSecret = (name: string): boolean => secretNames.has(name.toLowerCase().replace(/[-_]/g, ''))

const maxDepth = 6
const maxText = 2_048
const maxItems = 100

const plainError = (error: Error, depth: number): Record<string, unknown> => {
  const cause = error.cause === undefined ? {} : { cause: plain(error.cause, depth + 1) }
  const message = plain(error.message, depth)
  if (isAgentCaError(error) && error.code !== 'internal') {
    const { code, hint, facts } = error
    const told = Object.keys(facts).length === 0 ? {} : { facts: plain(facts, depth + 1) }
    return { code, message, ...(hint === undefined ? {} : { hint }), ...told, ...cause }
  }
  const { code } = error as { readonly code?: unknown }
  return { ...(code === undefined ? {} : { code: plain(code, depth + 1) }), message, stack: error.stack, ...cause }
}

/** Any value as data that JSON can hold, bounded in every direction. */
const plain = (value: unknown, depth: number): unknown => {
  if (typeof value === 'string')
    return value.length <= maxText ? value : `${value.slice(0, maxText)}… (${value.length} characters)`
  if (typeof value === 'bigint') return value.toString()
  if (typeof value !== 'object' || value === null) return value
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return `(${value.byteLength} bytes)`
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString()
  if (depth >= maxDepth) return '(too deep)'
  if (value instanceof Error) return plainError(value, depth)
  if (Array.isArray(value)) return value.slice(0, maxItems).map(item => plain(item, depth + 1))
  return plainFields(value as LogFields, depth + 1)
}

const plainFields = (fields: LogFields, depth: number): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(fields)
      .slice(0, maxItems)
      .map(([name, value]) => [name, isSecret(name) ? '(secret)' : plain(value, depth)]),
  )

const over = (logger: pino.Logger): Log => {
  const at =
    (level: LogLevel) =>
    (fields: LogFields, message: string): void => {
      if (logger.isLevelEnabled(level)) logger[level](plainFields(fields, 0), message)
    }
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: fields => over(logger.child(plainFields(fields, 0))),
  }
}

export const createLog = ({ level, destination }: LogOptions): Log =>
  over(
    pino(
      {
        level,
        base: { pid: process.pid },
        timestamp: pino.stdTimeFunctions.isoTime,
        formatters: { level: label => ({ level: label }) },
        // Errors are plain already; pino's own serializer would add to them.
        serializers: { err: (error: unknown) => error },
        // Whoever reads along reads it on a terminal.
        hooks: { streamWrite: printableJson },
      },
      typeof destination === 'number' ? pino.destination({ fd: destination, sync: true }) : destination,
    ),
  )
