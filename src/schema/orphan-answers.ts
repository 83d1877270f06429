// What `/v1/admin/orphans` answers with.
import type { SubjectKindName } from './admin-answers.ts'

export type OrphanReasonName =
  | 'owner_gone'
  | 'owner_unconfirmed'
  | 'attestation_due'
  | 'attestation_lapsed'
  | 'past_end'
  | 'never_enrolled'
  | 'idle'
  | 'token_unused'
  | 'grant_unused'

export interface OrphanAnswer {
  readonly what: SubjectKindName | 'instance' | 'token'
  readonly kind: SubjectKindName
  /** Of the registration. */
  readonly name: string
  /** Of the instance or token. */
  readonly id: string | null
  readonly owner: string | null
  readonly state: string
  readonly reasons: readonly {
    readonly reason: OrphanReasonName
    /** Since when; of an attestation that is due: until when it holds. */
    readonly since: string
    readonly cure: string
    readonly detail?: string
  }[]
  readonly warnedAt: string | null
  /** What comes by itself if nobody does anything. */
  readonly next: { readonly act: 'hold' | 'retire'; readonly at: string } | null
}

export interface OrphanEndAnswer extends OrphanAnswer {
  /** Why it was not ended; null: it was, or, in a dry run, would be. */
  readonly problem: string | null
}

export interface OrphanRetirementAnswer {
  readonly items: readonly OrphanEndAnswer[]
  /** There are more than one call ends. */
  readonly more: boolean
  readonly dryRun: boolean
}
