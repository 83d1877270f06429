// Enumerations as the small integers that rows hold, and hex as the blobs that rows hold. Positions are part of the database
// format: append, never reorder (partial indexes in schema-001.ts name some of them).
import { fromHex, toHex } from '../../base/bytes.ts'
import type {
  CertificateState,
  InstanceState,
  IssuerKind,
  IssuerState,
  RegistrationState,
  SubjectKind,
} from '../records.ts'

const coder = <T extends string>(what: string, names: readonly T[]) => ({
  code: (name: T): number => {
    const at = names.indexOf(name)
    if (at < 0) throw new TypeError(`expected ${what} to be one of ${names.join(', ')}, got ${name}`)
    return at
  },
  name: (code: number): T => names[code]!,
})

export const subjectKinds = coder<SubjectKind>('kind', ['agent', 'service', 'operator'])
export const registrationStates = coder<RegistrationState>('registration state', ['active', 'held', 'retired'])
export const instanceStates = coder<InstanceState>('instance state', ['active', 'locked', 'revoked'])
export const issuerKinds = coder<IssuerKind>('issuer kind', ['root', 'issuing'])
export const issuerStates = coder<IssuerState>('issuer state', ['prepared', 'active', 'retired'])
export const activeOrRevoked = coder<'active' | 'revoked'>('token state', ['active', 'revoked'])
export const activeOrGone = coder<'active' | 'gone'>('owner state', ['active', 'gone'])

export const certificateStateNames: readonly CertificateState[] = [
  'intent',
  'issued',
  'held',
  'revoked',
  'orphaned',
  'void',
]
export const certificateStates = coder<CertificateState>('certificate state', certificateStateNames)
export const INTENT = 0
export const ISSUED = 1
export const HELD = 2
export const REVOKED = 3
export const ORPHANED = 4
export const VOID = 5

/** Why a row stands in `revocation`. */
export type Cause = 'hold' | 'lock' | 'revocation' | 'orphan' | 'superseded' | 'retired' | 'release_refused' | 'subject'
export const causes = coder<Cause>('cause', [
  'hold',
  'lock',
  'revocation',
  'orphan',
  'superseded',
  'retired',
  'release_refused',
  'subject',
])

/** RFC 5280 §5.3.1; the position is the code. */
const reasonNames = [
  'unspecified',
  'keyCompromise',
  'cACompromise',
  'affiliationChanged',
  'superseded',
  'cessationOfOperation',
  'certificateHold',
  '',
  'removeFromCRL',
  'privilegeWithdrawn',
  'aACompromise',
]
export const reasons = coder<string>('reason', reasonNames)

/** A value to be stored. @throws TypeError when it is not hex */
export const blobOf = (hex: string): Uint8Array => {
  const bytes = fromHex(hex)
  if (bytes === null || bytes.length === 0) throw new TypeError(`expected hex, got "${hex.slice(0, 40)}"`)
  return bytes
}

const nothing = new Uint8Array(0)
/** A value to be looked up: what is not hex is found nowhere. */
export const soughtBlob = (hex: string): Uint8Array => fromHex(hex) ?? nothing

export const hexOf = (blob: Uint8Array): string => toHex(blob)

/** Identifiers of 8 or 16 octets as such, whatever else as text; rows of before have all as text. */
export type StoredId = Uint8Array | string

const isOctets = /^(?:[0-9a-f]{16}|[0-9a-f]{32})$/

export const storedId = (id: string): StoredId => (isOctets.test(id) ? blobOf(id) : id)
export const idOf = (stored: StoredId): string => (typeof stored === 'string' ? stored : toHex(stored))

/** Plain views of what the driver returns, so that no caller depends on Node's Buffer. */
export const bytesOf = (blob: Uint8Array): Uint8Array => new Uint8Array(blob.buffer, blob.byteOffset, blob.byteLength)
