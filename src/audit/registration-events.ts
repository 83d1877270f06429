// The audit events of registrations and of those who answer for them: what each says is decided here and nowhere else.
import type { BlastRadius } from '../store/ports.ts'
import type { LeafDraft, OperatorRole, RegistrationState } from '../store/records.ts'
import { createLeaf, type LeafContext, type LeafValue } from './leaf.ts'
import { type Reasoned, radiusFacts, type Subject, subjectOf } from './subject.ts'

/** By itself, or for the sake of the first registration. */
export const ownerCreated = (context: LeafContext, owner: string, managedBy: string | null = null): LeafDraft =>
  createLeaf('owner_created', context, `owner:${owner}`, managedBy === null ? {} : { managedBy })

export const ownerChanged = (
  context: LeafContext,
  owner: string,
  facts: { readonly managedBy: string | null } & Reasoned,
): LeafDraft => createLeaf('owner_changed', context, `owner:${owner}`, facts)

/** Nothing was registered to them. */
export const ownerRemoved = (context: LeafContext, owner: string, facts: Reasoned): LeafDraft =>
  createLeaf('owner_removed', context, `owner:${owner}`, facts)

export const ownerGone = (
  context: LeafContext,
  owner: string,
  facts: { readonly radius: BlastRadius } & Reasoned,
): LeafDraft =>
  createLeaf('owner_gone', context, [`owner:${owner}`, ...facts.radius.registrations.map(subjectOf)], {
    ...radiusFacts(facts.radius),
    why: facts.why,
  })

/** The owner as it was named: a spelling that nobody registered is found by it. */
export const leaverUnknown = (context: LeafContext, owner: string): LeafDraft =>
  createLeaf('leaver_unknown', context, `owner:${owner}`, {})

export const registrationCreated = (
  context: LeafContext,
  subject: Subject,
  facts: {
    readonly owner: string | null
    readonly profile: string
    readonly roles: readonly string[]
    readonly operatorRole: OperatorRole | null
    readonly until: number | null
  },
): LeafDraft => createLeaf('registration_created', context, subjectOf(subject), facts)

export interface RegistrationChangeFacts {
  readonly why?: string | undefined
  readonly from: RegistrationState
  readonly to: RegistrationState
  readonly version: number
  /** The members that changed, with their new values. */
  readonly set: { readonly [key: string]: LeafValue }
}

export const registrationChanged = (
  context: LeafContext,
  subject: Subject,
  facts: RegistrationChangeFacts,
): LeafDraft => createLeaf('registration_changed', context, subjectOf(subject), { ...facts })

/** The owner says that it is still needed. */
export const registrationAttested = (
  context: LeafContext,
  subject: Subject,
  facts: {
    readonly owner: string | null
    readonly version: number
    /** The end date after it. */
    readonly until: number | null
  } & Reasoned,
): LeafDraft => createLeaf('registration_attested', context, subjectOf(subject), facts)

/** Nobody seems to need it, or its owner is to attest it: told once, before anything is done about it. */
export const orphanWarned = (
  context: LeafContext,
  subject: Subject,
  facts: {
    readonly topic: 'attestation' | 'orphan'
    readonly owner: string | null
    readonly reasons: readonly string[]
    /** What comes next by itself, and when. */
    readonly act: 'hold' | 'retire' | null
    readonly actAt: number | null
  },
): LeafDraft => createLeaf('orphan_warned', context, subjectOf(subject), facts)

export const registrationRetired = (
  context: LeafContext,
  subject: Subject,
  facts: {
    readonly radius: BlastRadius
    /** Positions [first, last] of the leaves that its archive covers. */
    readonly archived: readonly [number, number] | null
  } & Reasoned,
): LeafDraft =>
  createLeaf('registration_retired', context, subjectOf(subject), {
    ...radiusFacts(facts.radius),
    archived: facts.archived,
    why: facts.why,
  })
