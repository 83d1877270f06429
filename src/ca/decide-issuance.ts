// The decision about one issuance, as pure functions over facts read in one transaction: who may enrol, renew or recover, with which
// key, and what the answer to a repeated request is. Used twice with the same code: early, before any work (step 1), and again under
// the ledger's lock (step 4), where it is binding. What a grant contains is policy's business; how it is recorded is the store's.
import type { DecisionRules } from '../policy/issuance-profile.ts'
import type { IssuanceFacts } from '../store/ports.ts'
import type { CertificateRecord, Instance, Registration } from '../store/records.ts'
import type { IssuanceRefusal, IssuanceRefusalCode } from './errors.ts'
import { instanceStates, registrationStates } from './state-table.ts'

export interface DecisionInput {
  readonly operation: 'enrol' | 'renew' | 'recover' | 'issue'
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

const refuse = (
  code: IssuanceRefusalCode,
  message: string,
  hint?: string,
  facts: Readonly<Record<string, string | number>> = {},
): Decision => ({ act: 'refuse', refusal: { code, message, hint, facts }, lock: null })

const enrolAgain = 'enrol again with fresh evidence'

const nameOf = (registration: Registration): string => `${registration.kind} ${registration.name}`

/** Agents, services and operators are all refused by the same states; the cure is the command of their kind. */
const refusedByRegistration = (facts: IssuanceFacts, now: number): Decision | null => {
  const { registration, owner } = facts
  if (registration === null)
    return refuse('registration_not_found', 'nobody is registered for this evidence', 'agentca agent create NAME')
  const who = nameOf(registration)
  if (registration.state === 'retired')
    return refuse('registration_retired', `${who} is retired`, 'register a new name: names are never reused')
  if (registration.until !== null && registration.until <= now)
    return refuse('registration_ended', `${who} reached its end date`, 'register a new name: names are never reused')
  if (registrationStates[registration.state].renew !== 'yes')
    return refuse('registration_held', `${who} is held`, `agentca ${registration.kind} release ${registration.name}`)
  if (owner?.state === 'gone')
    return refuse(
      'owner_gone',
      `the owner of ${who} is gone`,
      `agentca ${registration.kind} update ${registration.name} --owner WHO`,
    )
  return null
}

const refusedByInstance = (instance: Instance): Decision | null => {
  if (instance.state === 'locked')
    return refuse(
      'instance_locked',
      `instance ${instance.id} is locked: ${instance.lockReason ?? 'its key may have two holders'}`,
      `agentca instance unlock ${instance.id}`,
      { instance: instance.id },
    )
  if (instanceStates[instance.state].renew !== 'yes')
    return refuse('instance_revoked', `instance ${instance.id} is revoked`, enrolAgain, {
      instance: instance.id,
    })
  return null
}

/** A key belongs to one lineage for ever (architecture.md, Identities). */
const refusedByKey = (facts: IssuanceFacts, lineage: string | null): Decision | null => {
  if (facts.keyRevoked) return refuse('key_revoked', 'this public key was revoked', 'generate a new key')
  if (facts.keySeenWith === null) return null
  if (facts.keySeenWith !== 'issuer' && facts.keySeenWith.instanceId === lineage) return null
  return refuse(
    'key_in_use',
    'this public key already belongs to another identity',
    'generate a new key for each instance',
  )
}

/** A key that was certified once is not new, whichever generation it was. Inside its lineage one that came to nothing may ask again. */
const refusedByReuse = (facts: IssuanceFacts, input: DecisionInput): Decision | null => {
  const { keySeenWith: seen } = facts
  if (input.rules.keyReuse === 'allowed' || seen === null || seen === 'issuer' || !seen.released) return null
  return refuse(
    'key_reuse_not_allowed',
    'a renewal needs a new key under this profile',
    'generate a new key for each renewal',
  )
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

/** @returns null when the evidence itself is good; tokens only. */
const refusedByToken = (facts: IssuanceFacts, input: DecisionInput): Decision | null => {
  const { token } = facts
  if (token === null)
    return refuse('token_unknown', 'this join token is not known here', 'agentca token create --agent NAME')
  if (token.audience !== input.caId)
    return refuse(
      'token_wrong_audience',
      'this join token was made for another CA',
      'ask the CA that made it, or at this one: agentca token create --agent NAME',
    )
  if (token.state === 'revoked')
    return refuse('token_revoked', 'this join token was revoked', 'agentca token create --agent NAME')
  // A claimed use outlives the token: a client that lost the answer must not depend on how long it took to ask again.
  if (facts.tokenUse !== null) return null
  if (token.expiresAt <= input.now)
    return refuse('token_expired', 'this join token has expired', 'agentca token create --agent NAME', {
      expiredAt: token.expiresAt,
    })
  if (token.boundKeyHash !== null && token.boundKeyHash !== input.keyHash)
    return refuse('token_reuse', 'this join token is bound to another key', 'agentca token create --agent NAME')
  if (token.usesTaken >= token.uses)
    return refuse(
      'token_reuse',
      'this join token was already used with another key',
      'agentca token create --agent NAME',
    )
  return null
}

const limitOf = (facts: IssuanceFacts, input: DecisionInput): number =>
  facts.registration?.instanceLimit ?? input.rules.instanceLimit

const makeRoom = 'revoke one (agentca instance list), or raise the limit (--instances)'

const refusedByQuota = (facts: IssuanceFacts, input: DecisionInput): Decision | null => {
  const limit = limitOf(facts, input)
  if (facts.liveInstances < limit) return null
  return refuse('instance_limit_reached', `${facts.liveInstances} of ${limit} instances are live`, makeRoom, {
    limit,
    live: facts.liveInstances,
  })
}

/**
 * A lowered limit is felt at the next renewal, by those who came last: the first keep their places, so that a fleet does not end whole.
 * @param last of the lineage: while nothing has changed since, its place is as it was, and a large fleet need not be counted again
 */
const refusedByLoweredQuota = (
  facts: IssuanceFacts,
  input: DecisionInput,
  last: CertificateRecord,
): Decision | null => {
  const sameRules = last.profileHash === input.rules.profileHash
  if (sameRules && last.registrationVersion === facts.registration?.version) return null
  const limit = limitOf(facts, input)
  const before = facts.liveInstancesBefore
  if (before < limit) return null
  return refuse(
    'instance_limit_reached',
    `the limit is ${limit} instances, and ${before} that began before this one are live`,
    makeRoom,
    { limit, before },
  )
}

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
    if (head === null) return continueLineage(registration, instance, { predecessor: null, tokenId: tokenUse.tokenId })
    if (head.keyHash !== input.keyHash || head.generation !== 1)
      return refuse(
        'token_reuse',
        'the identity enrolled with this join token has renewed since',
        'renew instead, or enrol with a fresh token',
      )
    return answerAgain(head, facts, input.now)
  }
  return (
    refusedByKey(facts, null) ??
    refusedByQuota(facts, input) ?? {
      act: 'start',
      registration,
      tokenId: input.operation === 'enrol' ? (facts.token?.id ?? null) : null,
    }
  )
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

const decideRecovery = (facts: IssuanceFacts, input: DecisionInput): Decision => {
  const { presented, instance, head } = facts
  if (presented === null || instance === null)
    return refuse('certificate_unknown', 'the proved key was never registered here', enrolAgain)
  const stopped = refusedByRegistration(facts, input.now) ?? refusedByInstance(instance)
  if (stopped !== null) return stopped
  const { recovery } = input.rules
  if (recovery.mode !== 'same-key')
    return refuse('recovery_not_allowed', 'the profile does not allow recovery by the last key', enrolAgain)
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
  const quota = head.notAfter <= input.now ? refusedByQuota(facts, input) : refusedByLoweredQuota(facts, input, head)
  const registration = facts.registration as Registration
  return (
    quota ??
    refusedByKey(facts, instance.id) ??
    continueLineage(registration, instance, { predecessor: head, recovery: true })
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
  }
}
