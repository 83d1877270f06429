// What nobody seems to need any more, by rules over facts of the ledger: whose owner is gone or never said anything, what did not ask for
// a certificate for long, what never enrolled, tokens nobody came with, ends that have passed, attestations that lapsed. Pure: who walks
// through the ledger, warns, holds and retires is orphan-watch.ts.
import type { InstanceFacts, RegistrationFacts } from '../store/orphans-port.ts'
import type { JoinToken, SubjectKind } from '../store/records.ts'
import { isOwnService } from './own-service.ts'

/** Milliseconds all. */
export interface OrphanRules {
  /** So long without a new certificate, and without a call that somebody reported: idle. */
  readonly idleMs: number
  /** So long after it was made, a token that nobody used is listed. */
  readonly tokenUnusedMs: number
  /** So long an owner may take until the first attestation of anything of theirs. */
  readonly confirmMs: number
  /** How long an attestation holds; null: nobody has to attest. */
  readonly attestMs: number | null
  /** So long before an attestation lapses its owner is warned. */
  readonly warnMs: number
  /** Between a warning and what it warned of. */
  readonly graceMs: number
  /** Whether the recurring job retires what stayed an orphan through the grace period, or only reports it. */
  readonly retire: 'off' | 'on'
}

export const orphanReasons = [
  'owner_gone',
  'owner_unconfirmed',
  'attestation_due',
  'attestation_lapsed',
  'past_end',
  'never_enrolled',
  'idle',
  'token_unused',
  'grant_unused',
] as const
export type OrphanReason = (typeof orphanReasons)[number]

/** Reasons for which something may be ended: the others ask an owner for a word, or say that less would do. */
export const endingReasons: ReadonlySet<OrphanReason> = new Set([
  'owner_gone',
  'attestation_lapsed',
  'past_end',
  'never_enrolled',
  'idle',
  'token_unused',
])

/** For which the recurring job may retire an agent: what its owner could not have overlooked, or nobody could attest. */
const watchedReasons: ReadonlySet<OrphanReason> = new Set(['owner_gone', 'never_enrolled', 'idle'])

export interface FoundReason {
  readonly reason: OrphanReason
  /** Since when it holds, or, for an attestation that is due, when it lapses. */
  readonly since: number
  /** What an operator types about it. */
  readonly cure: string
  /** More of it, for people: names of grants. */
  readonly detail?: string
}

export interface Orphan {
  readonly what: 'registration' | 'instance' | 'token'
  readonly kind: SubjectKind
  /** Of the registration. */
  readonly name: string
  /** Of the instance or token; null for a registration. */
  readonly id: string | null
  readonly owner: string | null
  readonly state: string
  readonly reasons: readonly FoundReason[]
  /** When it was warned of, and what comes when if nobody does anything; null: nothing comes by itself. */
  readonly warnedAt: number | null
  readonly next: { readonly act: 'hold' | 'retire'; readonly at: number } | null
}

/** What was seen of its calls, where verifiers report them. */
export interface ObservedCalls {
  /** null: none is known. */
  readonly lastCallAt: number | null
  /** Grants that none of the reported calls needed. */
  readonly unusedGrants: readonly string[]
}

export const nothingObserved: ObservedCalls = { lastCallAt: null, unusedGrants: [] }

/** When the present attestation ends; a registration begins as if attested. null: it need not be. */
export const attestedUntil = (facts: RegistrationFacts, rules: Pick<OrphanRules, 'attestMs'>): number | null =>
  rules.attestMs === null || facts.registration.kind !== 'agent'
    ? null
    : (facts.attestedAt ?? facts.registration.createdAt) + rules.attestMs

const reasonsOfOwner = (
  { registration, owner, ownerConfirmedAt }: RegistrationFacts,
  rules: OrphanRules,
  now: number,
) => {
  const { kind, name, changedAt } = registration
  const found: FoundReason[] = []
  if (owner?.state === 'gone')
    found.push({
      reason: 'owner_gone',
      // When the owner left is in the log; the registration was held then, or changed since.
      since: changedAt,
      cure:
        kind === 'agent'
          ? `agentca agent update ${name} --owner WHO, then agentca agent release ${name}`
          : `agentca ${kind} ${kind === 'operator' ? 'retire' : 'update'} ${name}${kind === 'operator' ? '' : ' --owner WHO'}`,
    })
  else if (kind === 'agent' && owner !== null && ownerConfirmedAt === null && owner.createdAt + rules.confirmMs <= now)
    found.push({
      reason: 'owner_unconfirmed',
      since: owner.createdAt,
      cure: `ask ${owner.name}, then agentca agent attest ${name}`,
    })
  return found
}

const reasonsOfAttestation = (facts: RegistrationFacts, rules: OrphanRules, now: number): readonly FoundReason[] => {
  const until = attestedUntil(facts, rules)
  if (until === null || until - rules.warnMs > now) return []
  const { name, state } = facts.registration
  const attest = `agentca agent attest ${name}`
  if (until > now) return [{ reason: 'attestation_due', since: until, cure: attest }]
  const cure = state === 'held' ? `${attest}, then agentca agent release ${name}` : attest
  return [{ reason: 'attestation_lapsed', since: until, cure }]
}

/** An agent only: services and operators are there when somebody needs them. */
const reasonsOfUse = (facts: RegistrationFacts, calls: ObservedCalls, rules: OrphanRules, now: number) => {
  const { name, createdAt } = facts.registration
  const { lastIssuedAt } = facts
  const found: FoundReason[] = []
  const retire = `agentca agent retire ${name}`
  if (lastIssuedAt === null) {
    if (createdAt + rules.idleMs <= now)
      found.push({
        reason: 'never_enrolled',
        since: createdAt,
        cure: `agentca token create --agent ${name}, or ${retire}`,
      })
  } else {
    const used = Math.max(lastIssuedAt, calls.lastCallAt ?? 0)
    if (used + rules.idleMs <= now) found.push({ reason: 'idle', since: used, cure: retire })
  }
  if (calls.unusedGrants.length > 0)
    found.push({
      reason: 'grant_unused',
      since: createdAt,
      cure: `agentca policy suggest ${name}`,
      detail: calls.unusedGrants.slice(0, 20).join(' '),
    })
  return found
}

/** Every reason there is about one registration; its instances and tokens have their own. */
export const reasonsOf = (
  facts: RegistrationFacts,
  calls: ObservedCalls,
  rules: OrphanRules,
  now: number,
): readonly FoundReason[] => {
  const { registration } = facts
  if (isOwnService(registration) || registration.state === 'retired') return []
  const { kind, name, until } = registration
  return [
    ...reasonsOfOwner(facts, rules, now),
    ...reasonsOfAttestation(facts, rules, now),
    ...(until !== null && until <= now
      ? [{ reason: 'past_end' as const, since: until, cure: `agentca ${kind} retire ${name}` }]
      : []),
    ...(kind === 'agent' ? reasonsOfUse(facts, calls, rules, now) : []),
  ]
}

export type WatchStep =
  | { readonly act: 'warn'; readonly topic: 'attestation' | 'orphan'; readonly next: NextAct | null }
  | { readonly act: 'hold' | 'retire' }
  /** The reasons are gone. */
  | { readonly act: 'forget'; readonly topic: 'attestation' | 'orphan' }

export interface NextAct {
  readonly act: 'hold' | 'retire'
  readonly at: number
}

const noticeOf = (facts: RegistrationFacts, topic: 'attestation' | 'orphan') =>
  facts.notices.find(notice => notice.topic === topic) ?? null

/**
 * The warning of the present period: one from before the last attestation is about another one.
 * Whoever switches attestation on, or was down for weeks, gives everybody the grace period all the same.
 */
const attestationStep = (facts: RegistrationFacts, rules: OrphanRules, now: number): WatchStep | null => {
  const until = attestedUntil(facts, rules)
  const notice = noticeOf(facts, 'attestation')
  if (until === null || until - rules.warnMs > now)
    return notice === null ? null : { act: 'forget', topic: 'attestation' }
  const next = attestationNext(facts, rules, now)
  if (notice === null || notice.warnedAt < (facts.attestedAt ?? 0)) return { act: 'warn', topic: 'attestation', next }
  return next !== null && next.at <= now ? { act: 'hold' } : null
}

const attestationNext = (facts: RegistrationFacts, rules: OrphanRules, now: number): NextAct | null => {
  const until = attestedUntil(facts, rules)
  if (until === null || facts.registration.state !== 'active') return null
  const notice = noticeOf(facts, 'attestation')
  const current = notice !== null && notice.warnedAt >= (facts.attestedAt ?? 0)
  return { act: 'hold', at: Math.max(until, (current ? notice.warnedAt : now) + rules.graceMs) }
}

const isWatched = (facts: RegistrationFacts, reasons: readonly FoundReason[]): boolean =>
  facts.registration.kind === 'agent' && reasons.some(({ reason }) => watchedReasons.has(reason))

const orphanNext = (facts: RegistrationFacts, rules: OrphanRules, now: number): NextAct | null =>
  rules.retire === 'off' ? null : { act: 'retire', at: (noticeOf(facts, 'orphan')?.warnedAt ?? now) + rules.graceMs }

const orphanStep = (
  facts: RegistrationFacts,
  reasons: readonly FoundReason[],
  rules: OrphanRules,
  now: number,
): WatchStep | null => {
  const notice = noticeOf(facts, 'orphan')
  if (!isWatched(facts, reasons)) return notice === null ? null : { act: 'forget', topic: 'orphan' }
  const next = orphanNext(facts, rules, now)
  if (notice === null) return { act: 'warn', topic: 'orphan', next }
  return next !== null && next.at <= now ? { act: 'retire' } : null
}

/** What the recurring job does about one registration now: nothing, or one step for each of the two topics. */
export const stepsOf = (
  facts: RegistrationFacts,
  calls: ObservedCalls,
  rules: OrphanRules,
  now: number,
): readonly WatchStep[] => {
  const reasons = reasonsOf(facts, calls, rules, now)
  const orphan = orphanStep(facts, reasons, rules, now)
  // What is retired need not be held first.
  if (orphan?.act === 'retire') return [orphan]
  return [attestationStep(facts, rules, now), orphan].filter(step => step !== null)
}

/** One row of the list. @returns null where there is no reason */
export const orphanOf = (
  facts: RegistrationFacts,
  calls: ObservedCalls,
  rules: OrphanRules,
  now: number,
): Orphan | null => {
  const reasons = reasonsOf(facts, calls, rules, now)
  if (reasons.length === 0) return null
  const { kind, name, owner, state } = facts.registration
  const attestation = reasons.some(({ reason }) => reason.startsWith('attestation_'))
  const nexts = [
    attestation ? attestationNext(facts, rules, now) : null,
    isWatched(facts, reasons) ? orphanNext(facts, rules, now) : null,
  ].filter(next => next !== null)
  return {
    what: 'registration',
    kind,
    name,
    id: null,
    owner,
    state,
    reasons,
    warnedAt: facts.notices.reduce<number | null>((first, { warnedAt }) => Math.min(first ?? warnedAt, warnedAt), null),
    next: nexts.toSorted((a, b) => a.at - b.at)[0] ?? null,
  }
}

export const instanceOrphan = ({ registration }: RegistrationFacts, instance: InstanceFacts): Orphan => ({
  what: 'instance',
  kind: registration.kind,
  name: registration.name,
  id: instance.id,
  owner: registration.owner,
  state: instance.state,
  reasons: [
    {
      reason: 'idle',
      since: instance.lastIssuedAt,
      cure: `agentca revoke --instance ${instance.id} --reason cessationOfOperation`,
    },
  ],
  warnedAt: null,
  next: null,
})

export const tokenOrphan = ({ registration }: RegistrationFacts, token: JoinToken, now: number): Orphan => ({
  what: 'token',
  kind: registration.kind,
  name: registration.name,
  id: token.id,
  owner: registration.owner,
  state: token.expiresAt <= now ? 'expired' : 'active',
  reasons: [{ reason: 'token_unused', since: token.createdAt, cure: `agentca token revoke ${token.id}` }],
  warnedAt: null,
  next: null,
})
