// What ACME asks of the rest, as small interfaces, and the facts of this CA that its answers are made of.
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { ReachedStep } from '../base/steps.ts'
import type { Drafter, Issuance, RequestContext } from '../ca/issuance.ts'
import type { Issuers } from '../ca/issuers.ts'
import type { Revoke } from '../ca/revoke.ts'
import type { IssuancePolicy } from '../ca/scopes-issuance.ts'
import type { TrustDomain } from '../pki/spiffe.ts'
import type { AcmeChallenge, AcmeIdentifier, AcmePorts } from '../store/acme-port.ts'
import type { CertificatesPort, InstancesPort, OwnersPort, RegistrationsPort } from '../store/ports.ts'
import type { Registration, SubjectKind } from '../store/records.ts'
import type { Sealer } from './eab-seal.ts'
import type { Urls } from './urls.ts'

/** A profile that ACME clients may order under. */
export interface AcmeProfile {
  readonly name: string
  readonly kind: SubjectKind
  readonly description: string
  readonly lifetimeSeconds: number
  readonly minLifetimeSeconds: number
  readonly challenges: readonly AcmeChallenge['type'][]
}

export interface AcmeSettings {
  /** null: every account needs an external account binding. Else the service whose instances accounts without one become. */
  readonly unboundService: string | null
  /** Of those without a binding and without a certificate, at once; and of their open orders. */
  readonly maxUnboundAccounts: number
  readonly orderLifetimeSeconds: number
  /** Orders of one account: at once, and a minute; and those that wait for their end. */
  readonly orders: { readonly burst: number; readonly perMinute: number }
  readonly maxOpenOrders: number
  /** So long a finalize waits for its certificate before it answers `processing`. */
  readonly finalizeWaitMs: number
  /** And so long it waits for another order of its account. */
  readonly issueWaitMs: number
}

export type ProbeResult =
  | { readonly ok: true }
  | { readonly ok: false; readonly problem: { readonly type: string; readonly detail: string } }

export interface AcmeDeps {
  readonly clock: Clock
  readonly log: Log
  readonly trustDomain: TrustDomain
  readonly urls: Urls
  readonly ports: AcmePorts
  readonly registrations: Pick<RegistrationsPort, 'find' | 'byId'>
  readonly owners: Pick<OwnersPort, 'find'>
  readonly instances: Pick<InstancesPort, 'get'>
  readonly certificates: Pick<CertificatesPort, 'get'>
  readonly issuers: Pick<Issuers, 'all' | 'byId' | 'chainPem'>
  readonly issuance: Pick<Issuance, 'issue'>
  readonly revoke: Revoke
  readonly policy: IssuancePolicy
  /** Those in force now. */
  readonly profiles: () => readonly AcmeProfile[]
  readonly rules: (registration: Registration, profile: string) => ReturnType<Drafter['rules']>
  readonly sealer: Sealer
  readonly randomBytes: (length: number) => Uint8Array
  readonly newId: () => string
  readonly settings: AcmeSettings
  readonly reached: ReachedStep
  /** One probe; it never throws for what the other side does. */
  readonly validate: (challenge: {
    readonly type: AcmeChallenge['type']
    readonly token: string
    readonly identifier: AcmeIdentifier
    readonly keyAuthorization: string
  }) => Promise<ProbeResult>
}

/** One request, as far as HTTP knows it. */
export interface AcmeCall {
  /** The path below the base, with its query: what the signed `url` must end with. */
  readonly path: string
  readonly body: Uint8Array
  /** Names who it is once that is known; what comes after it is refused under that name. */
  readonly identified: (who: string, registrationId: number) => void
  readonly context: () => RequestContext
}
