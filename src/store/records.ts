// What the ledger keeps, as plain values. Serials and key hashes are lower-case hex; times are milliseconds since the epoch.
// Stored states only: `expired` is derived by whoever has a clock.

export type SubjectKind = 'agent' | 'service' | 'operator'
export type OperatorRole = 'viewer' | 'operator' | 'security' | 'admin'
export type RegistrationState = 'active' | 'held' | 'retired'
export type InstanceState = 'active' | 'locked' | 'revoked'
export type CertificateState = 'intent' | 'issued' | 'held' | 'revoked' | 'orphaned' | 'void'
export type IssuerKind = 'root' | 'issuing'
export type IssuerState = 'prepared' | 'active' | 'retired'

export interface Owner {
  readonly name: string
  readonly state: 'active' | 'gone'
  readonly createdAt: number
}

/** An agent, a service or an operator: registered the same way, names unique per kind and never reused. */
export interface Registration {
  readonly id: number
  readonly kind: SubjectKind
  readonly name: string
  /** Agents always have one; services and operators may. */
  readonly owner: string | null
  readonly purpose: string
  readonly profile: string
  readonly roles: readonly string[]
  readonly attributes: Readonly<Record<string, string>>
  readonly dnsNames: readonly string[]
  /** How many instances may hold a live certificate at once; null: the profile's limit. */
  readonly instanceLimit: number | null
  readonly operatorRole: OperatorRole | null
  /** SHA-256 of the only public key that may enrol, hex; null: whichever comes with good evidence. */
  readonly boundKeyHash: string | null
  /** The declarative set that it belongs to (`agentca apply`); null: none. */
  readonly managedBy: string | null
  /** End date: at this time the registration is retired by itself. */
  readonly until: number | null
  readonly state: RegistrationState
  /** What the policies in force grant for every call; empty without policies. */
  readonly scopes: readonly string[]
  /** Grows with every change; an intent is released only when it is still what it was at the decision. */
  readonly version: number
  readonly createdAt: number
  readonly changedAt: number
}

/** One enrolment, one key lineage. */
export interface Instance {
  readonly id: string
  readonly registrationId: number
  readonly state: InstanceState
  /** The newest certificate of the lineage (intent or issued); null when the only one became void. */
  readonly headSerial: string | null
  readonly lockReason: string | null
  /** Since when it gets no certificate any more, though those it has go on: its ACME account was deactivated. */
  readonly closedAt?: number
  /** Times of recoveries, newest last, for the profile's count and window. */
  readonly recoveries: readonly number[]
  readonly createdAt: number
  readonly changedAt: number
}

/** Who vouched for the holder, where it was not an operator. */
export interface TokenEvidence {
  readonly type: 'jwt' | 'x509'
  /** Name of the attestor. */
  readonly attestor: string
  /** As the evidence has them: who issued it, and about whom. */
  readonly issuer: string
  readonly subject: string
}

/** One or several enrolments: by a join token, or by evidence that an attestor admitted, which is recorded as one of one use. */
export interface JoinToken {
  readonly id: string
  /** SHA-256 of the token text, hex. The token itself is never stored. */
  readonly hash: string
  readonly registrationId: number
  /** The CA id the token is for. */
  readonly audience: string
  readonly uses: number
  readonly usesTaken: number
  /** SHA-256 of the only public key that may use it; null: bound by its first use. */
  readonly boundKeyHash: string | null
  readonly state: 'active' | 'revoked'
  readonly expiresAt: number
  readonly createdAt: number
  readonly createdBy: string
  /** null: a join token. */
  readonly evidence: TokenEvidence | null
}

/** One claimed use of a token: the key it was bound to and the certificate it led to. */
export interface TokenUse {
  /** That certificate was given out: the use is spent, and proves nothing new. */
  readonly released: boolean
  readonly tokenId: string
  readonly keyHash: string
  readonly serial: string
}

export interface CertificateRecord {
  readonly serial: string
  readonly issuerId: number
  readonly kind: SubjectKind
  readonly registrationId: number
  readonly instanceId: string
  readonly generation: number
  readonly predecessor: string | null
  /** True once a second key from its predecessor took its place: any later use means two holders. */
  readonly replaced: boolean
  readonly keyHash: string
  readonly state: CertificateState
  readonly profile: string
  readonly profileHash: string
  readonly requester: string
  readonly tokenId: string | null
  readonly registrationVersion: number
  readonly epoch: number
  readonly deadline: number
  readonly createdAt: number
  readonly issuedAt: number | null
  readonly notBefore: number
  readonly notAfter: number
  readonly revokedAt: number | null
  /** RFC 5280 reason name. */
  readonly reason: string | null
  /** By whoever has it, who goes on with another one; absent: not so. */
  readonly revokedBySubject?: true
}

/** The lineage that a public key belongs to, through void and orphaned rows too. */
export interface SeenKey {
  readonly instanceId: string
  readonly registrationId: number
  /** A certificate of this key was given out once: it is no longer new. */
  readonly released: boolean
}

/** A certificate with its bytes: the exact to-be-signed bytes and the signature value (null until issued), once each. */
export interface CertificateWithBytes extends CertificateRecord {
  readonly tbs: Uint8Array
  readonly signature: Uint8Array | null
}

export interface Issuer {
  readonly id: number
  readonly name: string
  readonly kind: IssuerKind
  readonly state: IssuerState
  readonly certificate: Uint8Array
  readonly parentId: number | null
  /** Key label in the online token; null for a root, whose key is never online. */
  readonly keyLabel: string | null
  readonly spkiHash: string
  readonly notBefore: number
  readonly notAfter: number
  readonly createdAt: number
}

export interface RevokedEntry {
  readonly serial: string
  readonly revokedAt: number
  readonly reason: string
  readonly notAfter: number
}

/** What is shown of a certificate beyond issued. */
export interface RevocationRow {
  readonly serial: Uint8Array
  /** false: released from a hold; it is there because its change has a revision. */
  readonly listed: boolean
  readonly reason: string
  readonly revokedAt: number
  readonly notAfter: number
  readonly revision: number
}

/** One step through an issuer's entries, in the order of their serials. */
export interface RevocationPruning {
  readonly issuerId: number
  readonly before: number
  /** null: from the first. */
  readonly after: string | null
  readonly limit: number
}

export interface CrlRecord {
  readonly issuerId: number
  readonly number: bigint
  readonly thisUpdate: number
  readonly nextUpdate: number
  readonly sha256: string
  readonly entries: number
  /** null: too long for the ledger; it is in its file alone. */
  readonly der: Uint8Array | null
}

/** An audit leaf before it has a place in the log: canonical bytes and what the log is searched by. */
export interface LeafDraft {
  readonly event: string
  readonly at: number
  readonly subject: string | null
  /** Whom else it concerns: found by these too. An index, and no part of what is chained and signed. */
  readonly also?: readonly string[]
  readonly bytes: Uint8Array
}

export interface Leaf extends LeafDraft {
  /** Position, contiguous from 0. */
  readonly index: number
  /** SHA-256(0x00 ‖ bytes): RFC 6962's leaf hash, so that a Merkle log can be built on the same leaves. */
  readonly leafHash: Uint8Array
  /**
   * SHA-256(previous head ‖ leafHash); the first previous head is 32 zero octets. Shorter, its first octets, where it is not known: after
   * a leaf that is not what was appended, until the next head that the ledger keeps whole.
   */
  readonly head: Uint8Array
}

export interface CheckpointRecord {
  readonly size: number
  readonly head: Uint8Array
  readonly at: number
  /** The signed note as published. */
  readonly note: string
}

export interface FeedEntry {
  readonly n: number
  /** `revoke`, `hold`, `release`: `body.changes` lists `[serial, notAfter]` of every certificate concerned. `agent`: a registration. */
  readonly type: string
  readonly at: number
  readonly body: Readonly<Record<string, unknown>>
}
