// What each state allows, as data: the one place that says so. Registrations and instances each have a row per state; an operation
// is allowed only when both rows allow it. A test walks every cell against a running authority.
import type { CertificateState, InstanceState, RegistrationState } from '../store/records.ts'

/** What may be done with, or said of, the certificates of a registration or an instance. */
export interface StateRow {
  /** Evidence turns into a new instance. */
  readonly enrol: 'yes' | 'no'
  /** `no-consume`: refused with 403, and nothing of the lineage or of a token is used up. */
  readonly renew: 'yes' | 'no-consume'
  readonly recover: 'yes' | 'no-consume'
  /** What verifiers do with a call. */
  readonly verify: 'accept' | 'refuse'
  /** What an unexpired certificate shows. */
  readonly crl: 'absent' | 'certificateHold' | 'revoked'
  readonly ocsp: 'good' | 'certificateHold' | 'revoked'
}

const open: StateRow = { enrol: 'yes', renew: 'yes', recover: 'yes', verify: 'accept', crl: 'absent', ocsp: 'good' }
const suspended: StateRow = {
  enrol: 'no',
  renew: 'no-consume',
  recover: 'no-consume',
  verify: 'refuse',
  crl: 'certificateHold',
  ocsp: 'certificateHold',
}
const ended: StateRow = { ...suspended, crl: 'revoked', ocsp: 'revoked' }

export const registrationStates: Readonly<Record<RegistrationState, StateRow>> = {
  active: open,
  held: suspended,
  retired: ended,
}

/** A new instance does not exist yet: `enrol` says whether the same evidence may repeat its answer for this instance. */
export const instanceStates: Readonly<Record<InstanceState, StateRow>> = {
  active: open,
  // Recovery by the last registered key must not open a lock: two holders may have that key. `instance unlock` does.
  locked: suspended,
  revoked: ended,
}

/** Which state may follow which; what is not here is refused as a conflict. */
export const registrationTransitions: Readonly<Record<RegistrationState, readonly RegistrationState[]>> = {
  active: ['held', 'retired'],
  held: ['active', 'retired'],
  retired: [],
}

export const instanceTransitions: Readonly<Record<InstanceState, readonly InstanceState[]>> = {
  active: ['locked', 'revoked'],
  locked: ['active', 'revoked'],
  revoked: [],
}

/** What CRL and OCSP say of a recorded serial (RFC 6960 §2.2); never `good` for what was not released. */
export const certificateStatus: Readonly<
  Record<CertificateState, { readonly ocsp: 'good' | 'revoked' | 'unknown'; readonly crl: 'absent' | 'listed' }>
> = {
  // Not released and perhaps never signed: not good, and not revoked either. The sweep decides at the deadline.
  intent: { ocsp: 'unknown', crl: 'absent' },
  issued: { ocsp: 'good', crl: 'absent' },
  held: { ocsp: 'revoked', crl: 'listed' },
  revoked: { ocsp: 'revoked', crl: 'listed' },
  orphaned: { ocsp: 'revoked', crl: 'listed' },
  // The HSM was certainly never called: no such certificate exists.
  void: { ocsp: 'unknown', crl: 'absent' },
}
