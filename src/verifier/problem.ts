// What a refused caller hears: one of two problem documents (RFC 9457) that say nothing about why. The reason is the backend's, in its log.
import { isAgentCaError } from '../base/errors.ts'
import { type CallRefusalCode, CallRefused } from '../verify/decision.ts'

/** Who the caller is was not established: another certificate may help. Everything else is known and denied. */
const unauthenticated: ReadonlySet<CallRefusalCode> = new Set([
  'identity_missing',
  'forwarded_malformed',
  'trust_domain_foreign',
  'purpose_not_client',
  'certificate_not_yet_valid',
  'certificate_expired',
  'principal_unknown',
])

export interface RefusalAnswer {
  readonly status: 401 | 403
  readonly contentType: 'application/problem+json'
  readonly title: string
  readonly body: string
}

const answerOf = (status: 401 | 403, name: string, title: string): RefusalAnswer => ({
  status,
  contentType: 'application/problem+json',
  title,
  body: JSON.stringify({ type: `urn:agentca:problem:${name}`, title, status }),
})

const unauthorized = answerOf(401, 'unauthorized', 'A valid client certificate is needed')
const forbidden = answerOf(403, 'forbidden', 'This caller may not do this')

/** For anything that was thrown while a call was judged: what is not a known denial is no authentication. */
export const refusalAnswer = (error: unknown): RefusalAnswer =>
  error instanceof CallRefused && !unauthenticated.has(error.code) ? forbidden : unauthorized

/** The rule that refused, for logs and events. */
export const ruleOf = (error: unknown): string => (isAgentCaError(error) ? error.code : 'internal')
