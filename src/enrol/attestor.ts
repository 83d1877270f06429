// What every attestor is: somebody whose word about a workload is believed. It says whether a piece of evidence is of its authority, and
// what it vouches for; which agent that is, and whether it was used before, is decided in admit.ts, the same for all.
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { AttestorRule } from '../schema/attestor.ts'
import type { Claims } from './rules.ts'

/** As it came over the API. */
export type WorkloadEvidence =
  | { readonly type: 'jwt'; readonly jwt: string }
  /** By a JWS, or by the certificate of the connection: DER, leaf first, whose key the handshake proved. */
  | { readonly type: 'x509'; readonly jws: string }
  | { readonly type: 'x509'; readonly shown: readonly Uint8Array[] }

export interface EvidenceRequest {
  /** DER of the certification request that comes with it; nobody has looked into it. */
  readonly csr: Uint8Array
  /** Milliseconds since the epoch. */
  readonly now: number
}

export interface Attested {
  readonly issuer: string
  readonly subject: string
  readonly claims: Claims
  /** What makes it one piece of evidence: the same text is the same one, whoever sends it and however it is spelt. */
  readonly oneUse: string
  /** Milliseconds since the epoch: it is remembered for longer, and good for no longer. */
  readonly expiresAt: number
  /** Milliseconds since the epoch: it was not made before, however far clocks are apart. */
  readonly madeAfter: number
  /** RFC 7638 thumbprint (base64url) of the only key that it is for; null: it names none. */
  readonly keyThumbprint: string | null
}

export interface AttestorStatus {
  readonly name: string
  readonly kind: 'jwt' | 'x509'
  readonly authority: string
  readonly rules: number
  /** `ready`; `waiting`: nothing is known yet; `stale`: works with what it last knew; `down`: cannot say anything. */
  readonly state: 'ready' | 'waiting' | 'stale' | 'down'
  /** Why not ready; null when it is. */
  readonly problem: string | null
  /** What it knows: keys of a provider, anchors of an authority. */
  readonly keys: number
  /** When it last learnt it, milliseconds since the epoch; null: never. */
  readonly updatedAt: number | null
}

/** One that is switched off is listed too. */
export type ListedAttestor = Omit<AttestorStatus, 'state'> & { readonly state: AttestorStatus['state'] | 'off' }

export interface Attestor {
  readonly name: string
  readonly type: 'jwt' | 'x509'
  readonly rules: readonly AttestorRule[]
  /** Whether it claims to be of this authority: nothing is checked. @throws TokenError `jwt_malformed` */
  recognises(evidence: WorkloadEvidence): boolean
  /** @throws TokenError, JwsError, VerifyError, EnrolError; all of them mean that nothing is vouched for */
  attest(evidence: WorkloadEvidence, request: EvidenceRequest): Promise<Attested>
  status(): AttestorStatus
  close(): void
}

export interface AttestorDeps {
  readonly clock: Clock
  readonly log: Log
  /** `publicUrl.api`: what proofs are made for. */
  readonly publicUrl: string
}
