// The port of policies: every version that was ever applied, which one is in force, and the scopes that follow from it for each
// registration. Which scopes those are is decided by whoever evaluates policies; the store asks inside its transaction, so that the
// scopes of a registration are never those of another version.
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
  /**
   * One transaction: a new version, or an earlier one again, in force; scopes and version of every registration that gains or loses one;
   * a feed entry for each of them, and one for the policies; the audit leaf.
   * @throws StoreError `not_found`; `conflict` when another version than `expected` is in force
   */
  activate(command: {
    readonly version: PolicyDraft | number
    /** The version that the caller saw in force; null: none. */
    readonly expected: number | null
    readonly resolve: ResolveScopes
    readonly at: number
    readonly leaf: (from: number | null, to: number, changes: readonly ScopeChange[]) => LeafDraft
  }): Promise<{ readonly version: PolicyVersion; readonly changes: readonly ScopeChange[] }>
  /** Scopes as of `at`, for what time alone changes. No leaf where nothing did. */
  refresh(command: {
    readonly at: number
    readonly leaf: (version: number, changes: readonly ScopeChange[]) => LeafDraft
  }): Promise<readonly ScopeChange[]>
}
