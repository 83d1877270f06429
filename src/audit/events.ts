// One typed function per audit event outside issuance (whose leaves are made in ca/issuance-events.ts): what each says is decided
// here and nowhere else. Members are short because every leaf is kept for ever.
import type { BlastRadius } from '../store/ports.ts'
import type { LeafDraft, SubjectKind } from '../store/records.ts'
import { createLeaf, type LeafContext, type LeafValue } from './leaf.ts'
import { type Reasoned, radiusFacts, type Subject, subjectOf } from './subject.ts'

export * from './registration-events.ts'
export type { Subject } from './subject.ts'

/** An instance is looked for by itself as well as by whose it is. */
const instanceOf = (subject: Subject, instance: string): string[] => [subjectOf(subject), `instance:${instance}`]

/** What a selector names, where the log knows such subjects. */
const selected = (by: string, value: string): readonly string[] =>
  ['agent', 'service', 'operator', 'owner', 'instance', 'issuer'].includes(by) ? [`${by}:${value}`] : []

export const caInitialised = (
  context: LeafContext,
  facts: { readonly caId: string; readonly trustDomain: string },
): LeafDraft => createLeaf('ca_initialised', context, null, facts)

export const issuerAdded = (
  context: LeafContext,
  facts: { readonly name: string; readonly kind: string; readonly sha256: string; readonly notAfter: number },
): LeafDraft => createLeaf('issuer_added', context, `issuer:${facts.name}`, facts)

export const issuerStateChanged = (
  context: LeafContext,
  facts: {
    readonly name: string
    readonly from: string
    readonly to: string
    /** The one it replaces. */
    readonly retired?: string
    /** Unexpired leaves of the one that is retired: its CRL and OCSP answers go on. Counted up to 1,000. */
    readonly liveLeaves?: number
  } & Reasoned,
): LeafDraft => createLeaf('issuer_state_changed', context, `issuer:${facts.name}`, facts)

export const ceremonyPerformed = (
  context: LeafContext,
  facts: {
    readonly ceremony: 'root' | 'issuing' | 'crl'
    readonly name: string
    readonly transcriptSha256: string
    /** As its transcript has it: keys and signatures of a ceremony that failed exist too. */
    readonly outcome: 'running' | 'done' | 'failed'
  },
): LeafDraft => createLeaf('ceremony_performed', context, `issuer:${facts.name}`, facts)

export const tokenCreated = (
  context: LeafContext,
  subject: Subject,
  facts: {
    readonly token: string
    readonly uses: number
    readonly expiresAt: number
    readonly boundKey: string | null
  },
): LeafDraft => createLeaf('token_created', context, subjectOf(subject), facts)

/** The owner of the home let an admin in: a token for one enrolment. */
export const operatorRecovered = (
  context: LeafContext,
  subject: Subject,
  facts: {
    readonly token: string
    readonly expiresAt: number
    /** No admin was left: this one was registered for it. */
    readonly created: boolean
  } & Reasoned,
): LeafDraft => createLeaf('operator_recovered', context, subjectOf(subject), facts)

export const tokenRevoked = (
  context: LeafContext,
  subject: Subject,
  facts: { readonly token: string } & Reasoned,
): LeafDraft => createLeaf('token_revoked', context, subjectOf(subject), facts)

export const tokenReuse = (
  context: LeafContext,
  subject: Subject,
  facts: { readonly token: string; readonly key: string },
): LeafDraft => createLeaf('token_reuse', context, subjectOf(subject), facts)

export const requestRefused = (
  context: LeafContext,
  subject: Subject | null,
  facts: { readonly op: string; readonly code: string; readonly detail?: string },
): LeafDraft => createLeaf('request_refused', context, subject === null ? null : subjectOf(subject), facts)

export const instanceUnlocked = (
  context: LeafContext,
  subject: Subject,
  facts: { readonly instance: string } & Reasoned,
): LeafDraft => createLeaf('instance_unlocked', context, instanceOf(subject, facts.instance), facts)

/** By a rule or an operator; what renewal locks by itself is `lineage_locked`. */
export const instanceLocked = (
  context: LeafContext,
  subject: Subject,
  facts: { readonly instance: string; readonly reason: string },
): LeafDraft => createLeaf('instance_locked', context, instanceOf(subject, facts.instance), facts)

export const revoked = (
  context: LeafContext,
  facts: {
    readonly by: string
    readonly value: string
    readonly reason: string
    readonly radius: BlastRadius
    readonly feedN: number
  } & Reasoned,
): LeafDraft => {
  const { by, value, reason, radius, feedN, why } = facts
  const whose = radius.registrations.map(subjectOf)
  const named = selected(by, value).filter(each => !whose.includes(each))
  // Of several the selector itself is the subject: the owner, the issuer.
  const subjects = whose.length === 1 ? [...whose, ...named] : [...named, ...whose]
  return createLeaf('revoked', context, subjects, { by, value, reason, why, feed: feedN, ...radiusFacts(radius) })
}

/** The receipt of a revocation or a hold: who said after how many milliseconds that it is applied, and who has not. */
export const revocationApplied = (
  context: LeafContext,
  /** Whose certificates, where they are one registration's. */
  whose: Subject | null,
  facts: {
    readonly type: 'revoke' | 'hold'
    readonly by: string
    readonly value: string
    /** `<epoch>.<n>` of its last entry. */
    readonly feed: string
    /** Subscribers that it concerns, and how many of them applied it. */
    readonly of: number
    readonly applied: number
    readonly afterMs: { readonly [subscriber: string]: number }
    readonly missing: readonly {
      readonly subscriber: string
      readonly staleSince: number
      readonly coveredUntil: number
    }[]
  },
): LeafDraft => {
  const { by, value } = facts
  const registration = whose === null ? [] : [subjectOf(whose)]
  const subjects = [...registration, ...selected(by, value).filter(each => !registration.includes(each))]
  return createLeaf('revocation_applied', context, subjects, {
    ...facts,
    registration: registration[0],
    missing: facts.missing.map(each => ({ ...each })),
  })
}

export const feedEpochChanged = (
  context: LeafContext,
  facts: { readonly from: string; readonly to: string; readonly why: string },
): LeafDraft => createLeaf('feed_epoch_changed', context, null, facts)

export const crlPublished = (
  context: LeafContext,
  facts: {
    readonly issuer: string
    readonly number: bigint
    readonly sha256: string
    readonly entries: number
    /** Absent for a complete list. */
    readonly shard?: string
  },
): LeafDraft =>
  createLeaf('crl_published', context, `issuer:${facts.issuer}`, { ...facts, number: facts.number.toString() })

export const ocspResponderRenewed = (
  context: LeafContext,
  facts: { readonly issuer: string; readonly serial: string; readonly sha256: string; readonly notAfter: number },
): LeafDraft => createLeaf('ocsp_responder_renewed', context, `issuer:${facts.issuer}`, facts)

export const clockJump = (
  context: LeafContext,
  facts: { readonly lastSigning: number; readonly seen: number },
): LeafDraft => createLeaf('clock_jump', context, null, facts)

export const clockAccepted = (
  context: LeafContext,
  facts: { readonly lastSigning: number; readonly accepted: number } & Reasoned,
): LeafDraft => createLeaf('clock_accepted', context, null, facts)

export const backupCreated = (
  context: LeafContext,
  facts: {
    readonly sha256: string
    readonly bytes: number
    readonly feedN: number
    readonly auditSize: number
    /** Whether the embedded HSM's token is in it. */
    readonly keys: boolean
  },
): LeafDraft => createLeaf('backup_created', context, null, facts)

/** The log goes on from where the backup ended: what came after is in no leaf. */
export const ledgerRestored = (
  context: LeafContext,
  facts: {
    readonly backupAt: number
    readonly auditSize: number
    readonly seenAuditSize: number | null
    readonly seenFeedN: number | null
    readonly revoked: number
    readonly held: readonly string[]
    readonly locked: readonly string[]
    readonly unknown: number
    readonly tokens: number
  },
): LeafDraft => createLeaf('ledger_restored', context, null, facts)

export const maintenanceEnded = (
  context: LeafContext,
  facts: { readonly backupAt: number; readonly restoredAt: number } & Reasoned,
): LeafDraft => createLeaf('maintenance_ended', context, null, facts)

export const refusalsSummary = (
  context: LeafContext,
  facts: {
    readonly from: number
    readonly to: number
    readonly dropped: number
    readonly codes: { readonly [code: string]: number }
  },
): LeafDraft => createLeaf('refusals_summary', context, null, facts)

export const coreStarted = (
  context: LeafContext,
  facts: { readonly version: string; readonly epoch: number; readonly policyVersion?: string },
): LeafDraft => createLeaf('core_started', context, null, facts)

export const coreStopped = (context: LeafContext, facts: { readonly epoch: number } & Reasoned): LeafDraft =>
  createLeaf('core_stopped', context, null, facts)

export const signerCountsMismatch = (
  context: LeafContext,
  facts: { readonly key: string; readonly purpose: string; readonly signer: number; readonly ledger: number },
): LeafDraft => createLeaf('signer_counts_mismatch', context, null, facts)

/** After a signer was killed: how far its count is ahead of the signatures there are, known from here on. */
export const signerGapSettled = (
  context: LeafContext,
  facts: {
    readonly key: string
    readonly purpose: string
    readonly signer: number
    readonly ledger: number
    readonly ahead: number
    /** Of these, so many may have been signed for intents that came to nothing. */
    readonly doubtful: number
  },
): LeafDraft => createLeaf('signer_gap_settled', context, null, facts)

export const profileReloaded = (
  context: LeafContext,
  facts: { readonly profile: string; readonly from: string | null; readonly to: string | null },
): LeafDraft => createLeaf('profile_reloaded', context, `profile:${facts.profile}`, facts)

export const operatorAction = (
  context: LeafContext,
  facts: { readonly action: string; readonly [key: string]: LeafValue | undefined },
): LeafDraft => createLeaf('operator_action', context, null, facts)

interface ScopeChangeFacts {
  readonly kind: SubjectKind
  readonly name: string
  readonly gained: readonly string[]
  readonly lost: readonly string[]
}

/** The first of them by name; how many they are is always whole. */
const scopeFacts = (changes: readonly ScopeChangeFacts[]): { readonly [key: string]: LeafValue } => ({
  registrations: changes.length,
  changes: changes
    .slice(0, 20)
    .map(({ kind, name, gained, lost }) => ({ of: subjectOf({ kind, name }), gained, lost })),
})

/** Policies were put in force: new ones, or an earlier version again. */
export const policyActivated = (
  context: LeafContext,
  facts: {
    readonly from: number | null
    readonly to: number
    readonly hash: string
    readonly changes: readonly ScopeChangeFacts[]
  } & Reasoned,
): LeafDraft => {
  const { from, to, hash, why, changes } = facts
  return createLeaf('policy_activated', context, 'policy', { from, to, hash, why, ...scopeFacts(changes) })
}

/** By time alone: a grant began or ended. */
export const scopesChanged = (
  context: LeafContext,
  facts: { readonly version: number; readonly changes: readonly ScopeChangeFacts[] },
): LeafDraft =>
  createLeaf('scopes_changed', context, 'policy', { version: facts.version, ...scopeFacts(facts.changes) })
