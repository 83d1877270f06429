// What the admin API asks of the rest, as small interfaces: the ledger to read from, the operations that change things, and the parts
// of a running server that operators look at.
import type { Bindings } from '../../acme/bindings.ts'
import type { Clock } from '../../base/clock.ts'
import type { ClockGuard } from '../../ca/clock-guard.ts'
import type { Issuance } from '../../ca/issuance.ts'
import type { PreviewIssuance } from '../../ca/issue-preview.ts'
import type { IssuerRotation } from '../../ca/issuer-rotation.ts'
import type { Issuers } from '../../ca/issuers.ts'
import type { Lifecycle } from '../../ca/lifecycle.ts'
import type { Maintenance } from '../../ca/maintenance.ts'
import type { RecoverOperator } from '../../ca/operator-recovery.ts'
import type { OrphanWatch } from '../../ca/orphan-watch.ts'
import type { Owners } from '../../ca/owners.ts'
import type { Registry } from '../../ca/registry.ts'
import type { Revoke } from '../../ca/revoke.ts'
import type { PolicyAuthority } from '../../ca/scopes.ts'
import type { CrlSource, PublishedCrl } from '../../ca/status-answers.ts'
import type { TokenOperations } from '../../ca/tokens.ts'
import type { ListedAttestor } from '../../enrol/attestor.ts'
import type { Explanation } from '../../enrol/explain.ts'
import type { Events } from '../../events/events.ts'
import type { Feed } from '../../feed/feed.ts'
import type { Monitor } from '../../monitor/monitor.ts'
import type { TrustDomain } from '../../pki/spiffe.ts'
import type { HsmKeyAnswer, StatusAnswer } from '../../schema/admin-answers.ts'
import type { SignerHealth } from '../../signer/port.ts'
import type { AcmeBindingsPort } from '../../store/acme-port.ts'
import type { PoliciesPort } from '../../store/policies-port.ts'
import type {
  AuditPort,
  CertificatesPort,
  FeedPort,
  InstancesPort,
  OwnersPort,
  RegistrationsPort,
  TokensPort,
} from '../../store/ports.ts'
import type { CheckpointRecord, SubjectKind } from '../../store/records.ts'

export type Mode = 'development' | 'production'

/** Reads, and leaves of what changes nothing in the ledger; changes go through the operations below. */
export interface AdminLedger {
  readonly certificates: CertificatesPort
  readonly registrations: Pick<RegistrationsPort, 'find' | 'byId' | 'list' | 'counts'>
  readonly owners: Pick<OwnersPort, 'list'>
  readonly instances: Pick<InstancesPort, 'get' | 'list'>
  readonly tokens: Pick<TokensPort, 'get' | 'list'>
  readonly audit: Pick<AuditPort, 'append' | 'head' | 'read' | 'tail' | 'checkpoints'>
  readonly feed: Pick<FeedPort, 'head' | 'newEpoch'>
  readonly policies: Pick<PoliciesPort, 'active' | 'get' | 'list' | 'rolling'>
  readonly acme: { readonly bindings: Pick<AcmeBindingsPort, 'list'> }
}

/** A profile in force, with what its file says. */
export interface ProfileView {
  readonly name: string
  readonly hash: string
  readonly kind: SubjectKind
  readonly lifetimeSeconds: number
  readonly content: object
}

/** The signer as operators see it; signer/inspect.ts does the same over its client. */
export interface HsmInspection {
  /** Never throws. */
  status(): Promise<SignerHealth>
  /** How often the signer was started again since the server started. */
  restarts(): number
  /** Attributes of the private keys in the token. @throws SignerError */
  keys(): Promise<readonly (Omit<HsmKeyAnswer, 'id'> & { readonly idHex: string })[]>
  /** With one key, or with each. @throws SignerError */
  testSign(key?: string): Promise<
    readonly {
      readonly key: string
      readonly signedHex: string
      readonly signatureHex: string
      readonly milliseconds: number
    }[]
  >
  /** Without a PIN the signer reads its pin-source again. @throws SignerError `pin_latched` */
  unlock(pin?: string): Promise<SignerHealth>
}

export interface AdminDeps {
  readonly clock: Clock
  readonly mode: Mode
  readonly trustDomain: TrustDomain
  readonly ledger: AdminLedger
  readonly registry: Registry
  readonly owners: Owners
  readonly lifecycle: Lifecycle
  readonly tokens: TokenOperations
  /** Whose evidence enrols. */
  readonly attestors: {
    list(): readonly ListedAttestor[]
    /** What would come of a token. */
    explain(jwt: string): Promise<Explanation>
  }
  readonly bindings: Bindings
  readonly recoverOperator: RecoverOperator
  readonly revoke: Revoke
  readonly orphans: Pick<OrphanWatch, 'list' | 'retire'>
  readonly events: Pick<Events, 'status' | 'test'>
  readonly issuerRotation: IssuerRotation
  readonly issuance: Pick<Issuance, 'issue'>
  readonly previewIssuance: PreviewIssuance
  readonly issuers: Issuers
  readonly policies: Pick<PolicyAuthority, 'active' | 'plan' | 'apply' | 'rollback'>
  /** Those in force now: a reload replaces them. */
  readonly profiles: () => readonly ProfileView[]
  readonly feed: Pick<Feed, 'status' | 'applied'>
  readonly monitor: Pick<Monitor, 'activityOf' | 'top' | 'status' | 'rules' | 'findings' | 'releaseBrake'>
  /** Where the monitor's rules are from; null: there are none. */
  readonly rulesFile: string | null
  readonly crl: Pick<CrlSource, 'byIssuer' | 'shardsOf'> & { publish(): Promise<unknown> }
  /** Where a list is published; null: nowhere. */
  readonly crlUrl: (list: Pick<PublishedCrl, 'issuer' | 'shard'>) => string | null
  readonly hsm: HsmInspection
  readonly checkpoints: {
    /** Signs one over the log as it is. @throws SignerError */
    now(): Promise<CheckpointRecord>
    /** The log key, PEM PUBLIC KEY. */
    readonly publicKeyPem: string
  }
  readonly clockGuard: Pick<ClockGuard, 'state' | 'accept'>
  readonly maintenance: Pick<Maintenance, 'restored' | 'end'>
  readonly about: Pick<StatusAnswer, 'caId' | 'version' | 'urls'> & { readonly startedAt: number }
  readonly rates: () => StatusAnswer['rates']
}
