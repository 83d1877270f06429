// The daemon's surroundings as one value, and how it tells a failure: what, why, and the next command, with an exit code that scripts
// can rely on (interfaces.md, Commands).
import { isAgentCaError, messageOf } from '../../base/errors.ts'
import { printable } from '../../base/printable.ts'
import { AgentError, type AgentErrorCode } from '../errors.ts'
import { agentExitCodes } from '../exit-codes.ts'

export interface DaemonIo {
  /** Data only. */
  readonly out: (text: string) => void
  /** Everything else. */
  readonly err: (text: string) => void
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
}

const exitByStatus: Readonly<Record<number, number>> = { 401: 4, 403: 4, 404: 3, 408: 7, 409: 6, 429: 7 }

/** @returns 1 for what nobody foresaw */
export const exitCodeOf = (error: unknown): number => {
  if (!(error instanceof AgentError)) return 1
  if (error.origin === 'agent') return agentExitCodes[error.code as AgentErrorCode] ?? 1
  const status = error.status ?? 0
  return exitByStatus[status] ?? (status >= 500 ? 7 : 2)
}

export const reportError = (io: Pick<DaemonIo, 'err'>, error: unknown, format: 'text' | 'json'): void => {
  const { message, hint, code, facts } = isAgentCaError(error)
    ? error
    : { message: messageOf(error), hint: undefined, code: 'internal', facts: {} }
  if (format === 'json') {
    io.err(`${JSON.stringify({ code, detail: message, ...(hint === undefined ? {} : { hint }), facts })}\n`)
    return
  }
  io.err(`agentca-agent: ${printable(message)}\n`)
  if (hint !== undefined) io.err(`  hint: ${printable(hint)}\n`)
  if (error instanceof AgentError && error.requestId !== null) io.err(`  request ${error.requestId} (${error.code})\n`)
  // Nobody foresaw it, so the stack is what helps.
  if (!isAgentCaError(error) && error instanceof Error) io.err(`${error.stack?.split('\n').slice(1).join('\n')}\n`)
}

/** Options in a table, for people. */
export const writeFields = (io: DaemonIo, fields: readonly (readonly [string, string])[]): void => {
  const width = Math.max(...fields.map(([label]) => label.length))
  for (const [label, value] of fields) io.out(`${label.padEnd(width)}  ${printable(value)}\n`)
}
