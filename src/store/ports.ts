// The ledger's ports: what the authority asks of a store, free of SQL and of native imports, so that PostgreSQL follows behind the
// same contract tests. Demands on every implementation:
// - durability: a promise that resolves has its transaction durable (fsync'd); a rejected one has left nothing behind.
// - atomicity: one call is one transaction, audit leaves and feed entries included. Calls in flight may share a commit, each
//   isolated from the others' failure (savepoints).
// - concurrency: `decide`, `leaf` and `change` functions run inside the transaction over facts read under its lock. They are pure,
//   synchronous and may run more than once (a PostgreSQL store retries on serialisation failures).
// - reads that decide go to the primary.
import type { AcmePorts } from './acme-port.ts'
import type { AuditPort } from './audit-port.ts'
import type { EventCursorsPort } from './event-cursors-port.ts'
import type { FeedPort } from './feed-port.ts'
import type { OrphansPort } from './orphans-port.ts'
import type { PoliciesPort } from './policies-port.ts'
import type { PruningPort } from './pruning-port.ts'
import type {
  CertificateRecord,
  CertificateState,
  CertificateWithBytes,
  Instance,
  InstanceState,
  Issuer,
  IssuerState,
  JoinToken,
  LeafDraft,
  Owner,
  Registration,
  RevocationPruning,
  RevocationRow,
  RevokedEntry,
  SeenKey,
  SubjectKind,
  TokenUse,
} from './records.ts'
import type { RecoveryPort } from './recovery-port.ts'
import type { BlastRadius, OwnersPort, RegistrationsPort } from './registrations-port.ts'
import type { ShardsPort } from './shards-port.ts'
import type { StatusPort } from './status-port.ts'

export type { AuditPort } from './audit-port.ts'
export type { FeedHead, FeedPort, FeedSnapshot } from './feed-port.ts'
export type { OrphanNotice, OrphansPort, RegistrationFacts } from './orphans-port.ts'
export type {
  BlastRadius,
  OwnerChange,
  OwnerEntry,
  OwnersPort,
  RegistrationChange,
  RegistrationsPort,
} from './registrations-port.ts'
export type { ShardKey, ShardRecord, ShardsPort } from './shards-port.ts'
export type { StatusPort } from './status-port.ts'

/** How the caller proved who it is; decides which facts are read. */
export type EvidenceQuery =
  | { readonly kind: 'token'; readonly tokenHash: string }
  | { readonly kind: 'renewal'; readonly presentedSerial: string }
  | { readonly kind: 'recovery'; readonly provedKeyHash: string; readonly tokenHash: string | null }
  | { readonly kind: 'registration'; readonly subject: SubjectKind; readonly name: string }
  /** An ACME account, whose key signed the request for this order. */
  | { readonly kind: 'account'; readonly accountId: string; readonly orderId: string }

export interface IssuanceQuery {
  readonly evidence: EvidenceQuery
  /** SHA-256 of the new key's SubjectPublicKeyInfo. */
  readonly keyHash: string
  readonly now: number
}

/** Everything a decision about one issuance may look at, read in one transaction. */
export interface IssuanceFacts {
  readonly registration: Registration | null
  readonly owner: Owner | null
  readonly token: JoinToken | null
  /** The claim of this very key on a use of this token. It outlives an intent that became void, orphaned or refused: `head` is then null. */
  readonly tokenUse: TokenUse | null
  /** Renewal: the presented certificate. Recovery: the newest certificate of the proved key. */
  readonly presented: CertificateRecord | null
  /** The lineage of `presented`, or of `tokenUse`; for a registration itself that of the new key, if it has one with this registration. */
  readonly instance: Instance | null
  /** The row of `instance.headSerial`. */
  readonly head: CertificateRecord | null
  /** Of an order: its certificate, or the latest attempt at it. */
  readonly ordered?: CertificateRecord | null | undefined
  /** How often the successor of `presented` was already replaced by another key (0 or 1; voids and orphans do not count). */
  readonly replacements: number
  /** Who the new key has been seen with: an instance (also through void and orphaned rows), an issuer (or an ACME account: no key of a certificate either), or nobody. */
  readonly keySeenWith: SeenKey | 'issuer' | null
  readonly keyRevoked: boolean
  /** Instances of the registration that are not revoked and have an unexpired certificate or intent. Counted when read: look only where a limit exists, and only inside `decide`. */
  readonly liveInstances: number
  /** Those of them that began before `instance`; 0 without one. Counted when read, too. */
  readonly liveInstancesBefore: number
}

export interface IntentRecord {
  readonly serial: string
  readonly issuerId: number
  readonly kind: SubjectKind
  readonly registrationId: number
  readonly registrationVersion: number
  readonly instanceId: string
  /** True: create the instance in this transaction. */
  readonly newInstance: boolean
  readonly generation: number
  readonly predecessor: string | null
  /** A successor of the same predecessor that this one replaces: revoked as superseded when this one is issued (step 6). */
  readonly supersedes: string | null
  /** Claim a use of this token for `keyHash`. */
  readonly tokenId: string | null
  /** The order that this certificate is for. */
  readonly orderId?: string | undefined
  /** Count a recovery of the instance. */
  readonly recovery: boolean
  readonly keyHash: string
  readonly tbs: Uint8Array
  readonly profile: string
  readonly profileHash: string
  readonly requester: string
  readonly notBefore: number
  readonly notAfter: number
  readonly epoch: number
  readonly deadline: number
  readonly createdAt: number
}

export type IssuanceDecision<Refusal> =
  | { readonly act: 'record'; readonly intent: IntentRecord; readonly leaf: LeafDraft }
  /** The same request was answered before: give the same certificate again. */
  | { readonly act: 'repeat'; readonly serial: string; readonly leaf: LeafDraft | null }
  /** The same request is being signed right now. */
  | { readonly act: 'pending'; readonly serial: string }
  /** A fault of this request alone: nothing is recorded, and others of its transaction are not run again for it. */
  | { readonly act: 'fail'; readonly error: unknown }
  | {
      readonly act: 'refuse'
      readonly refusal: Refusal
      /** null: counted elsewhere and sampled, so that an anonymous caller cannot fill the disk. */
      readonly leaf: LeafDraft | null
      /** Lock this lineage in the same transaction: its live certificates become held, with a feed entry. */
      readonly lock: { readonly instanceId: string; readonly reason: string; readonly leaf: LeafDraft } | null
    }

export interface IntentCommand<Refusal> {
  readonly query: IssuanceQuery
  readonly decide: (facts: IssuanceFacts) => IssuanceDecision<Refusal>
}

export interface IssuedCommand {
  readonly serial: string
  readonly signature: Uint8Array
  readonly epoch: number
  readonly at: number
  readonly issuedLeaf: LeafDraft
  /** Written instead when the intent may not be released; the certificate is then revoked as privilegeWithdrawn. */
  readonly refusedLeaf: () => LeafDraft
}

export interface IssuancePort {
  /** The facts as of now, outside any write: for what only shows what would be. */
  facts(query: IssuanceQuery): IssuanceFacts
  /** Steps 1 to 4: decides under the ledger's lock, and records. Outcomes in the order of the batch. */
  recordIntents<Refusal>(batch: readonly IntentCommand<Refusal>[]): Promise<readonly IssuanceDecision<Refusal>[]>
  /** Step 6. `issued` only if the row was still `intent` of this epoch and its registration's version unchanged and active. */
  recordIssued(batch: readonly IssuedCommand[]): Promise<readonly ('issued' | 'refused')[]>
  /** The HSM was certainly never called: burn the serial, give the token use and the lineage slot back. */
  recordVoid(batch: readonly { readonly serial: string; readonly leaf: LeafDraft }[]): Promise<void>
  /**
   * The HSM may have been called, and whoever asked it has given up: orphaned now, as the sweep would at the deadline. What is no
   * intent any more stays as it is, and its leaf is not written.
   */
  recordOrphaned(
    batch: readonly { readonly serial: string; readonly at: number; readonly leaf: LeafDraft }[],
  ): Promise<void>
  /** For the reconciliation with the signer's count: signatures that came back, ever, and intents that may have been signed. */
  signatures(issuerId: number): { readonly recorded: number; readonly doubtful: number }
  /** Intents past their deadline, or of an earlier epoch: orphaned, revoked, lineage slot free. */
  sweepIntents(sweep: {
    readonly now: number
    readonly epoch: number
    readonly leaf: (row: CertificateRecord, registration: Registration) => LeafDraft
  }): Promise<readonly CertificateRecord[]>
}

export interface CertificateFilter {
  readonly serials?: readonly string[]
  readonly kind?: SubjectKind
  readonly registration?: { readonly kind: SubjectKind; readonly name: string }
  readonly issuerId?: number
  readonly instanceId?: string
  readonly keyHash?: string
  readonly states?: readonly CertificateState[]
  /** Only those whose notAfter is after (or, `expired`, not after) this time. */
  readonly liveAt?: number
  readonly expiredAt?: number
  /** Newest first, below this serial's row: the `next` of the previous page. */
  readonly before?: string
  readonly limit: number
}

export interface CertificatesPort {
  get(serial: string): CertificateWithBytes | null
  list(filter: CertificateFilter): { readonly rows: readonly CertificateRecord[]; readonly next: string | null }
  /** Counts by stored state of unexpired certificates at `now`. */
  counts(now: number): Readonly<Record<CertificateState, number>>
}

export interface InstancesPort {
  get(id: string): Instance | null
  list(filter: {
    readonly kind?: SubjectKind
    readonly registrationId?: number
    readonly state?: InstanceState
    /** Only those that are not revoked and have an unexpired certificate or intent at this time. */
    readonly liveAt?: number
    readonly after?: string
    readonly limit: number
  }): readonly (Instance & { readonly registration: Registration; readonly head: CertificateRecord | null })[]
  /** locked → active: certificates held by the lock and still unexpired become issued again, unless the agent is held. @throws `conflict` */
  unlock(id: string, at: number, leaf: LeafDraft): Promise<Instance>
  /** active → locked: its live certificates become held, with a feed entry. @throws `not_found`, `conflict` */
  lock(
    lock: { readonly instanceId: string; readonly reason: string; readonly leaf: LeafDraft },
    at: number,
  ): Promise<Instance>
}

export interface TokensPort {
  /** @throws StoreError `already_exists` (also for a hash that is known) */
  create(
    token: Omit<JoinToken, 'usesTaken' | 'state' | 'evidence'> & Partial<Pick<JoinToken, 'evidence'>>,
    leaf: LeafDraft,
  ): Promise<JoinToken>
  get(id: string): JoinToken | null
  byHash(hash: string): JoinToken | null
  /** What never changes of it, without looking at its state; it may be of one that is gone. null: there was none. */
  holderOf(hash: string): Pick<JoinToken, 'id' | 'registrationId'> | null
  /** Newest first, those made before the token with this id. */
  list(filter: {
    readonly kind?: SubjectKind
    readonly registrationId?: number
    readonly before?: string
    readonly limit: number
  }): readonly JoinToken[]
  /** Evidence of a registration that no key has claimed and that has not ended; counted up to `limit`. */
  unclaimedEvidence(of: { readonly registrationId: number; readonly now: number; readonly limit: number }): number
  /** Evidence that ended before without that any key ever claimed it goes, at most `limit` in one transaction. @returns how many */
  pruneEvidence(step: { readonly before: number; readonly limit: number }): Promise<number>
  /** @throws StoreError `not_found` */
  revoke(id: string, at: number, leaf: LeafDraft): Promise<JoinToken>
}

export type RevocationSelector =
  | { readonly by: 'serial' | 'instance' | 'owner' | 'token' | 'key' | 'issuer'; readonly value: string }
  | { readonly by: 'agent' | 'service' | 'operator'; readonly value: string }

export interface RevocationRows extends Disposable {
  /** At which all of them are read. */
  readonly revision: number
  /** The next ones, `limit` at most; fewer: there are no more. */
  next(limit: number): readonly RevocationRow[]
}

export interface RevocationsPort {
  /** @throws StoreError `not_found` when nothing of that name exists */
  blastRadius(selector: RevocationSelector, now: number): BlastRadius
  /**
   * One transaction: live certificates and intents → revoked, covered instances → revoked (all selectors but serial), covered tokens →
   * revoked, a key (by `key`, or by `serial` for `keyCompromise`) → refused for ever, an issuer's → all its leaves. Already revoked ones
   * stay as they were; held ones become revoked. One feed entry with the next sequence number. Reason `certificateHold` is refused here.
   */
  revoke(command: {
    readonly selector: RevocationSelector
    readonly reason: string
    readonly at: number
    /** The caller's confirmation (certificates + intents); refused with `radius_changed` when more would be hit. null: not checked. */
    readonly expected: number | null
    readonly bySubject?: boolean | undefined
    readonly leaf: (radius: BlastRadius, feedN: number) => LeafDraft
  }): Promise<{ readonly radius: BlastRadius; readonly feedN: number }>
  /** Grows with each change of the set that CRL and OCSP show (revocations, holds, releases, orphans). */
  revision(issuerId: number): number
  /**
   * Calls `listener` after a commit that made any revision grow, before the promises of that commit resolve: whoever was told that
   * something is revoked is never shown an answer from before. The listener is synchronous and must not throw. @returns how to stop
   */
  onChange(listener: () => void): () => void
  /** Entries for a full CRL, in pages by serial: unexpired at `at`, and those expired since `since` (on one more CRL). */
  entries(page: {
    readonly issuerId: number
    readonly since: number
    readonly after: string | null
    readonly limit: number
  }): readonly RevokedEntry[]
  /** Every row as it is now, ended ones and released ones too, by their serials, while writing goes on. A row that was pruned is gone. */
  readRows(issuerId: number): RevocationRows
  /** The same of those that changed after this revision, in the order of their changes. */
  rowsSince(issuerId: number, revision: number, limit: number): readonly RevocationRow[]
  /** Serials whose answer changed after this revision, for caches. Empty page when nothing did. */
  changedSince(
    issuerId: number,
    revision: number,
    limit: number,
  ): readonly { readonly serial: string; readonly revision: number }[]
  /** Looks at the next `limit` entries and removes those whose certificates ended by `before`. @returns where to go on; null: the end */
  prune(step: RevocationPruning): Promise<{ readonly removed: number; readonly next: string | null }>
}

export interface IssuersPort {
  add(issuer: Omit<Issuer, 'id'>, leaf: LeafDraft): Promise<Issuer>
  list(): readonly Issuer[]
  /** Activating one retires no other by itself; exactly one issuing CA is active at a time (`conflict` otherwise). */
  setState(id: number, state: IssuerState, at: number, leaf: LeafDraft, retire: number | null): Promise<Issuer>
}

/** Small facts of this ledger. Keys are fixed; values are text. */
export interface MetaPort {
  get(key: MetaKey): string | null
  set(values: Partial<Record<MetaKey, string>>): Promise<void>
  /** Next core epoch: grows at each start of the core, so that intents of an earlier life are known. */
  nextEpoch(): Promise<number>
}
export type MetaKey =
  | 'trust_domain'
  | 'ca_id'
  | 'created_at'
  | 'last_signing_time'
  | 'last_confirmed_time'
  | 'signer_counts'
  | 'public_url_api'
  | 'public_url_status'
  | 'audit_dropped'
  /** JSON; set while a restored ledger waits for its operator. */
  | 'maintenance'

export interface Ledger extends AsyncDisposable {
  readonly issuance: IssuancePort
  readonly certificates: CertificatesPort
  readonly registrations: RegistrationsPort
  readonly owners: OwnersPort
  readonly instances: InstancesPort
  readonly tokens: TokensPort
  readonly policies: PoliciesPort
  readonly revocations: RevocationsPort
  readonly status: StatusPort
  readonly shards: ShardsPort
  readonly issuers: IssuersPort
  readonly audit: AuditPort
  readonly feed: FeedPort
  readonly orphans: OrphansPort
  readonly eventCursors: EventCursorsPort
  readonly acme: AcmePorts
  readonly recovery: RecoveryPort
  readonly pruning: PruningPort
  readonly meta: MetaPort
  /** Why the last transaction that was tried failed; null: it did not. */
  problem(): string | null
  /** Waits for what was already asked, then closes. */
  close(): Promise<void>
}
