// Whether the holder of a recorded certificate may call right now: its time, and the states of registration, instance and certificate
// as ca/state-table.ts has them. In the order of the issuance decision, so that a caller hears the same reason from both.
import { CaError } from '../ca/errors.ts'
import { instanceStates, registrationStates } from '../ca/state-table.ts'
import { oidOf } from '../pki/oid.ts'
import type { CertificateState, Instance, Registration } from '../store/records.ts'
import type { HolderCaller } from './call.ts'
import { HttpError } from './errors.ts'

const enrolAgain = 'enrol again with fresh evidence, on a connection without this certificate'

const checkRegistration = (registration: Registration, now: number): void => {
  const { kind, name, state, until } = registration
  if (state === 'retired')
    throw new CaError('registration_retired', `${kind} ${name} is retired`, {
      hint: 'register a new name: names are never reused',
    })
  if (until !== null && until <= now)
    throw new CaError('registration_ended', `${kind} ${name} reached its end date`, {
      hint: 'register a new name: names are never reused',
    })
  if (registrationStates[state].verify !== 'accept')
    throw new CaError('registration_held', `${kind} ${name} is held`, { hint: `agentca ${kind} release ${name}` })
}

const checkInstance = ({ id, state, lockReason }: Instance): void => {
  if (instanceStates[state].verify === 'accept') return
  const facts = { instance: id }
  if (state === 'locked')
    throw new CaError('instance_locked', `instance ${id} is locked: ${lockReason ?? 'its key may have two holders'}`, {
      hint: `agentca instance unlock ${id}`,
      facts,
    })
  throw new CaError('instance_revoked', `instance ${id} is revoked`, { hint: enrolAgain, facts })
}

/** Read from the ledger for this very request. */
export interface PresentStates {
  readonly registration: Registration
  readonly instance: Instance
  readonly certificate: CertificateState
}

/**
 * @param now milliseconds since the epoch
 * @throws CaError registration_retired, registration_ended, registration_held, instance_locked, instance_revoked,
 * certificate_expired, certificate_held, certificate_revoked
 * @throws HttpError client_certificate_invalid: not yet valid, or not made for clients
 */
export const checkCallerState = (caller: HolderCaller, present: PresentStates, now: number): void => {
  const { record, certificate } = caller
  const { registration, instance, certificate: state } = present
  checkRegistration(registration, now)
  checkInstance(instance)
  if (record.notAfter <= now)
    throw new CaError('certificate_expired', 'the presented certificate has expired', {
      hint: `recover, or ${enrolAgain}`,
      facts: { expiredAt: record.notAfter },
    })
  if (record.notBefore > now)
    throw new HttpError('client_certificate_invalid', 'the presented certificate is not valid yet', {
      facts: { notBefore: record.notBefore },
    })
  if (state === 'held')
    throw new CaError('certificate_held', 'the presented certificate is on hold', {
      hint: `agentca ${registration.kind} release ${registration.name}`,
    })
  // Only `issued` was released and may be used; a state that is new here must not slip through.
  if (state !== 'issued')
    throw new CaError('certificate_revoked', 'the presented certificate is revoked', {
      hint: enrolAgain,
      facts: { serial: record.serial },
    })
  if (!certificate.extendedKeyUsage?.includes(oidOf.clientAuth))
    throw new HttpError('client_certificate_invalid', 'the presented certificate is not for clients (clientAuth)')
}
