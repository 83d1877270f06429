// ACME renewal information (RFC 9773): when a certificate is best renewed, asked without an account, and what an order replaces.
import { equalBytes, fromBase64url, toBase64url } from '../base/bytes.ts'
import { renewalWindowOf } from '../ca/renewal-window.ts'
import { serialFromHex, serialHex } from '../pki/serial.ts'
import type { CertificateRecord } from '../store/records.ts'
import type { AcmeDeps } from './deps.ts'
import { AcmeError, malformed } from './errors.ts'
import type { AccountRequest } from './request.ts'

export interface RenewalInfo {
  /** Milliseconds since the epoch. */
  readonly start: number
  readonly end: number
  readonly retryAfterSeconds: number
}

/** Where everything is well: so often a client looks whether it still is. */
const longestRetrySeconds = 6 * 3600
const shortestRetrySeconds = 60
/** Of a life: a client that looks so often hears of a revocation before half of what is left is gone. */
const retryShare = 1 / 28

/** RFC 9773 §4.1. */
export const certificateIdOf = (authorityKeyIdentifier: Uint8Array, serial: string): string =>
  `${toBase64url(authorityKeyIdentifier)}.${toBase64url(serialFromHex(serial))}`

/** @throws AcmeError `malformed` for what is no certificate identifier; `notFound` for one that is not from here */
export const certificateOfId = (deps: Pick<AcmeDeps, 'issuers' | 'certificates'>, id: string): CertificateRecord => {
  const [keyIdentifier, serial, ...rest] = id.split('.').map(fromBase64url)
  if (keyIdentifier == null || serial == null || rest.length > 0 || keyIdentifier.length === 0 || serial.length === 0)
    throw malformed(
      'expected the authority key identifier and the serial number, each in base64url, with a dot between',
    )
  const hex = readSerial(serial)
  const row = hex === null ? null : deps.certificates.get(hex)
  const issuer = row === null ? null : deps.issuers.byId(row.issuerId).online
  const known = row !== null && row.issuedAt !== null && issuer !== null
  if (known && equalBytes(issuer.keyIdentifier, keyIdentifier)) return row
  throw new AcmeError('notFound', 'this certificate is not from here')
}

const readSerial = (content: Uint8Array): string | null => {
  try {
    return serialHex(content)
  } catch {
    return null
  }
}

export const renewalInfo = (deps: Pick<AcmeDeps, 'issuers' | 'certificates' | 'clock'>, id: string): RenewalInfo => {
  const row = certificateOfId(deps, id)
  const life = row.notAfter - row.notBefore
  const retryAfterSeconds = Math.round(
    Math.min(longestRetrySeconds, Math.max(shortestRetrySeconds, (life / 1000) * retryShare)),
  )
  // Revoked, held or replaced by force: a window that is over says "now" (RFC 9773 §4.2).
  if (row.state !== 'issued') {
    const end = Math.min(deps.clock.now(), row.revokedAt ?? deps.clock.now())
    return { start: end - 3_600_000, end: end - 1000, retryAfterSeconds }
  }
  return { ...renewalWindowOf(row), retryAfterSeconds }
}

/**
 * RFC 9773 §5: one of this account's own; that it has one successor only is the ledger's to see to.
 * @returns its serial; null where nothing is replaced
 */
export const replacedCertificate = (
  deps: AcmeDeps,
  { account }: AccountRequest,
  id: string | undefined,
): string | null => {
  if (id === undefined) return null
  const row = certificateOfId(deps, id)
  if (row.instanceId === account.id) return row.serial
  throw new AcmeError('unauthorized', 'the certificate that is to be replaced is another account’s')
}
