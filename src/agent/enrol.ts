// Enrolment: a join token and a new key become an identity in one round trip. The token goes out only over a connection that was
// verified against the given trust anchors.
import { createHash } from 'node:crypto'
import { toHex, utf8 } from '../base/bytes.ts'
import { callCa } from './ca-call.ts'
import type { Credential } from './credential.ts'
import { pendingKeys, type RequestDeps, requestIdentity } from './request-identity.ts'
import { resolveTrustAnchors, type TrustAnchors } from './trust-anchors.ts'

export interface Enrolment {
  readonly url: string
  readonly anchors: TrustAnchors
  readonly token: string
  /** The service that the token must be for; null takes whatever it is for. */
  readonly service: string | null
}

/** What the evidence is remembered by: never the token itself. */
export const evidenceHash = (token: string): string =>
  `sha256:${toHex(createHash('sha256').update(utf8(token)).digest())}`

/**
 * One attempt; asked again with the same token it asks with the same key. `untilAnswered` repeats it.
 * @returns the credential, already stored
 * @throws AgentError
 */
export const enrol = async (deps: RequestDeps, { url, anchors, token, service }: Enrolment): Promise<Credential> => {
  const roots = await resolveTrustAnchors(url, anchors, deps.signal)
  const enrolledWith = evidenceHash(token)
  const [key] = await pendingKeys(deps, `enrol ${enrolledWith}`)
  return requestIdentity(deps, {
    target: { url, roots, trustDomain: null, client: null },
    path: '/v1/enroll',
    key,
    body: async () => ({ evidence: { type: 'token', token } }),
    spiffeId: null,
    service,
    enrolledWith,
  })
}

/** Whether the CA is there and is the one that is trusted; nothing secret is sent. @throws AgentError */
export const checkCa = async (
  { url, anchors }: Pick<Enrolment, 'url' | 'anchors'>,
  signal: AbortSignal,
): Promise<void> => {
  const roots = await resolveTrustAnchors(url, anchors, signal)
  await callCa({ url, roots, trustDomain: null, client: null }, { method: 'GET', path: '/v1/capabilities', signal })
}
