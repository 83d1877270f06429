// One error for all faults of a text: an operator fixes a file once, not once per fault.
import { AgentCaError } from '../base/errors.ts'

/** Where in the document, and what is wrong with it. */
export interface Fault {
  /** `lifetime.default`; empty for the document itself. */
  readonly path: string
  readonly problem: string
}

/** What somebody sent is a request; everything else that is read by a schema is configuration. */
export type SchemaErrorCode = 'configuration_invalid' | 'request_invalid'

export interface SchemaErrorOptions {
  readonly code?: SchemaErrorCode
  /** Where one cure is for all faults. */
  readonly hint?: string
}

/** A request of 64 KiB can have ten thousand faults, and a key of its whole length. */
const maxLines = 100
const maxLineLength = 300

const lineOf = ({ path, problem }: Fault): string => {
  const line = path === '' ? problem : `${path}: ${problem}`
  return line.length <= maxLineLength ? line : `${line.slice(0, maxLineLength)}…`
}

const linesOf = (faults: readonly Fault[]): readonly string[] => {
  const lines = faults.slice(0, maxLines).map(lineOf)
  return faults.length <= maxLines ? lines : [...lines, `and ${faults.length - maxLines} more`]
}

export class SchemaError extends AgentCaError<SchemaErrorCode> {
  readonly faults: readonly Fault[]

  constructor(source: string, faults: readonly Fault[], options: SchemaErrorOptions = {}) {
    const { code = 'configuration_invalid', ...more } = options
    const lines = linesOf(faults)
    super(code, `${source}: ${lines.join('; ')}`, { ...more, facts: { faults: lines } })
    this.name = 'SchemaError'
    this.faults = faults
  }
}
