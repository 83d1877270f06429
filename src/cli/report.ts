// How a failure is told: what, why, and the next command, on standard error; with `-o json` as one problem document.

import { type AgentCaError, isAgentCaError, messageOf } from '../base/errors.ts'
import { printable, printableJson } from '../base/printable.ts'
import { ServerRefusal } from './errors.ts'
import type { CommandIo } from './io.ts'
import { paint } from './output.ts'

/** `-o json` as it stands in the arguments: a command line that could not be parsed has no options yet. */
export const wantsJson = (argv: readonly string[]): boolean =>
  argv.some(
    (arg, at) =>
      /^(?:-o=?|--output=)jsonl?$/.test(arg) || (/^jsonl?$/.test(arg) && /^(?:-o|--output)$/.test(argv[at - 1] ?? '')),
  )

const documentOf = (error: unknown): Readonly<Record<string, unknown>> => {
  if (error instanceof ServerRefusal) return { ...error.problem }
  if (!isAgentCaError(error)) return { code: 'internal', detail: messageOf(error) }
  const { code, message, hint, facts } = error
  return {
    code,
    detail: message,
    ...(hint === undefined ? {} : { hint }),
    ...(Object.keys(facts).length === 0 ? {} : { facts }),
  }
}

/** Every fault of a document on a line of its own; the other facts are for programs. */
const faultsOf = (error: AgentCaError): readonly string[] => {
  const faults = error instanceof ServerRefusal ? error.problem.facts?.faults : error.facts.faults
  return Array.isArray(faults) && faults.length > 1 ? faults.map(String) : []
}

export const reportError = (io: CommandIo, error: unknown, format: 'text' | 'json'): void => {
  if (format === 'json') {
    io.err(`${printableJson(JSON.stringify(documentOf(error)))}\n`)
    return
  }
  // Colours are decided for standard output; standard error may lead into a file meanwhile.
  const name = paint({ colours: io.colours && io.isTerminal }, 'red', 'agentca:')
  io.err(`${name} ${printable(messageOf(error))}\n`)
  if (!isAgentCaError(error)) {
    // Nobody foresaw it, so the stack is what helps.
    if (error instanceof Error && error.stack !== undefined) io.err(`${error.stack.split('\n').slice(1).join('\n')}\n`)
    return
  }
  for (const fault of faultsOf(error)) io.err(`  why:  ${printable(fault)}\n`)
  if (error.hint !== undefined) io.err(`  hint: ${printable(error.hint)}\n`)
  if (error instanceof ServerRefusal) io.err(`  request ${error.problem.requestId} (${error.code})\n`)
}
