// The port of policies: every version that was ever applied, which one is in force, and the scopes that follow from it for each
// registration. Which scopes those are is decided by whoever evaluates policies; the store asks inside its transactions. A version comes into
// force in steps, each durable: registrations it has reached have its scopes, the others those of the version before, whatever else
// changes meanwhile.
import type { LeafDraft, Registration, SubjectKind } from './records.ts'

export interface PolicyVersion {
  readonly id: number
  /** SHA-256 of its files, hex. */
  readonly hash: string
  /** Text by name. */
  readonly files: Readonly<Record<string, string>>
  readonly author: string
  readonly why: string | null
  readonly createdAt: number
  /** When it was last put in force. */
  readonly activatedAt: number
  readonly active: boolean
  /** It was about to come into force when that was interrupted, or is coming into force now: some registrations have its scopes. */
  readonly unfinished: boolean
}

export interface PolicyDraft {
  readonly hash: string
  readonly files: Readonly<Record<string, string>>
  readonly author: string
  readonly why: string | null
}

/** Pure and synchronous; called for agents and services that are not retired. Sorted the same way each time. */
export type ResolveScopes = (registration: Registration, at: number) => readonly string[]

export interface ScopeChange {
  readonly kind: SubjectKind
  readonly name: string
  /** Of the registration, after the change. */
  readonly version: number
  readonly gained: readonly string[]
  readonly lost: readonly string[]
}

export interface PoliciesPort {
  active(): PolicyVersion | null
  get(id: number): PolicyVersion | null
  /** Newest first, without their files. */
  list(filter: { readonly before?: number; readonly limit: number }): readonly Omit<PolicyVersion, 'files'>[]
  /** How scopes follow from a version. Before a version is in force, and at each start for the one that is. */
  provide(version: number, resolve: ResolveScopes): void
  /** What `unfinished` says; null: none. It is to be activated again, or another one in its place. */
  rolling(): PolicyVersion | null
  /**
   * A new version, or an earlier one again, in force. A step is one transaction: scopes and version of registrations that gain or lose
   * one, a feed entry for each of them, and the leaf. The last step puts the version in force, with its feed entry and leaf; where one is
   * enough, it all happens or nothing does. Others that were unfinished are no more. One at a time.
   * @throws StoreError `not_found`; `conflict` when another version than `expected` is in force
   */
  activate(command: {
    readonly version: PolicyDraft | number
    /** The version that the caller saw in force; null: none. */
    readonly expected: number | null
    readonly resolve: ResolveScopes
    readonly at: number
    /** Of a step that is not the last, with what it changed. */
    readonly stepLeaf: (to: number, changes: readonly ScopeChange[]) => LeafDraft
    /** Of the last one, with what all of them changed. */
    readonly leaf: (from: number | null, to: number, changes: readonly ScopeChange[]) => LeafDraft
  }): Promise<{ readonly version: PolicyVersion; readonly changes: readonly ScopeChange[] }>
  /** Scopes as of `at`, for what time alone changes: in steps, each with a leaf where something did. Not while a version comes into force. */
  refresh(command: {
    readonly at: number
    readonly leaf: (version: number, changes: readonly ScopeChange[]) => LeafDraft
  }): Promise<readonly ScopeChange[]>
}
