// The decision about one issuance, as pure functions over facts read in one transaction: who may enrol, renew or recover, with which
// key, and what the answer to a repeated request is. Used twice with the same code: early, before any work (step 1), and again under
// the ledger's lock (step 4), where it is binding. What a grant contains is policy's business; how it is recorded is the store's.
import type { DecisionRules } from '../policy/issuance-profile.ts'
import type { IssuanceFacts } from '../store/ports.ts'
import type { CertificateRecord, Instance, Registration } from '../store/records.ts'
import type { IssuanceRefusal } from './errors.ts'
import {
  enrolAgain,
  nameOf,
  refuse,
  refusedByBoundKey,
  refusedByInstance,
  refusedByKey,
  refusedByLoweredQuota,
  refusedByQuota,
  refusedByRegistration,
  refusedByReuse,
  refusedByToken,
} from './issuance-refusals.ts'

export interface DecisionInput {
  /** `order`: of an ACME account. */
  readonly operation: 'enrol' | 'renew' | 'recover' | 'issue' | 'order'
  readonly keyHash: string
  readonly caId: string
  readonly now: number
  readonly rules: DecisionRules
}

export type Decision =
  /** A fresh lineage. */
  | { readonly act: 'start'; readonly registration: Registration; readonly tokenId: string | null }
  /** The same claim again after its first intent came to nothing: the token's use is already this key's. */
  | {
      readonly act: 'continue'
      readonly registration: Registration
      readonly instance: Instance
      readonly generation: number
      readonly predecessor: CertificateRecord | null
      readonly supersedes: string | null
      readonly tokenId: string | null
      readonly recovery: boolean
    }
  | { readonly act: 'repeat'; readonly serial: string }
  | { readonly act: 'pending'; readonly serial: string }
  | {
      readonly act: 'refuse'
      readonly refusal: IssuanceRefusal
      readonly lock: { readonly instanceId: string; readonly reason: string } | null
    }

/** The newest certificate of a lineage, as a starting point for the next one; voids and orphans are never heads. */
const continueLineage = (
  registration: Registration,
  instance: Instance,
  options: {
    readonly predecessor: CertificateRecord | null
    readonly supersedes?: string
    readonly tokenId?: string
    readonly recovery?: boolean
  },
): Decision => ({
  act: 'continue',
  registration,
  instance,
  generation: (options.predecessor?.generation ?? 0) + 1,
  predecessor: options.predecessor,
  supersedes: options.supersedes ?? null,
  tokenId: options.tokenId ?? null,
  recovery: options.recovery ?? false,
})

const decideEnrolment = (facts: IssuanceFacts, input: DecisionInput): Decision => {
  if (input.operation === 'enrol') {
    const refused = refusedByToken(facts, input)
    if (refused !== null) return refused
  }
  const refused = refusedByRegistration(facts, input.now)
  if (refused !== null) return refused
  const registration = facts.registration as Registration
  const { tokenUse, instance, head } = facts
  if (tokenUse !== null && instance !== null) {
    const stopped = refusedByInstance(instance) ?? refusedByKey(facts, instance.id)
    if (stopped !== null) return stopped
    // The first certificate of the claim, or nothing usable: then the same key resumes its claim.
    // An attempt that came to nothing keeps its use and not its place: others may have come meanwhile.
    if (head === null)
      return (
        refusedByQuota(facts, input) ??
        continueLineage(registration, instance, { predecessor: null, tokenId: tokenUse.tokenId })
      )
    if (head.keyHash !== input.keyHash || head.generation !== 1)
      return refuse(
        'token_reuse',
        'the identity enrolled with this join token has renewed since',
        'renew instead, or enrol with a fresh token',
      )
    return answerAgain(head, facts, input.now)
  }
  const before = input.operation === 'issue' && instance !== null ? decideOwnKey(facts, input, instance) : null
  return (
    before ??
    refusedByBoundKey(facts, input) ??
    refusedByKey(facts, null) ??
    refusedByQuota(facts, input) ?? {
      act: 'start',
      registration,
      tokenId: input.operation === 'enrol' ? (facts.token?.id ?? null) : null,
    }
  )
}

/**
 * An operator asks again for a key that this registration has: the same certificate, or the same attempt taken up where it came to
 * nothing. @returns null where the key has become something else meanwhile, and is one in use like any other
 */
const decideOwnKey = (facts: IssuanceFacts, input: DecisionInput, instance: Instance): Decision | null => {
  const { head } = facts
  const begun = head === null || (head.keyHash === input.keyHash && head.predecessor === null && head.tokenId === null)
  const live = head === null || (head.notAfter > input.now && ['intent', 'issued', 'held'].includes(head.state))
  if (!begun || !live) return null
  const stopped = refusedByInstance(instance) ?? refusedByKey(facts, instance.id)
  if (stopped !== null || head !== null) return stopped ?? answerAgain(head as CertificateRecord, facts, input.now)
  const registration = facts.registration as Registration
  return refusedByQuota(facts, input) ?? continueLineage(registration, instance, { predecessor: null })
}

/** What is held alone was held with its registration, and is released with it. */
const refusedAsHeld = (message: string, { registration }: IssuanceFacts): Decision =>
  refuse(
    'certificate_held',
    message,
    registration === null ? 'agentca agent list' : `agentca ${registration.kind} release ${registration.name}`,
  )

const answerAgain = (certificate: CertificateRecord, facts: IssuanceFacts, now: number): Decision => {
  if (certificate.state === 'intent') return { act: 'pending', serial: certificate.serial }
  if (certificate.state === 'held') return refusedAsHeld('the certificate is on hold', facts)
  if (certificate.state !== 'issued') return refuse('certificate_revoked', 'the certificate was revoked', enrolAgain)
  if (certificate.notAfter <= now)
    return refuse(
      'certificate_expired',
      'the certificate of this request has expired',
      'recover, or enrol again with fresh evidence',
    )
  return { act: 'repeat', serial: certificate.serial }
}

const conflict = (instance: Instance, reason: string): Decision => ({
  act: 'refuse',
  refusal: {
    code: 'lineage_conflict',
    message: `instance ${instance.id} is locked now: ${reason}`,
    hint: `agentca instance unlock ${instance.id} after finding out who holds its key`,
    facts: { instance: instance.id },
  },
  lock: { instanceId: instance.id, reason },
})

/** The presented certificate itself: unknown, expired, held or revoked. An expired one is reported, never a reason to lock. */
const refusedByPresented = (presented: CertificateRecord, facts: IssuanceFacts, now: number): Decision | null => {
  if (presented.notAfter <= now)
    return refuse(
      'certificate_expired',
      'the presented certificate has expired',
      'recover, or enrol again with fresh evidence',
      {
        expiredAt: presented.notAfter,
      },
    )
  if (presented.state === 'held') return refusedAsHeld('the presented certificate is on hold', facts)
  if (presented.state !== 'issued' && !presented.replaced)
    return refuse('certificate_revoked', 'the presented certificate is not valid', enrolAgain)
  return null
}

const decideRenewal = (facts: IssuanceFacts, input: DecisionInput): Decision => {
  const { presented, instance, head } = facts
  if (presented === null || instance === null)
    return refuse('certificate_unknown', 'the presented certificate was not issued here', enrolAgain)
  const stopped =
    refusedByRegistration(facts, input.now) ??
    refusedByInstance(instance) ??
    refusedByPresented(presented, facts, input.now)
  if (stopped !== null) return stopped
  const registration = facts.registration as Registration

  if (presented.replaced) return conflict(instance, 'a replaced certificate was used to renew')
  if (head === null || head.serial === presented.serial) return renewHead(facts, input, registration, instance)
  if (head.predecessor !== presented.serial) return conflict(instance, 'an older certificate was used to renew')

  // `presented` is the predecessor of the newest one: its holder did not get, or pretends not to have got, the answer.
  if (head.keyHash === input.keyHash) return answerAgain(head, facts, input.now)
  if (head.state === 'intent') return { act: 'pending', serial: head.serial }
  if (facts.replacements > 0) return conflict(instance, 'a second key asked to replace the same certificate')
  return (
    refusedByLoweredQuota(facts, input, presented) ??
    refusedByKey(facts, instance.id) ??
    refusedByReuse(facts, input) ??
    continueLineage(registration, instance, { predecessor: presented, supersedes: head.serial })
  )
}

const renewHead = (
  facts: IssuanceFacts,
  input: DecisionInput,
  registration: Registration,
  instance: Instance,
): Decision => {
  const presented = facts.presented as CertificateRecord
  return (
    refusedByLoweredQuota(facts, input, presented) ??
    refusedByKey(facts, instance.id) ??
    refusedByReuse(facts, input) ??
    continueLineage(registration, instance, { predecessor: presented })
  )
}

/** Beside the proof of the last key: a use of a join token for the same registration, not one that was spent before. */
const refusedByFreshEvidence = (facts: IssuanceFacts, input: DecisionInput): Decision | null => {
  const { token, tokenUse } = facts
  const registration = facts.registration as Registration
  const hint = `agentca token create --${registration.kind} ${registration.name}, and evidence {type, token} in the body`
  if (token === null)
    return refuse('recovery_not_allowed', 'the profile wants fresh evidence beside the proof: a join token', hint)
  if (token.registrationId !== registration.id)
    return refuse(
      'recovery_not_allowed',
      `the join token is for another registration than ${nameOf(registration)}`,
      hint,
    )
  if (tokenUse?.released === true) return refuse('token_reuse', 'this join token was used by this key before', hint)
  return refusedByToken(facts, input)
}

/** The answer to (proved key, new key) was given, or is on its way: again the same, and not counted again. */
const repeatedRecovery = (facts: IssuanceFacts, input: DecisionInput): Decision | null => {
  const { presented, head } = facts
  if (presented === null || head === null || head.keyHash !== input.keyHash) return null
  const sameKey = head.keyHash === presented.keyHash
  if (!sameKey && head.predecessor !== presented.serial) return null
  // Recovered by the key it already had: as long as that certificate lives there is nothing to recover.
  if (sameKey && head.state === 'issued' && head.notAfter <= input.now) return null
  return answerAgain(head, facts, input.now)
}

const decideRecovery = (facts: IssuanceFacts, input: DecisionInput): Decision => {
  const { presented, instance, head } = facts
  if (presented === null || instance === null)
    return refuse('certificate_unknown', 'the proved key was never registered here', enrolAgain)
  const stopped = refusedByRegistration(facts, input.now) ?? refusedByInstance(instance)
  if (stopped !== null) return stopped
  const { recovery } = input.rules
  if (recovery.mode === 'none')
    return refuse('recovery_not_allowed', 'the profile does not allow recovery by the last key', enrolAgain)
  const again = repeatedRecovery(facts, input)
  if (again !== null) return again
  if (head === null || head.keyHash !== presented.keyHash)
    return refuse(
      'recovery_not_allowed',
      'the proved key is not the last one registered for this instance',
      `agentca instance show ${instance.id}`,
    )
  if (head.state === 'intent') return { act: 'pending', serial: head.serial }
  if (head.state !== 'issued') return refuse('certificate_revoked', 'the last certificate was revoked', enrolAgain)
  const since = input.now - recovery.windowSeconds * 1000
  if (instance.recoveries.filter(at => at > since).length >= recovery.count)
    return refuse('recovery_limit_reached', `${recovery.count} recoveries were made within the window`, enrolAgain)
  const evidence = recovery.mode === 'evidence'
  const refused = (evidence ? refusedByFreshEvidence(facts, input) : null) ?? refusedByRoom(facts, input, head)
  const tokenId = evidence ? facts.token?.id : undefined
  return (
    refused ??
    refusedByKey(facts, instance.id) ??
    refusedByReuse(facts, input) ??
    continueLineage(facts.registration as Registration, instance, {
      predecessor: head,
      recovery: true,
      ...(tokenId === undefined ? {} : { tokenId }),
    })
  )
}

/** An expired instance takes a place like a new one. */
const refusedByRoom = (facts: IssuanceFacts, input: DecisionInput, head: CertificateRecord): Decision | null =>
  head.notAfter <= input.now ? refusedByQuota(facts, input) : refusedByLoweredQuota(facts, input, head)

/**
 * An ACME account is its instance, and its key the evidence: after the end of its last certificate too, and after a revocation that was its
 * own, not an operator's. The order has its certificate already, or the lineage goes on from the newest one.
 */
const decideOrder = (facts: IssuanceFacts, input: DecisionInput): Decision => {
  const { instance, head, ordered } = facts
  if (instance === null)
    return refuse('certificate_unknown', 'no such account has this order', 'agentca acme eab create')
  const stopped = refusedByRegistration(facts, input.now) ?? refusedByInstance(instance)
  if (stopped !== null) return stopped
  const given = ordered != null && (ordered.state === 'intent' || ordered.issuedAt !== null)
  if (given) return answerAgain(ordered, facts, input.now)
  // One lineage has one intent at a time.
  if (head?.state === 'intent') return { act: 'pending', serial: head.serial }
  // `superseded` asks for another one; the client hears of it by renewal information.
  if (head?.state === 'revoked' && head.revokedBySubject !== true && head.reason !== 'superseded')
    return refuse('certificate_revoked', 'the last certificate was revoked by an operator', enrolAgain)
  const refused =
    head === null
      ? (refusedByBoundKey(facts, input) ?? refusedByQuota(facts, input))
      : refusedByRoom(facts, input, head)
  return (
    refused ??
    refusedByKey(facts, instance.id) ??
    refusedByReuse(facts, input) ??
    continueLineage(facts.registration as Registration, instance, { predecessor: head })
  )
}

/**
 * Decides about one request for a certificate.
 * @param facts read by the store for this request, in one transaction
 * @returns what to record, which earlier answer to repeat, or the refusal and whether the lineage must be locked
 */
export const decideIssuance = (facts: IssuanceFacts, input: DecisionInput): Decision => {
  switch (input.operation) {
    case 'enrol':
    case 'issue':
      return decideEnrolment(facts, input)
    case 'renew':
      return decideRenewal(facts, input)
    case 'recover':
      return decideRecovery(facts, input)
    case 'order':
      return decideOrder(facts, input)
  }
}
