// The one base class of every error agentca raises on purpose. Faces (HTTP, CLI) translate `code`; they never read `message`.

/** Facts that belong to a failure: plain JSON values only, never a secret. */
export type ErrorFacts = Readonly<Record<string, string | number | boolean | null | readonly string[]>>

export interface ErrorOptionsOf {
  /** What an operator types to cure it: one command, or one sentence. */
  readonly hint?: string
  readonly facts?: ErrorFacts
  readonly cause?: unknown
}

/** Base of all deliberate errors. `code` is snake_case and stable; `message` is lower case, without a full stop. */
export class AgentCaError<Code extends string = string> extends Error {
  readonly code: Code
  readonly hint: string | undefined
  readonly facts: ErrorFacts

  constructor(code: Code, message: string, options: ErrorOptionsOf = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'AgentCaError'
    this.code = code
    this.hint = options.hint
    this.facts = options.facts ?? {}
  }
}

export const isAgentCaError = (error: unknown): error is AgentCaError => error instanceof AgentCaError

/** The text of anything that was thrown, for logs: `unknown` in, one line out. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
