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

export class SchemaError extends AgentCaError<SchemaErrorCode> {
  readonly faults: readonly Fault[]

  constructor(source: string, faults: readonly Fault[], options: SchemaErrorOptions = {}) {
    const { code = 'configuration_invalid', ...more } = options
    const lines = faults.map(({ path, problem }) => (path === '' ? problem : `${path}: ${problem}`))
    super(code, `${source}: ${lines.join('; ')}`, { ...more, facts: { faults: lines } })
    this.name = 'SchemaError'
    this.faults = faults
  }
}
