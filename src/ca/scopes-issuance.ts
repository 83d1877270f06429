// What policies say of enrolment and renewal, where they say anything: statements that name `agentca:enroll` or `agentca:renew` decide,
// and without one it is as if there were no policies. Asked for what everything else let through, so that it costs nothing where nobody
// wrote such a statement.
import { isIP } from 'node:net'
import { ownActions } from '../policy/cedar-schema.ts'
import type { IssuanceFacts } from '../store/ports.ts'
import type { Registration } from '../store/records.ts'
import type { IssuanceRefusal } from './errors.ts'
import type { IssuanceOperation, IssuanceTerms } from './issuance.ts'
import { isOwnService } from './own-service.ts'
import { type ActivePolicies, policyPrincipal } from './scopes.ts'

export interface IssuanceQuestion {
  readonly operation: IssuanceOperation
  readonly registration: Registration
  /** Left out: the registration's own. */
  readonly terms?: Pick<IssuanceTerms, 'profile'> | undefined
  /** Of the request; what is no address counts as unknown. */
  readonly source: string | undefined
  readonly facts: Pick<IssuanceFacts, 'liveInstances'> & Partial<Pick<IssuanceFacts, 'head' | 'token'>>
  readonly now: number
}

export interface IssuancePolicy {
  /** Pure but for what is in force. @returns null: nothing speaks against it */
  refusal(question: IssuanceQuestion): IssuanceRefusal | null
}

const actionOf: Readonly<Record<IssuanceOperation, (typeof ownActions)[keyof typeof ownActions]>> = {
  enrol: ownActions.enroll,
  issue: ownActions.enroll,
  /** The first one of an account; the others are renewals. */
  order: ownActions.enroll,
  renew: ownActions.renew,
  recover: ownActions.renew,
}

/** IPv4 in IPv6 is the IPv4 address that rules are written for. */
export const addressOf = (source: string | undefined): string | null => {
  const plain = source?.replace(/^::ffff:(?=\d+\.)/i, '') ?? ''
  return isIP(plain) === 0 ? null : plain
}

/** For a CA without policies. */
export const noIssuancePolicy: IssuancePolicy = { refusal: () => null }

export const createIssuancePolicy = (active: () => Pick<ActivePolicies, 'evaluator'> | null): IssuancePolicy => ({
  refusal: ({ operation, registration, terms, source, facts, now }) => {
    const evaluator = active()?.evaluator
    const renews = operation === 'order' && facts.head != null
    const action = renews ? ownActions.renew : actionOf[operation]
    if (evaluator === undefined || !evaluator.governs(action)) return null
    // Who could lock operators out by a statement could not be undone by one, and this CA needs its own certificate.
    if (registration.kind === 'operator' || isOwnService(registration)) return null
    const { decision, by } = evaluator.decide({
      principal: policyPrincipal(registration),
      action,
      resource: null,
      at: now,
      source: addressOf(source),
      rate: null,
      context: {
        profile: terms?.profile ?? registration.profile,
        instances: facts.liveInstances,
        ...(facts.token?.evidence == null ? {} : { attestor: facts.token.evidence.attestor }),
      },
    })
    if (decision === 'allow') return null
    return {
      code: 'policy_denied',
      message: `policy does not allow ${registration.kind} ${registration.name} this now`,
      hint: `agentca policy explain ${registration.name} ${action}`,
      facts: {},
      statements: by,
    }
  },
})
