// Revocation by ACME (RFC 8555 §7.6): by the account that has the certificate or proved all of its names, or by the certificate's own key.
// It goes the way of every revocation: feed, CRL, OCSP.

import { equalBytes } from '../base/bytes.ts'
import { isAgentCaError } from '../base/errors.ts'
import { acmeKeyOfSpki } from '../jws/acme-jws.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { type RevocationReason, revocationReasonOf } from '../pki/crl-reasons.ts'
import { ipAddressText } from '../pki/host-names.ts'
import { serialHex } from '../pki/serial.ts'
import { spkiHashHex } from '../pki/spki.ts'
import type { CertificateWithBytes } from '../store/records.ts'
import type { AcmeDeps } from './deps.ts'
import { AcmeError, malformed } from './errors.ts'
import { textOf } from './identifiers.ts'
import { authorizationStatus } from './order.ts'
import { type Payload, readPayload, requiredBytes } from './payload.ts'
import type { AccountRequest, KeyRequest } from './request.ts'

/** What subjects may say of their own certificate; the others are the CA's to say. */
const reasons: readonly RevocationReason[] = [
  'unspecified',
  'keyCompromise',
  'affiliationChanged',
  'superseded',
  'cessationOfOperation',
]

const reasonOf = ({ reason }: Payload): RevocationReason => {
  if (reason === undefined || reason === null) return 'unspecified'
  const name = typeof reason === 'number' ? revocationReasonOf(reason) : undefined
  if (name !== undefined && reasons.includes(name)) return name
  throw new AcmeError('badRevocationReason', `expected a reason of 0, 1, 3, 4 or 5 (${reasons.join(', ')})`)
}

interface Sought {
  readonly certificate: Certificate
  readonly row: CertificateWithBytes
}

/** Bytes that this CA signed, not only a serial that it knows. @throws AcmeError */
const soughtOf = (deps: AcmeDeps, payload: Payload): Sought => {
  const der = requiredBytes(payload, 'certificate')
  const certificate = readCertificate(der)
  const row = deps.certificates.get(serialHex(certificate.serial))
  if (row === null || row.issuedAt === null || !equalBytes(row.tbs, certificate.tbs))
    throw new AcmeError('notFound', 'this certificate is not from here')
  return { certificate, row }
}

const readCertificate = (der: Uint8Array): Certificate => {
  try {
    return parseCertificate(der)
  } catch (cause) {
    throw malformed('certificate cannot be read: expected its DER in base64url', { cause })
  }
}

const ordersAtOnce = 100
/** An account with more orders than that has to use the certificate's key. */
const maxOrdersRead = 1000

/** Whether this account's challenges were fulfilled for all of these, in authorizations that are good still. */
const provedAll = (deps: AcmeDeps, account: string, names: readonly string[]): boolean => {
  const now = deps.clock.now()
  const left = new Set(names)
  let before: string | undefined
  for (let read = 0; read < maxOrdersRead && left.size > 0; read += ordersAtOnce) {
    const filter = { account, limit: ordersAtOnce, ...(before === undefined ? {} : { before }) }
    const orders = deps.ports.orders.list(filter)
    for (const order of orders)
      for (const authorization of order.authorizations)
        if (authorization.challenges.length > 0 && authorizationStatus(authorization, order, now) === 'valid')
          left.delete(textOf(authorization.identifier))
    before = orders.at(-1)?.id
    if (orders.length < ordersAtOnce) break
  }
  return left.size === 0
}

/**
 * At least one, and of the same registration. What the registration or a binding grants does not count: all accounts of it have the same
 * names, and each is an instance of its own.
 */
const provedAllNames = (
  deps: AcmeDeps,
  { account, registration }: AccountRequest,
  { certificate, row }: Sought,
): boolean => {
  if (row.registrationId !== registration.id) return false
  const hosts = (certificate.subjectAltName ?? []).flatMap(name => {
    if (name.kind === 'dns') return [`dns:${name.value.toLowerCase()}`]
    return name.kind === 'ip' ? [`ip:${ipAddressText(name.bytes)}`] : []
  })
  return hosts.length > 0 && provedAll(deps, account.id, hosts)
}

const checkMayRevoke = (deps: AcmeDeps, request: AccountRequest | KeyRequest, sought: Sought): void => {
  const { certificate, row } = sought
  if ('account' in request) {
    if (row.instanceId === request.account.id || provedAllNames(deps, request, sought)) return
    throw new AcmeError('unauthorized', 'this certificate is another account’s', {
      hint: 'revoke it by its own key, or by the account that ordered it',
    })
  }
  if (request.key.keyHash !== spkiHashHex(certificate.spkiDer) || acmeKeyOfSpki(certificate.spkiDer) === null)
    throw new AcmeError('unauthorized', 'the JWS is not signed by the key of this certificate')
  request.call.identified(`key:${request.key.keyHash}`, row.registrationId)
}

/** @throws AcmeError `alreadyRevoked`, `badRevocationReason`, `unauthorized`, `notFound`, `malformed` */
export const revokeCertificate = async (deps: AcmeDeps, request: AccountRequest | KeyRequest): Promise<void> => {
  const payload = readPayload(request.payload)
  const sought = soughtOf(deps, payload)
  checkMayRevoke(deps, request, sought)
  const reason = reasonOf(payload)
  // It bars the key: for whoever has it, by proof of that key or as the account that it was certified for.
  if (reason === 'keyCompromise' && 'account' in request && sought.row.instanceId !== request.account.id)
    throw new AcmeError('badRevocationReason', 'this account does not have the key of this certificate', {
      hint: 'sign with the key of the certificate, or give another reason',
    })
  const { serial, state } = sought.row
  if (state === 'revoked') throw new AcmeError('alreadyRevoked', 'this certificate was revoked before')
  if (sought.row.notAfter <= deps.clock.now()) throw new AcmeError('unauthorized', 'this certificate has expired')
  const options = { context: request.call.context(), why: 'ACME', dryRun: false, bySubject: true }
  try {
    await deps.revoke({ by: 'serial', value: serial }, reason, options)
  } catch (error) {
    if (isAgentCaError(error) && error.code === 'radius_changed')
      throw new AcmeError('alreadyRevoked', 'this certificate was revoked before', { cause: error })
    throw error
  }
}
