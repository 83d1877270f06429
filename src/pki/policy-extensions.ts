// The extensions that steer certificate policies along a path (RFC 5280 §4.2.1.5, §4.2.1.11, §4.2.1.14): read only, because no
// certificate of ours carries them. What they do to a path is decided in `verify`.
import { DerReader } from './der.ts'
import { PkiError } from './errors.ts'

const sequenceIn = (value: Uint8Array): DerReader => {
  const input = new DerReader(value)
  const body = input.readSequence()
  input.end()
  return body
}

/** A policy of the issuer's domain and the one of the subject's domain that it takes for equivalent. */
export interface PolicyMapping {
  readonly issuerDomainPolicy: string
  readonly subjectDomainPolicy: string
}

/** At least one pair. That anyPolicy must not be mapped is a rule for paths (§6.1.4 (a)). @throws PkiError der_malformed, extension_malformed */
export const parsePolicyMappings = (value: Uint8Array): readonly PolicyMapping[] => {
  const body = sequenceIn(value)
  const mappings: PolicyMapping[] = []
  while (!body.atEnd) {
    const pair = body.readSequence()
    mappings.push({ issuerDomainPolicy: pair.readOid(), subjectDomainPolicy: pair.readOid() })
    pair.end()
  }
  if (mappings.length === 0) throw new PkiError('extension_malformed', 'policy mappings without a mapping')
  return mappings
}

/** How many more certificates may follow before the rule holds; null where the rule is not made. */
export interface PolicyConstraints {
  readonly requireExplicitPolicy: number | null
  readonly inhibitPolicyMapping: number | null
}

/** §4.2.1.11: one of the two must be there. @throws PkiError der_malformed, extension_malformed */
export const parsePolicyConstraints = (value: Uint8Array): PolicyConstraints => {
  const body = sequenceIn(value)
  const requireExplicitPolicy = body.peekTag() === 0x80 ? body.readSmallInteger(0x80) : null
  const inhibitPolicyMapping = body.peekTag() === 0x81 ? body.readSmallInteger(0x81) : null
  body.end()
  if (requireExplicitPolicy === null && inhibitPolicyMapping === null)
    throw new PkiError('extension_malformed', 'policy constraints without a constraint')
  return { requireExplicitPolicy, inhibitPolicyMapping }
}

/** SkipCerts of inhibitAnyPolicy (§4.2.1.14). @throws PkiError der_malformed */
export const parseInhibitAnyPolicy = (value: Uint8Array): number => {
  const input = new DerReader(value)
  const skip = input.readSmallInteger()
  input.end()
  return skip
}
