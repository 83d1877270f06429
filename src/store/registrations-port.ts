// The ports for what is registered, and for who answers for it: agents, services and operators, their owners, and what a change of one
// drags along. The demands of ports.ts hold here too.
import type { LeafDraft, Owner, Registration, RegistrationState, SubjectKind } from './records.ts'

/** What a change does beyond the row itself; cascades run in the same transaction. */
export interface RegistrationChange {
  readonly set: Partial<Omit<Registration, 'id' | 'kind' | 'name' | 'version' | 'scopes' | 'createdAt' | 'state'>>
  readonly state: RegistrationState
  /** An attestation: its owner said at this time that it is needed. */
  readonly attestedAt?: number
}

/** What a change or a revocation touches: shown before, carried out, and told after. */
export interface BlastRadius {
  readonly registrations: readonly { readonly kind: SubjectKind; readonly name: string }[]
  readonly instances: number
  readonly certificates: number
  readonly intents: number
  /** Join tokens, and external account bindings that nobody has used: `bindings` has their kids, absent without any. */
  readonly tokens: number
  readonly bindings?: readonly string[]
  /** The first 1,000 serials, newest first. */
  readonly serials: readonly string[]
  /** Subscriptions and policies of the registrations, once they exist. */
  readonly subscriptions: number
}

export interface RegistrationsPort {
  /** @throws StoreError `already_exists` (also when retired: names are never reused), `owner_not_found`, `owner_gone` */
  create(
    draft: Omit<
      Registration,
      'id' | 'version' | 'state' | 'scopes' | 'createdAt' | 'changedAt' | 'boundKeyHash' | 'managedBy'
    > &
      Partial<Pick<Registration, 'boundKeyHash' | 'managedBy'>> & { readonly at: number },
    leaf: LeafDraft,
  ): Promise<Registration>
  find(kind: SubjectKind, name: string): Registration | null
  byId(id: number): Registration | null
  list(filter: {
    readonly kind: SubjectKind
    readonly owner?: string
    readonly state?: RegistrationState
    readonly endedAt?: number
    readonly profile?: string
    readonly after?: string
    readonly limit: number
  }): readonly Registration[]
  /**
   * Changes one registration. active → held: live certificates become held (certificateHold), intents will not be released;
   * held → active: certificates held by this hold and still unexpired become issued again; → retired: certificates, intents,
   * instances and tokens are revoked for good. `decide` sees the present row, everything live of it and its owner, and returns the
   * change, or throws to refuse.
   */
  change(command: {
    readonly kind: SubjectKind
    readonly name: string
    readonly at: number
    readonly decide: (current: Registration, radius: BlastRadius, owner: Owner | null) => RegistrationChange
    readonly leaf: (before: Registration, after: Registration, radius: BlastRadius) => LeafDraft
  }): Promise<{ readonly before: Registration; readonly after: Registration; readonly radius: BlastRadius }>
  counts(): Readonly<Record<SubjectKind, Readonly<Record<RegistrationState, number>>>>
}

/** An owner as declarative files and operators see them. */
export interface OwnerEntry extends Owner {
  readonly agents: number
  /** Agents, services and operators; none of those that are retired. */
  readonly registrations: number
  /** The declarative set that it belongs to (`agentca apply`); null: none. */
  readonly managedBy: string | null
}

/** A removed owner is known no more, but as the owner of what is retired; the name may be an owner's again. */
export type OwnerChange = { readonly managedBy: string | null } | { readonly removedAt: number }

export interface OwnersPort {
  /** Creates the owner if it does not exist. */
  ensure(name: string, at: number, leaf: LeafDraft): Promise<Owner>
  /** @throws StoreError `already_exists` */
  create(
    owner: { readonly name: string; readonly managedBy: string | null; readonly at: number },
    leaf: LeafDraft,
  ): Promise<OwnerEntry>
  find(name: string): Owner | null
  list(): readonly OwnerEntry[]
  /** `decide` sees the owner as it is under the lock, or throws to refuse. @throws StoreError `not_found` */
  change(
    name: string,
    decide: (current: OwnerEntry) => { readonly change: OwnerChange; readonly leaf: LeafDraft },
  ): Promise<void>
  /** Marks the owner gone and holds its agents (an operator decides about each: reassign and release, or retire). */
  gone(name: string, at: number, leaf: (radius: BlastRadius) => LeafDraft): Promise<BlastRadius>
}
