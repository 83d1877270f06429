// What a ledger that comes from a backup is told: what happened after it, as far as something outside still shows it.
import type { LeafDraft, SubjectKind } from './records.ts'

/** An entry of a CRL that was published after the backup was made. */
export interface SeenRevocation {
  readonly issuerId: number
  readonly serial: string
  /** `certificateHold` locks the instance until an operator releases it. */
  readonly reason: string
  readonly revokedAt: number
  /** When the entry of a certificate that the ledger does not have may leave the CRL. */
  readonly until: number
}

export interface Recovered {
  /** Certificates of the ledger that are revoked now and were not. */
  readonly revoked: number
  /** Registrations that are held now: they were held or retired. `kind:name`. */
  readonly held: readonly string[]
  /** Instances that are locked now: one of their certificates was held, or revoked for more than being replaced. */
  readonly locked: readonly string[]
  /** Serials that the ledger does not know: issued after the backup, and revoked. */
  readonly unknown: number
  /** One-time secrets that may have been used since. */
  readonly tokens: number
}

export interface RecoveryCommand {
  readonly at: number
  /** What `maintenance` of the meta port says from now on. */
  readonly maintenance: (recovered: Recovered) => string
  readonly seen: readonly SeenRevocation[]
  /** Held or retired when the state was published last. */
  readonly suspended: readonly { readonly kind: SubjectKind; readonly name: string }[]
  /** The highest number of each issuer's CRL that anybody saw. */
  readonly crlNumbers: readonly { readonly issuerId: number; readonly number: bigint }[]
  /** Of the lock of an instance. */
  readonly lockLeaf: (instance: { readonly id: string; readonly kind: string; readonly name: string }) => LeafDraft
  readonly leaf: (recovered: Recovered) => LeafDraft
}

export interface RecoveryPort {
  /**
   * One transaction: nothing that was revoked comes back, every token that is still of use is revoked, CRL numbers go on above all that
   * were seen, the feed begins a new epoch, and the ledger is in maintenance.
   */
  recover(command: RecoveryCommand): Promise<Recovered>
}
