// What the thread that makes a verifier's calls and the one that asks for them say to each other. Calls have numbers; nothing here leaves
// the process, the identity's key included.
import type { CaRequest, CaTarget } from '../../agent/ca-call.ts'
import type { Credential } from '../../agent/credential.ts'
import { AgentError, type AgentErrorCode } from '../../agent/errors.ts'
import { type ErrorFacts, messageOf } from '../../base/errors.ts'

export interface CallMessage {
  readonly kind: 'call'
  readonly id: number
  readonly url: string
  /** null: anybody may answer, and nothing is shown to them. */
  readonly peer: string | null
  readonly init: {
    readonly method?: 'GET' | 'POST'
    readonly headers?: Readonly<Record<string, string>>
    readonly body?: string
  }
}

/** A call of the identity itself, which need not be made under its present generation. Its answer is the body. */
export interface CaCallMessage {
  readonly kind: 'ca'
  readonly id: number
  readonly target: CaTarget
  readonly request: Omit<CaRequest, 'signal'>
}

export type ToThread =
  /** The generation under which calls are made from now on. */
  | { readonly kind: 'credential'; readonly credential: Credential }
  | CallMessage
  | CaCallMessage
  | { readonly kind: 'abort'; readonly id: number }
  /** A part of a body was read: another one may come. */
  | { readonly kind: 'more'; readonly id: number }

export type FromThread =
  /** It runs: what it needed could be loaded. */
  | { readonly kind: 'ready' }
  | { readonly kind: 'head'; readonly id: number; readonly status: number }
  | { readonly kind: 'part'; readonly id: number; readonly bytes: Uint8Array }
  | { readonly kind: 'end'; readonly id: number }
  | { readonly kind: 'failed'; readonly id: number; readonly error: ToldError }

/** So many parts of a body may lie unread: a reader that is slow slows the sender down. */
export const maxUnread = 32

/** An error without its class, which would not survive the way. */
export interface ToldError {
  readonly name: string
  readonly message: string
  readonly code: string | null
  readonly cause: string | null
  /** null: not of the agent's side. */
  readonly agent: {
    readonly origin: AgentError['origin']
    readonly hint: string | null
    readonly facts: ErrorFacts
    readonly requestId: string | null
    readonly status: number | null
    readonly retryAfterSeconds: number | null
  } | null
}

const tellAgentError = (error: AgentError): NonNullable<ToldError['agent']> => {
  const { origin, hint = null, facts, requestId, status, retryAfterSeconds } = error
  return { origin, hint, facts, requestId, status, retryAfterSeconds }
}

export const tellError = (error: unknown): ToldError => {
  const { code, cause } = Object(error) as { readonly code?: unknown; readonly cause?: unknown }
  return {
    name: error instanceof Error ? error.name : 'Error',
    message: messageOf(error),
    code: typeof code === 'string' ? code : null,
    cause: cause === undefined ? null : messageOf(cause),
    agent: error instanceof AgentError ? tellAgentError(error) : null,
  }
}

export const errorOf = ({ name, message, code, cause, agent }: ToldError): Error => {
  const reason = cause === null ? {} : { cause: new Error(cause) }
  if (agent !== null && code !== null) {
    const { origin, facts, hint, requestId, status, retryAfterSeconds } = agent
    const options = {
      facts,
      ...(hint === null ? {} : { hint }),
      ...(requestId === null ? {} : { requestId }),
      ...(status === null ? {} : { status }),
      ...(retryAfterSeconds === null ? {} : { retryAfterSeconds }),
      ...reason,
    }
    return origin === 'ca'
      ? AgentError.fromCa(code, message, options)
      : AgentError.of(code as AgentErrorCode, message, options)
  }
  return Object.assign(new Error(message, reason), { name, ...(code === null ? {} : { code }) })
}
