// One error for all faults of a text: an operator fixes a file once, not once per fault.
import { AgentCaError } from '../base/errors.ts'

/** Where in the document, and what is wrong with it. */
export interface Fault {
  /** `lifetime.default`; empty for the document itself. */
  readonly path: string
  readonly problem: string
}

export class SchemaError extends AgentCaError<'configuration_invalid'> {
  readonly faults: readonly Fault[]

  /** @param options `hint`: where one cure is for all faults */
  constructor(source: string, faults: readonly Fault[], options: { readonly hint?: string } = {}) {
    const lines = faults.map(({ path, problem }) => (path === '' ? problem : `${path}: ${problem}`))
    super('configuration_invalid', `${source}: ${lines.join('; ')}`, { ...options, facts: { faults: lines } })
    this.name = 'SchemaError'
    this.faults = faults
  }
}
