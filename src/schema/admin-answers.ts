// What `/v1/admin` answers with, as JSON: one file that the server writes by and the command line reads by. Times are RFC 3339 text,
// serials and hashes lower-case hex, durations carry their unit.

import type { TokenEvidenceAnswer } from './attestor-api.ts'

export type SubjectKindName = 'agent' | 'service' | 'operator'

export interface List<T> {
  readonly items: readonly T[]
  /** The cursor of the next page; null on the last one. */
  readonly next: string | null
}

export interface RegistrationAnswer {
  readonly kind: SubjectKindName
  readonly name: string
  readonly owner: string | null
  readonly purpose: string
  readonly profile: string
  readonly roles: readonly string[]
  readonly attributes: Readonly<Record<string, string>>
  readonly dns: readonly string[]
  readonly instances: number | null
  /** Operators only. */
  readonly role: 'viewer' | 'operator' | 'security' | 'admin' | null
  readonly until: string | null
  readonly boundKeyHash: string | null
  readonly managedBy: string | null
  readonly state: 'active' | 'held' | 'retired'
  readonly version: number
  readonly createdAt: string
  readonly changedAt: string
}

export interface RegistrationDetail extends RegistrationAnswer {
  readonly liveInstances: readonly InstanceAnswer[]
  readonly tokens: readonly TokenAnswer[]
}

export interface RadiusAnswer {
  readonly registrations: readonly { readonly kind: SubjectKindName; readonly name: string }[]
  readonly instances: number
  readonly certificates: number
  readonly intents: number
  readonly tokens: number
  readonly subscriptions: number
  /** The first 1,000, newest first. */
  readonly serials: readonly string[]
}

export interface ChangeAnswer {
  readonly registration: RegistrationAnswer
  readonly radius: RadiusAnswer
  readonly dryRun: boolean
  /** Of a retirement: positions [first, last] of the audit leaves that its archive covers. */
  readonly archived?: readonly [number, number] | null
}

export interface InstanceAnswer {
  readonly id: string
  readonly kind: SubjectKindName
  /** Name of the registration. */
  readonly name: string
  readonly spiffeId: string
  readonly state: 'active' | 'locked' | 'revoked'
  readonly lockReason: string | null
  /** What its first certificate came from; only where one instance is shown. */
  readonly evidence?: TokenEvidenceAnswer | null
  readonly serial: string | null
  readonly generation: number | null
  readonly notAfter: string | null
  readonly createdAt: string
  readonly changedAt: string
}

export interface TokenAnswer {
  readonly id: string
  readonly kind: SubjectKindName
  readonly name: string
  readonly uses: number
  readonly usesTaken: number
  readonly boundKeyHash: string | null
  readonly evidence: TokenEvidenceAnswer | null
  readonly state: 'active' | 'revoked' | 'expired' | 'used'
  readonly expiresAt: string
  readonly createdAt: string
  readonly createdBy: string
}

export interface TokenCreated {
  readonly id: string
  /** Shown once, stored nowhere. */
  readonly token: string
  readonly expiresAt: string
  readonly uses: number
  readonly subject: { readonly kind: SubjectKindName; readonly name: string }
  /** `sha256:HEX` of a root certificate's DER, for `agentca enroll --ca-fingerprint`. */
  readonly caFingerprint: string
  readonly url: string
}

/** A token for one enrolment of an admin, and whether that admin had to be registered for it. */
export interface OperatorRecoveredAnswer extends TokenCreated {
  readonly created: boolean
}

export type CertificateStateName = 'intent' | 'issued' | 'revoked' | 'held' | 'expired' | 'orphaned' | 'void'

export interface CertificateAnswer {
  readonly serial: string
  readonly state: CertificateStateName
  readonly kind: SubjectKindName
  /** Name of the registration, under the contract's member name whatever the kind. */
  readonly agent: string
  readonly instance: string
  readonly generation: number
  readonly notBefore: string
  readonly notAfter: string
  readonly issuedAt: string | null
  readonly revokedAt: string | null
  readonly reason: string | null
}

export interface CertificateDetail extends CertificateAnswer {
  readonly issuer: string
  readonly predecessor: string | null
  readonly replaced: boolean
  readonly keyHash: string
  readonly profile: string
  readonly profileHash: string
  readonly requester: string
  /** PEM; null for what was never released. */
  readonly certificate: string | null
  readonly chain: string
}

export interface RevocationAnswer {
  readonly by: string
  readonly value: string
  readonly reason: string
  readonly radius: RadiusAnswer
  /** Position of the revocation in the feed; null for a dry run. */
  readonly feed: { readonly epoch: string; readonly n: number } | null
  readonly at: string
  readonly dryRun: boolean
}

export interface SubscriberAnswer {
  /** `name/replica` */
  readonly subscriber: string
  readonly kind: SubjectKindName
  /** `live` has applied everything, `lagging` hears and has not, `stale` does not hear. */
  readonly state: 'live' | 'lagging' | 'stale'
  /** Number of the last entry that it was sent. */
  readonly sent: number
  /** Number of the last entry that it said it applied; null: it never said. */
  readonly acked: number | null
  /** Entries that it has not applied. */
  readonly lag: number | null
  readonly connectedAt: string
  readonly ackedAt: string | null
  readonly heartbeatAt: string | null
  readonly staleSince: string | null
  /** From then on it refuses everybody if it hears nothing more. */
  readonly coveredUntil: string
}

export interface FeedStatusAnswer {
  readonly epoch: string
  readonly n: number
  /** Number of the oldest entry that is kept: who is further behind gets a snapshot. */
  readonly oldest: number
  readonly heartbeatSeconds: number
  readonly leaseSeconds: number
  readonly subscribers: readonly SubscriberAnswer[]
}

export interface FeedEpochAnswer {
  /** The epoch that ended. */
  readonly from: string
  readonly epoch: string
  readonly n: number
}

export interface FeedAppliedAnswer {
  readonly n: number
  /** Services that it concerns, and how many of them applied it. */
  readonly of: number
  readonly applied: number
  /** Milliseconds to the slowest of those; null: nobody yet, or not known any more. */
  readonly afterMs: number | null
  readonly missing: readonly {
    readonly subscriber: string
    readonly staleSince: string
    readonly coveredUntil: string
  }[]
}

export interface CrlAnswer {
  readonly issuer: string
  /** `3-of-8`; null: the complete list. */
  readonly shard: string | null
  readonly number: string
  readonly thisUpdate: string
  readonly nextUpdate: string
  readonly entries: number
  readonly sha256: string
  readonly bytes: number
  readonly url: string | null
}

export interface IssuerAnswer {
  readonly name: string
  readonly kind: 'root' | 'issuing'
  readonly state: 'prepared' | 'active' | 'retired'
  readonly subject: string
  readonly serial: string
  readonly keyLabel: string | null
  readonly keyHash: string
  readonly fingerprint: string
  readonly notBefore: string
  readonly notAfter: string
  readonly daysLeft: number
  readonly parent: string | null
  readonly certificate: string
  /** Told when it is retired: unexpired leaves that it still answers for, counted up to 1,000. */
  readonly liveLeaves?: number
}

export interface HsmStatusAnswer {
  readonly state: 'ready' | 'down' | 'locked'
  readonly pinLatched: boolean
  readonly detail: string
  readonly since: string
  readonly keys: readonly { readonly label: string; readonly purposes: readonly string[]; readonly curve: string }[]
  readonly sessions: { readonly open: number; readonly busy: number; readonly queued: number; readonly stuck: number }
  readonly signatures: readonly { readonly key: string; readonly purpose: string; readonly total: number }[]
  readonly restarts: number
}

export interface ProfileAnswer {
  readonly name: string
  readonly hash: string
  readonly kind: SubjectKindName
  readonly lifetimeSeconds: number
  readonly content: Readonly<Record<string, unknown>>
}

export interface LeafAnswer {
  readonly index: number
  readonly event: string
  readonly at: string
  readonly subject: string | null
  /** The leaf's own members. In `/audit/leaves` the exact bytes come as base64 in `bytes`, with the stored chain head after it, hex. */
  readonly content?: Readonly<Record<string, unknown>>
  readonly bytes?: string
  readonly head?: string
}

export interface HeadAnswer {
  readonly size: number
  readonly head: string
  readonly dropped: number
}

export interface ClockAnswer {
  readonly state: 'ok' | 'unconfirmed' | 'refused'
  readonly now: string
  readonly lastSigning: string | null
  readonly detail: string
}

export interface StatusAnswer {
  readonly caId: string
  readonly trustDomain: string
  readonly version: string
  readonly mode: 'development' | 'production'
  readonly startedAt: string
  readonly urls: { readonly api: string; readonly status: string }
  readonly issuers: readonly (Pick<IssuerAnswer, 'name' | 'kind' | 'state' | 'notAfter' | 'daysLeft'> & {
    readonly crl: Pick<CrlAnswer, 'number' | 'thisUpdate' | 'nextUpdate' | 'entries'> | null
  })[]
  readonly certificates: Readonly<Record<'issued' | 'held' | 'revoked' | 'intent' | 'orphaned' | 'void', number>>
  readonly registrations: Readonly<Record<SubjectKindName, Readonly<Record<'active' | 'held' | 'retired', number>>>>
  readonly signer: { readonly state: string; readonly detail: string; readonly restarts: number }
  readonly audit: { readonly size: number; readonly checkpoint: { readonly size: number; readonly at: string } | null }
  readonly clock: ClockAnswer
  readonly feed: { readonly epoch: string; readonly n: number }
  /** Versions: in force, and one that is coming into force or was interrupted; null: none. */
  readonly policies: { readonly active: number | null; readonly unfinished: number | null }
  /** Operators whom the machine's owner let in during the last 7 days. */
  readonly recovered: readonly { readonly operator: string; readonly at: string }[]
  readonly attestors: readonly { readonly name: string; readonly state: string }[]
  /** Since the last full minute. */
  readonly rates: {
    readonly issuedPerMinute: number
    readonly refusedPerMinute: number
    readonly revokedPerMinute: number
  }
}

/** A backup that was made, as the audit log has it. */
export interface BackupRecordAnswer {
  readonly auditIndex: number
}

/** What is known of the time between a backup and its restore. */
export interface MaintenanceAnswer {
  /** `none`: the ledger never came from a backup; `waiting`: nothing is issued until an operator says so. */
  readonly state: 'none' | 'waiting' | 'ended'
  readonly backupAt: string | null
  readonly restoredAt: string | null
  readonly endedAt: string | null
  /** Changes of status that the backup does not have, by what was seen outside; null: nothing shows it. */
  readonly feedEntriesLost: number | null
  readonly auditLeavesLost: number | null
  /** Revocations that were taken over from lists published since. */
  readonly revoked: number
  /** Registrations that were held or retired since: `kind:name`. */
  readonly held: readonly string[]
  readonly unknown: number
  readonly locked: readonly string[]
  readonly tokensRevoked: number
}

export interface WhoamiAnswer {
  /** `local` on the admin socket, else the operator's name. */
  readonly name: string
  readonly role: 'viewer' | 'operator' | 'security' | 'admin'
  readonly mode: 'development' | 'production'
}

/** A cascade without a registration of its own: an owner who is gone. */
export interface RadiusChangeAnswer {
  readonly radius: RadiusAnswer
  readonly dryRun: boolean
}

/** The contract's `identity`: what enrolment, renewal, recovery and issuance by an operator answer with. */
export interface IdentityAnswer {
  readonly spiffeId: string
  /** Name of the registration, under the contract's member name whatever the kind. */
  readonly agent: string
  readonly instance: string
  readonly serial: string
  readonly generation: number
  readonly notBefore: string
  readonly notAfter: string
  /** Drawn per certificate between 50 and 66 % of its life. */
  readonly renewAfter: string
  /** The latest sensible time: what is left is for retries. */
  readonly renewBefore: string
  readonly renewInSeconds: number
  readonly expiresInSeconds: number
  /** PEM of the leaf. */
  readonly certificate: string
  /** PEM of the intermediates, without the leaf. */
  readonly chain: string
  /** PEM of the roots. */
  readonly bundle: string
  readonly notGranted: readonly string[]
  /** Whose log and state it is: with them what the log key signed is verified wherever it comes from. */
  readonly caId?: string
  /** PEM PUBLIC KEY. */
  readonly logKey?: string
}

export interface HsmKeyAnswer {
  readonly label: string
  readonly id: string
  readonly curve: string | null
  readonly sign: boolean | null
  readonly sensitive: boolean | null
  readonly extractable: boolean | null
  readonly alwaysSensitive: boolean | null
  readonly neverExtractable: boolean | null
  readonly local: boolean | null
}

export interface TestSignatureAnswer {
  readonly key: string
  readonly signed: string
  readonly signature: string
  readonly milliseconds: number
}

export interface CheckpointAnswer {
  readonly size: number
  readonly head: string
  readonly at: string
  /** The signed note as published at `/log/checkpoint`. */
  readonly note: string
  /** The log key as PEM PUBLIC KEY: to be compared with, and replaced by, the one an auditor kept. */
  readonly publicKey?: string
}
