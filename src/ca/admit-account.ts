// Whether an ACME account may come into being: the same rules as for an enrolment, asked before there is a certification request. They are
// asked again for each certificate.
import type { DecisionRules } from '../policy/issuance-profile.ts'
import type { IssuanceFacts } from '../store/ports.ts'
import type { IssuanceRefusal } from './errors.ts'
import { refusedByKey, refusedByQuota, refusedByRegistration } from './issuance-refusals.ts'
import type { IssuancePolicy } from './scopes-issuance.ts'

export interface AccountAdmission {
  /** SHA-256 of the account key's SubjectPublicKeyInfo: it must be nobody's, and never becomes a certificate's. */
  readonly keyHash: string
  readonly now: number
  readonly rules: DecisionRules
  /** The profile that its orders have unless they name another. */
  readonly profile: string
  readonly source: string
  readonly policy: IssuancePolicy
}

/** Pure but for the policies in force. @param facts of the registration itself, with the account's key as the key */
export const refusedAccount = (facts: IssuanceFacts, admission: AccountAdmission): IssuanceRefusal | null => {
  const { keyHash, now, rules, profile, source, policy } = admission
  const input = { operation: 'order', keyHash, caId: '', now, rules } as const
  const decision = refusedByRegistration(facts, now) ?? refusedByKey(facts, null) ?? refusedByQuota(facts, input)
  if (decision?.act === 'refuse') return decision.refusal
  if (facts.registration === null) return null
  return policy.refusal({
    operation: 'enrol',
    registration: facts.registration,
    terms: { profile },
    source,
    facts,
    now,
  })
}

/** Of a key that an account is to move to. @param facts with that key as the key */
export const refusedAccountKey = (facts: IssuanceFacts): IssuanceRefusal | null => {
  const decision = refusedByKey(facts, null)
  return decision?.act === 'refuse' ? decision.refusal : null
}
