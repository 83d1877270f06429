// `GET /v1/self`: what this CA knows of the caller, and the identity that the caller has.
import type { IdentityAnswer } from '../schema/admin-answers.ts'
import type { VerifiedCaller } from './call.ts'
import { type IdentityContext, identityAnswer } from './identity-answer.ts'

export interface SelfAnswer extends IdentityAnswer {
  readonly kind: 'agent' | 'service' | 'operator'
  /** Of the caller's instance; anything but `active` never gets here. */
  readonly state: 'active' | 'locked' | 'revoked'
  readonly registration: {
    readonly name: string
    readonly owner: string | null
    readonly purpose: string
    readonly profile: string
    readonly roles: readonly string[]
    readonly attributes: Readonly<Record<string, string>>
    readonly until: string | null
    readonly state: 'active' | 'held' | 'retired'
    readonly version: number
  }
  /** What policies grant for every call; without policies, nothing. */
  readonly scopes: readonly string[]
}

export const selfAnswer = (caller: VerifiedCaller, context: IdentityContext, now: number): SelfAnswer => {
  const { record, registration, instance, certificate, spiffeId } = caller
  const { name, owner, purpose, profile, roles, attributes, until, state, version } = registration
  return {
    ...identityAnswer({ record, certificate: certificate.der, spiffeId, registration, notGranted: [] }, context, now),
    kind: registration.kind,
    state: instance.state,
    registration: {
      name,
      owner,
      purpose,
      profile,
      roles,
      attributes,
      until: until === null ? null : new Date(until).toISOString(),
      state,
      version,
    },
    scopes: registration.scopes,
  }
}
