// The port for what may have been left behind: facts of each registration that rules judge (ca/orphans.ts), and the warnings that were
// given. The demands of ports.ts hold here too. Pages are bounded, so that whoever walks through a large registry lets others in
// between.
import type { Instance, JoinToken, LeafDraft, Owner, Registration } from './records.ts'

/** `attestation`: its owner is to say that it is still needed. `orphan`: nobody seems to need it. */
export type NoticeTopic = 'attestation' | 'orphan'

/** That a warning was given, and when: what the grace period is counted from. */
export interface OrphanNotice {
  readonly topic: NoticeTopic
  readonly warnedAt: number
}

export interface RegistrationFacts {
  readonly registration: Registration
  readonly owner: Owner | null
  /** The latest attestation of anything of this owner's. */
  readonly ownerConfirmedAt: number | null
  readonly attestedAt: number | null
  /** Of its newest certificate that was given out. */
  readonly lastIssuedAt: number | null
  readonly notices: readonly OrphanNotice[]
}

export interface InstanceFacts extends Instance {
  readonly lastIssuedAt: number
}

export interface OrphansPort {
  /** Registrations of every kind that are not retired, in the order of their ids, after this id. */
  registrations(page: { readonly after: number; readonly limit: number }): readonly RegistrationFacts[]
  /** One of them as it is now; inside a transaction, as that transaction sees it. null: retired, or unknown. */
  registration(id: number): RegistrationFacts | null
  /** Instances of a registration with an unexpired certificate at `now` whose newest was given out before `issuedBefore`. */
  instances(filter: {
    readonly registrationId: number
    readonly now: number
    readonly issuedBefore: number
    readonly limit: number
  }): readonly InstanceFacts[]
  /** Tokens of a registration that were never used nor revoked, made before `createdBefore`. */
  unusedTokens(filter: {
    readonly registrationId: number
    readonly createdBefore: number
    readonly limit: number
  }): readonly JoinToken[]
  /** Replaces an earlier warning on the same topic. */
  warn(registrationId: number, notice: OrphanNotice, leaf: LeafDraft): Promise<void>
  /** The reasons are gone: the next ones begin with a warning again. */
  forget(registrationId: number, topic: NoticeTopic): Promise<void>
}
