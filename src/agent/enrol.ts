// Enrolment: evidence and a new key become an identity in one round trip. The evidence goes out only over a connection that was
// verified against the given trust anchors.
import { callCa, endpointOf, namedAudience } from './ca-call.ts'
import type { Credential } from './credential.ts'
import { AgentError } from './errors.ts'
import { type Evidence, evidenceBody, evidenceHash } from './evidence.ts'
import { pendingKeys, type RequestDeps, requestIdentity } from './request-identity.ts'
import { resolveTrustAnchors, type TrustAnchors } from './trust-anchors.ts'

/** A join token, or whatever other evidence. */
type Shown = { readonly token: string } | { readonly evidence: Evidence }

export type Enrolment = Shown & {
  readonly url: string
  readonly anchors: TrustAnchors
  /** The service that the token must be for; null takes whatever it is for. */
  readonly service: string | null
}

export { evidenceHash }

/** A CA that knows no such evidence names the kinds it does know. */
const explained = (type: Evidence['type'], error: unknown): unknown =>
  error instanceof AgentError && error.code === 'evidence_type_not_supported'
    ? AgentError.fromCa(error.code, `this CA takes no evidence of type ${type}: ${error.message}`, {
        hint: 'enrol with a join token (tokenFile, AGENTCA_TOKEN_FILE): agentca token create',
        facts: error.facts,
        cause: error,
        ...(error.requestId === null ? {} : { requestId: error.requestId }),
        ...(error.status === null ? {} : { status: error.status }),
      })
    : error

/**
 * One attempt; asked again with the same token it asks with the same key. `untilAnswered` repeats it.
 * @returns the credential, already stored
 * @throws AgentError
 */
export const enrol = async (deps: RequestDeps, enrolment: Enrolment): Promise<Credential> => {
  const { url, anchors, service } = enrolment
  const evidence: Evidence = 'token' in enrolment ? { type: 'token', secret: enrolment.token } : enrolment.evidence
  const roots = await resolveTrustAnchors(url, anchors, deps.signal)
  const enrolledWith = evidenceHash(evidence.secret)
  const [key] = await pendingKeys(deps, `enrol ${enrolledWith}`)
  const ask = (audience: string): Promise<Credential> =>
    requestIdentity(deps, {
      target: { url, roots, trustDomain: null, client: null },
      path: '/v1/enroll',
      key,
      body: async csr => ({
        evidence: await evidenceBody(evidence, { csr, audience, now: deps.timing.clock.now() }),
      }),
      spiffeId: null,
      service,
      enrolledWith,
    })
  try {
    return await ask(endpointOf(url, '').origin).catch(error => {
      const audience = namedAudience(error, '')
      if (audience === null) throw error
      return ask(audience)
    })
  } catch (error) {
    throw explained(evidence.type, error)
  }
}

/** Whether the CA is there and is the one that is trusted; nothing secret is sent. @throws AgentError */
export const checkCa = async (
  { url, anchors }: Pick<Enrolment, 'url' | 'anchors'>,
  signal: AbortSignal,
): Promise<void> => {
  const roots = await resolveTrustAnchors(url, anchors, signal)
  await callCa({ url, roots, trustDomain: null, client: null }, { method: 'GET', path: '/v1/capabilities', signal })
}
