// The port through which the core asks for signatures. No native import here: the core, its tests and the command line load it
// without an HSM. `client.ts` implements it over the signer's socket.

/** What a signature is for. The signer parses the bytes and refuses whatever does not fit its purpose. */
export type SignPurpose = 'leaf' | 'crl' | 'ocsp-responder' | 'ocsp-response' | 'checkpoint' | 'test-sign'

export const signPurposes: readonly SignPurpose[] = [
  'leaf',
  'crl',
  'ocsp-responder',
  'ocsp-response',
  'checkpoint',
  'test-sign',
]

/** Status (CRL, OCSP, checkpoint) goes before renewals, renewals before enrolments; status has slots of its own. */
export type SignPriority = 'status' | 'renew' | 'enrol'

export interface SignRequest {
  readonly purpose: SignPurpose
  /** CKA_LABEL of the key. */
  readonly key: string
  /** The exact to-be-signed bytes: DER for certificates, CRLs and ResponseData, text for checkpoints. Not to be mutated until the promise settles. */
  readonly tbs: Uint8Array
  readonly priority: SignPriority
  /** How long this request may take from the call, in milliseconds on the monotonic clock: a duration, not a point in time. */
  readonly deadlineMs: number
}

/**
 * `ready`: signs. `locked`: alive, but not logged in (PIN latched, or no pin-source): an operator has to unlock.
 * `down`: no process, no socket, or a module that hangs or failed; the supervisor is at work.
 */
export type SignerState = 'ready' | 'down' | 'locked'

export interface SignerKeyHealth {
  readonly label: string
  readonly purposes: readonly SignPurpose[]
  /** Lower-case hex CKA_ID. */
  readonly idHex: string
  /** SHA-256 of the DER SubjectPublicKeyInfo, lower-case hex. */
  readonly spkiSha256Hex: string
  readonly curve: 'P-256' | 'P-384'
}

export interface SignatureCount {
  readonly key: string
  readonly purpose: SignPurpose
  /** C_Sign calls made, ever; a crash makes it too high by at most `uncertain`, never too low. */
  readonly total: number
  /** The part of `total` that crashes left in doubt: total - uncertain <= true count <= total. */
  readonly uncertain: number
  /** The number durable on disk; always >= total. */
  readonly reserved: number
  /** Exact count since this signer process started. */
  readonly sinceStart: number
}

export interface SignerHealth {
  readonly state: SignerState
  readonly pinLatched: boolean
  readonly keys: readonly SignerKeyHealth[]
  readonly counts: readonly SignatureCount[]
  readonly sessions: {
    readonly open: number
    readonly busy: number
    readonly queued: number
    /** Calls inside the module past their deadline. */
    readonly stuck: number
  }
  /** Wall time since which `state` holds, milliseconds since the epoch. */
  readonly sinceMs: number
  /** One line for an operator; never a secret. */
  readonly detail: string
}

/**
 * Concurrency: any number of `sign` calls may be in flight; answers come in any order. Bounded: a request that cannot be reached
 * before its deadline is refused at once with `signer_busy`.
 * Durability: the signature count is reserved on disk before C_Sign runs, so a crash over-counts and never under-counts; the last
 * CRL number (per key and scope) and the last checkpoint size are durable before C_Sign, so neither is ever signed twice or backwards.
 * Retry: the signer repeats a failed C_Sign itself where the error table says so; the caller never re-sends the same to-be-signed
 * bytes after `hsmCalled: 'maybe'`. Every signature was verified in software before `sign` resolves.
 */
export interface SignerPort {
  /**
   * @returns the signature value in DER: ECDSA-Sig-Value (RFC 3279 §2.2.3), over SHA-256 for P-256 keys and SHA-384 for P-384 keys
   * @throws SignerError with `hsmCalled`
   */
  sign(request: SignRequest): Promise<Uint8Array>
  /** Whether a signer answers now, without a round trip: what to ask before an intent is recorded. */
  isConnected(): boolean
  /** Never throws: an unreachable signer is `state: 'down'`. */
  health(): Promise<SignerHealth>
  close(): Promise<void>
}
