// The sidecar's log: a JSON line each on standard error, where service managers collect it. Standard output is for data.
import { isAgentCaError } from '../../base/errors.ts'
import type { Log, LogFields } from '../../base/log.ts'

const plain = (value: unknown): unknown => {
  if (!(value instanceof Error)) return value
  if (!isAgentCaError(value)) return { message: value.message, stack: value.stack }
  const { code, message, hint } = value
  return { code, message, ...(hint === undefined ? {} : { hint }) }
}

/** @param debug whether the finest level is written too */
export const createStderrLog = (write: (line: string) => void, debug: boolean, own: LogFields = {}): Log => {
  const at =
    (level: string) =>
    (fields: LogFields, msg: string): void => {
      const given = Object.fromEntries(
        Object.entries({ ...own, ...fields }).map(([name, value]) => [name, plain(value)]),
      )
      write(`${JSON.stringify({ level, time: new Date().toISOString(), pid: process.pid, ...given, msg })}\n`)
    }
  return {
    debug: debug ? at('debug') : () => {},
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: fields => createStderrLog(write, debug, { ...own, ...fields }),
  }
}
