// Why an issuance is refused, one function a rule, each null where its rule says nothing: registration, instance, key, token, quota. In
// which order they are asked, and what is granted, is decide-issuance.ts's.
import type { IssuanceFacts } from '../store/ports.ts'
import type { CertificateRecord, Instance, JoinToken, Registration } from '../store/records.ts'
import type { Decision, DecisionInput } from './decide-issuance.ts'
import type { IssuanceRefusalCode } from './errors.ts'
import { instanceStates, registrationStates } from './state-table.ts'

export const refuse = (
  code: IssuanceRefusalCode,
  message: string,
  hint?: string,
  facts: Readonly<Record<string, string | number>> = {},
): Decision => ({ act: 'refuse', refusal: { code, message, hint, facts }, lock: null })

export const enrolAgain = 'enrol again with fresh evidence'

export const nameOf = (registration: Registration): string => `${registration.kind} ${registration.name}`

/** Agents, services and operators are all refused by the same states; the cure is the command of their kind. */
export const refusedByRegistration = (
  facts: Pick<IssuanceFacts, 'registration' | 'owner'>,
  now: number,
): Decision | null => {
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

export const refusedByInstance = (instance: Instance): Decision | null => {
  if (instance.closedAt !== undefined)
    return refuse('instance_revoked', `the ACME account of instance ${instance.id} was deactivated`, enrolAgain, {
      instance: instance.id,
    })
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
export const refusedByKey = (facts: IssuanceFacts, lineage: string | null): Decision | null => {
  if (facts.keyRevoked) return refuse('key_revoked', 'this public key was revoked', 'generate a new key')
  if (facts.keySeenWith === null) return null
  if (facts.keySeenWith !== 'issuer' && facts.keySeenWith.instanceId === lineage) return null
  return refuse(
    'key_in_use',
    'this public key already belongs to another identity',
    'generate a new key for each instance',
  )
}

/** The registration names the one key that enrols: whoever stole its evidence has not got that. */
export const refusedByBoundKey = ({ registration }: IssuanceFacts, { keyHash }: DecisionInput): Decision | null => {
  if (registration === null || registration.boundKeyHash === null || registration.boundKeyHash === keyHash) return null
  return refuse(
    'key_not_bound',
    `${nameOf(registration)} enrols with another key: the one that its registration names`,
    `ask with that key, or name this one: agentca ${registration.kind} update ${registration.name} --bind-key FILE`,
  )
}

/** A key that was certified once is not new, whichever generation it was. Inside its lineage one that came to nothing may ask again. */
export const refusedByReuse = (facts: IssuanceFacts, input: DecisionInput): Decision | null => {
  const { keySeenWith: seen } = facts
  if (input.rules.keyReuse === 'allowed' || seen === null || seen === 'issuer' || !seen.released) return null
  return refuse(
    'key_reuse_not_allowed',
    'this profile wants a new key each time',
    'generate a new key for each renewal and each recovery',
  )
}

/** As far as a clock may jump and still be signed by (clock-guard.ts). */
const clockToleranceMs = 10 * 60_000

/** @returns null when the evidence itself is good; tokens only. */
export const refusedByToken = (facts: IssuanceFacts, input: DecisionInput): Decision | null => {
  const { token } = facts
  if (token === null)
    return refuse('token_unknown', 'this join token is not known here', 'agentca token create --agent NAME')
  const { what, hint } = freshOf(token)
  if (token.audience !== input.caId)
    return refuse(
      'token_wrong_audience',
      'this join token was made for another CA',
      'ask the CA that made it, or at this one: agentca token create --agent NAME',
    )
  if (token.state === 'revoked') return refuse('token_revoked', `${what} was revoked`, hint)
  // A claimed use outlives the token: a client that lost the answer must not depend on how long it took to ask again.
  if (facts.tokenUse !== null) return null
  // Its end was counted from a time that has not come: it would live for as long as the clock was wrong.
  if (token.createdAt > input.now + clockToleranceMs)
    return refuse(
      'token_expired',
      `${what} was made while the clock of the CA was ahead`,
      `${hint}, and revoke this one: agentca token revoke ${token.id}`,
      { createdAt: token.createdAt },
    )
  if (token.expiresAt <= input.now)
    return refuse('token_expired', `${what} has expired`, hint, {
      expiredAt: token.expiresAt,
    })
  if (token.boundKeyHash !== null && token.boundKeyHash !== input.keyHash)
    return refuse('token_reuse', `${what} is bound to another key`, hint)
  if (token.usesTaken >= token.uses) return refuse('token_reuse', `${what} was already used with another key`, hint)
  return null
}

/** What an operator's token and an attestor's evidence have in common is decided above; what cures a refusal differs. */
const freshOf = ({ evidence }: JoinToken): { readonly what: string; readonly hint: string } =>
  evidence === null
    ? { what: 'this join token', hint: 'agentca token create --agent NAME' }
    : { what: 'this evidence', hint: `ask again with fresh evidence of attestor ${evidence.attestor}` }

const limitOf = (facts: IssuanceFacts, input: DecisionInput): number =>
  facts.registration?.instanceLimit ?? input.rules.instanceLimit

const makeRoom = 'revoke one (agentca instance list), or raise the limit (--instances)'

export const refusedByQuota = (facts: IssuanceFacts, input: DecisionInput): Decision | null => {
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
export const refusedByLoweredQuota = (
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
