// Enrolment: a join token and a new key become an identity, in one round trip that may be repeated until it is answered. The token
// goes out only over a connection that was verified against the given trust anchors.
import { createHash } from 'node:crypto'
import { toHex, utf8 } from '../base/bytes.ts'
import { briskPace, waitAfter } from './backoff.ts'
import type { Credential } from './credential.ts'
import { AgentError, isTransient } from './errors.ts'
import { pendingKeys, type RequestDeps, requestIdentity } from './request-identity.ts'
import { resolveTrustAnchors, type TrustAnchors } from './trust-anchors.ts'

/** A request that met a dying HSM is answered when the CA has given the first attempt up: about 40 s. */
export const defaultPatienceSeconds = 120

export interface Enrolment {
  readonly url: string
  readonly anchors: TrustAnchors
  readonly token: string
  /** How long to go on asking while the CA cannot answer. */
  readonly patienceSeconds: number
  readonly signal: AbortSignal
  /** Told of every attempt that will be repeated. */
  readonly onRetry?: (error: AgentError, waitMs: number) => void
}

/** What the evidence is remembered by: never the token itself. */
export const evidenceHash = (token: string): string =>
  `sha256:${toHex(createHash('sha256').update(utf8(token)).digest())}`

/** One attempt. @throws AgentError */
export const enrolOnce = async (
  deps: RequestDeps,
  { url, anchors, token }: Pick<Enrolment, 'url' | 'anchors' | 'token'>,
): Promise<Credential> => {
  const roots = await resolveTrustAnchors(url, anchors)
  const enrolledWith = evidenceHash(token)
  const [key] = await pendingKeys(deps, `enrol ${enrolledWith}`)
  return requestIdentity(deps, {
    target: { url, roots, trustDomain: null, client: null },
    path: '/v1/enroll',
    key,
    body: async () => ({ evidence: { type: 'token', token } }),
    spiffeId: null,
    enrolledWith,
  })
}

/**
 * Asks until there is an answer, with the same key and token each time.
 * @throws AgentError the last one, when it is final or patience has run out
 */
export const enrol = async (deps: RequestDeps, enrolment: Enrolment): Promise<Credential> => {
  const { timing } = deps
  const deadline = timing.clock.monotonic() + enrolment.patienceSeconds * 1000
  for (let failures = 1; ; failures++) {
    try {
      return await enrolOnce(deps, enrolment)
    } catch (error) {
      if (!(error instanceof AgentError) || !isTransient(error)) throw error
      const wait = waitAfter(briskPace, failures, error.retryAfterSeconds, timing.random)
      if (timing.clock.monotonic() + wait > deadline) throw error
      enrolment.onRetry?.(error, wait)
      await timing.pause(wait, enrolment.signal)
    }
  }
}
