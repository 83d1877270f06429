// What the purpose checks share: the facts of a key, the refusal, the authority key identifier.
import { equalBytes } from '../base/bytes.ts'
import { DerReader } from '../pki/der.ts'
import type { KeyCeilings } from './config.ts'
import type { Curve } from './ec-key.ts'
import { SignerError } from './errors.ts'
import type { SignPurpose } from './port.ts'

/** The CA certificate of a key, as far as the checks need it. */
export interface IssuerFacts {
  readonly subjectDer: Uint8Array
  readonly keyIdentifier: Uint8Array
  readonly notAfter: number
}

export interface PurposeKey {
  readonly label: string
  readonly curve: Curve
  readonly spki: Uint8Array
  readonly spkiSha256Hex: string
  readonly purposes: readonly SignPurpose[]
  readonly issuer: IssuerFacts | undefined
  readonly ceilings: KeyCeilings
}

/** How far the core's clock and ours may be apart: one machine, so only batches and suspended processes count. */
export const clockSlackMs = 5 * 60_000

export const refuse = (rule: string, message: string): never => {
  throw new SignerError('signer_refused', message, { hsmCalled: 'no', rule })
}

export const checkAuthorityKey = (value: Uint8Array, expected: Uint8Array, rule: string): void => {
  const input = new DerReader(value)
  const body = input.readSequence()
  input.end()
  if (!equalBytes(body.readOctetString(0x80), expected)) refuse(rule, 'the authority key identifier is not this key')
  // Issuer and serial [1] [2] would tie leaves to one certificate of the CA and not to its key.
  if (!body.atEnd) refuse(rule, 'the authority key identifier names more than the key')
}
