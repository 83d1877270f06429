// What issuance takes, asks of others and gives: the request, the drafter's and the audit's part, the answer. No code of its own, so
// that those who make a part (drafts, events, CRLs) need not load the whole.
import type { SignatureAlgorithm } from '../pki/algorithms.ts'
import type { CertificationRequest } from '../pki/csr.ts'
import type { SubjectPublicKeyInfo } from '../pki/spki.ts'
import type { DecisionRules } from '../policy/issuance-profile.ts'
import type { LintedTbs } from '../policy/lint.ts'
import type { EvidenceQuery, IntentRecord } from '../store/ports.ts'
import type { CertificateRecord, LeafDraft, Registration } from '../store/records.ts'
import type { DecisionInput } from './decide-issuance.ts'
import type { IssuanceRefusal } from './errors.ts'

export type IssuanceOperation = DecisionInput['operation']

/** Who asks, through what: goes into every leaf of this request. */
export interface RequestContext {
  readonly requestId: string
  /** `token:<id>`, a SPIFFE ID, `operator:<name>`, `system`; never a secret. */
  readonly who: string
  readonly source: string
}

/** What an ACME order agreed on instead of what the registration has by itself: within the profile, and granted or proved before. */
export interface IssuanceTerms {
  readonly profile: string
  /** DNS names and addresses, all that the certificate is to have. */
  readonly hosts: readonly string[]
  /** Those of them that nothing but the registration's own list grants: they have to be on it still. */
  readonly listed?: readonly string[] | undefined
  /** Milliseconds since the epoch; null: the profile's. */
  readonly notBefore: number | null
  readonly notAfter: number | null
}

export interface IssuanceRequest {
  readonly operation: IssuanceOperation
  readonly evidence: EvidenceQuery
  /** Name of the attestor that vouched for it; left out: none did. */
  readonly attestor?: string | undefined
  /** DER of the certification request; not looked at before the evidence is known to exist. */
  readonly csr: Uint8Array
  readonly context: RequestContext
  /** Left out: everything comes from the registration. */
  readonly terms?: IssuanceTerms
  /** Who saw that the request is signed by its key; left out: nobody yet, and step 2 does. */
  readonly possession?: 'checked by a front' | undefined
}

/** Steps 2 and 3: what a registration gets under its profile. Pure but for the serial's random octets. */
export interface LintedDraft {
  /** Only the lint step makes these bytes, so nothing else can be recorded or signed. */
  readonly tbs: LintedTbs
  readonly serial: string
  readonly spiffeId: string
  readonly notBefore: number
  readonly notAfter: number
  readonly issuer: IssuingKey
  readonly profile: string
  readonly profileHash: string
  /** What was asked for and left out without harm: the CSR's subject, extensions that profiles decide about. */
  readonly notGranted: readonly string[]
}

export interface IssuingKey {
  readonly id: number
  /** Label of the key in the signer. */
  readonly keyLabel: string
  readonly spki: SubjectPublicKeyInfo
  readonly signatureAlgorithm: SignatureAlgorithm
}

export interface Drafter {
  /** The present rules of a profile, the registration's unless another is named. @throws when the profile does not exist */
  rules(registration: Registration, profile?: string): DecisionRules
  /**
   * @throws CaError `name_not_granted`, `key_not_accepted`, `profile_unknown`, `registration_ended`, `no_active_issuer`;
   * PolicyError `profile_unknown`, `lint_failed`
   */
  draft(input: {
    readonly registration: Registration
    readonly instanceId: string
    readonly csr: CertificationRequest
    readonly now: number
    readonly terms?: IssuanceTerms | undefined
  }): LintedDraft
  /** The key that signed a recorded certificate. */
  issuerOf(issuerId: number): IssuingKey
}

/** The audit leaves of issuance: one function per event. */
/** A certificate, and whom its leaf is found by. */
export interface CertificateOf {
  readonly serial: string
  readonly registration: Registration
}

export interface IssuanceEvents {
  /** @param under whose request it was and the hash of the profile it was decided by; null: nobody's */
  refused(
    request: IssuanceRequest,
    refusal: IssuanceRefusal,
    under: { readonly registration: Registration; readonly profileHash: string } | null,
    at: number,
  ): LeafDraft | null
  locked(
    request: IssuanceRequest,
    lock: { readonly instanceId: string; readonly reason: string },
    registration: Registration,
    at: number,
  ): LeafDraft
  intentRecorded(request: IssuanceRequest, intent: IntentRecord, registration: Registration): LeafDraft
  repeated(request: IssuanceRequest, of: CertificateOf, at: number): LeafDraft | null
  issued(request: IssuanceRequest, of: CertificateOf, certificate: Uint8Array, at: number): LeafDraft
  releaseRefused(request: IssuanceRequest, of: CertificateOf, at: number): LeafDraft
  voided(request: IssuanceRequest, of: CertificateOf, at: number): LeafDraft
  orphaned(of: CertificateOf, at: number): LeafDraft
}

export interface IssuedCertificate {
  readonly record: CertificateRecord
  readonly certificate: Uint8Array
  /** As the certificate has it. */
  readonly spiffeId: string
  readonly registration: Registration
  readonly notGranted: readonly string[]
  /** `again`: the answer to an earlier request, repeated. */
  readonly answer: 'new' | 'again'
}

export interface Issuance {
  /** @throws CaError with an issuance refusal's code, `issuance_in_progress`, `not_released`, `signer_unavailable`; PkiError of the CSR */
  issue(request: IssuanceRequest): Promise<IssuedCertificate>
  /** Ends intents past their deadline or of an earlier epoch. @returns how many became orphaned */
  sweep(): Promise<number>
}
