// The rules for one path whose signatures hold (RFC 5280 §6.1.3 to §6.1.5): validity, names, policies, what a CA must be, what the
// key is for. From the anchor to the leaf, in the order and the words of the RFC. Revocation is revocation.ts.
import type { Certificate } from '../pki/certificate.ts'
import type { NameConstraints } from '../pki/extensions.ts'
import { oidName, oidOf } from '../pki/oid.ts'
import type { Work } from './budget.ts'
import type { CandidatePath } from './build-path.ts'
import { nameViolation } from './name-constraints.ts'
import { createPolicyState, type PolicyInputs, type PolicyState } from './policies.ts'
import { type Position, reading, refusal } from './refusal.ts'
import type { AnchorConstraints, TrustAnchor } from './trust-anchor.ts'

/** What the leaf's key is to be used for; `any` asks nothing of it. */
export type Purpose = 'clientAuth' | 'serverAuth' | 'any'

export interface PathRules {
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly purpose: Purpose
  /** initial-permitted-subtrees and initial-excluded-subtrees (§6.1.1 (h), (i)). */
  readonly names: 'any' | NameConstraints
  readonly policies: PolicyInputs
}

export interface PathFindings {
  /** user-constrained-policy-set (§6.1.5 (g)): may be empty where no explicit policy is required. */
  readonly policies: readonly string[]
  /** While every certificate of the path is valid, both ends included; milliseconds. */
  readonly notBefore: number
  readonly notAfter: number
}

/** @throws VerifyError with the first rule that is broken */
export const checkPath = (path: CandidatePath, rules: PathRules, work: Work): PathFindings => {
  const { anchor, certificates } = path
  const state = startState(anchor, certificates.length, { rules, work })
  checkAnchor({ depth: certificates.length, certificate: null }, anchor, rules)
  for (let depth = certificates.length - 1; depth >= 0; depth--) {
    const certificate = certificates[depth]!
    const position = { depth, certificate }
    reading(position, () => {
      checkAsIssued(position, certificate, state)
      if (depth > 0) prepareNext(position, certificate, state)
      checkCriticalExtensions(position, certificate)
      checkPurpose(position, certificate, rules.purpose)
    })
  }
  return wrapUp(path, state)
}

interface PathState {
  readonly rules: PathRules
  readonly work: Work
  readonly policies: PolicyState
  readonly constraints: NameConstraints[]
  maxPathLength: number
}

const constraintsOf = (anchor: TrustAnchor): AnchorConstraints | null =>
  anchor.constraints === 'none' ? null : anchor.constraints

/** §6.1.2 */
const startState = (
  anchor: TrustAnchor,
  length: number,
  { rules, work }: Pick<PathState, 'rules' | 'work'>,
): PathState => {
  const { pathLength = null, nameConstraints = null } = constraintsOf(anchor) ?? {}
  return {
    rules,
    work,
    policies: createPolicyState(rules.policies, length),
    constraints: [rules.names, nameConstraints].filter(names => names !== 'any' && names !== null),
    maxPathLength: Math.min(length, pathLength ?? length),
  }
}

const checkAnchor = (position: Position, anchor: TrustAnchor, { at, purpose }: PathRules): void => {
  const constraints = constraintsOf(anchor)
  if (constraints === null) return
  const { validity, keyUsage, extendedKeyUsage } = constraints
  if (validity !== null) checkValidity(position, validity, at)
  if (keyUsage !== null && !keyUsage.includes('keyCertSign'))
    throw refusal(position, 'key_usage', 'the anchor may not sign certificates')
  if (extendedKeyUsage !== null && !allowsPurposeBelow(extendedKeyUsage, purpose))
    throw refusal(position, 'extended_key_usage', `the anchor is not for ${purpose}`)
}

/** Names and policies of one that the CA above issued (§6.1.3). */
const checkAsIssued = (position: Position, certificate: Certificate, state: PathState): void => {
  checkValidity(position, certificate, state.rules.at)
  const final = position.depth === 0
  const selfIssued = isSelfIssued(certificate)
  if (final || !selfIssued) {
    const violation = nameViolation(certificate, state.constraints, state.work)
    if (violation !== null) throw refusal(position, 'name_not_permitted', violation)
  }
  checkPolicy(position, state.policies.enter(certificate, { selfIssued, final }))
}

const isSelfIssued = (certificate: Certificate): boolean =>
  certificate.comparableSubject === certificate.comparableIssuer

/** §6.1.3 (a) (2); §4.1.2.5: from notBefore through notAfter, whose last second counts. */
const checkValidity = (
  position: Position,
  { notBefore, notAfter }: { readonly notBefore: number; readonly notAfter: number },
  at: number,
): void => {
  const time = (ms: number): string => new Date(ms).toISOString()
  // Written so that a time which is no number is outside.
  if (!(at >= notBefore))
    throw refusal(position, 'certificate_not_yet_valid', `the certificate is valid from ${time(notBefore)}`, {
      facts: { notBefore: time(notBefore), at: time(at) },
    })
  if (!(at < notAfter + 1000))
    throw refusal(position, 'certificate_expired', `the certificate was valid until ${time(notAfter)}`, {
      facts: { notAfter: time(notAfter), at: time(at) },
    })
}

const policyMessages = {
  policy_missing: 'the path is valid for no policy, and one is required',
  policy_mapping_invalid: 'anyPolicy must not be mapped (RFC 5280 §6.1.4 (a))',
} as const

const checkPolicy = (position: Position, problem: keyof typeof policyMessages | null): void => {
  if (problem !== null) throw refusal(position, problem, policyMessages[problem])
}

/** What a CA must be, and what it asks of those below (§6.1.4). */
const prepareNext = (position: Position, certificate: Certificate, state: PathState): void => {
  const selfIssued = isSelfIssued(certificate)
  checkPolicy(position, state.policies.prepareNext(certificate, { selfIssued }))
  if (certificate.nameConstraints !== null) state.constraints.push(certificate.nameConstraints)
  // (k): a version without extensions cannot say that it is a CA, and nobody said so otherwise.
  const { basicConstraints, keyUsage } = certificate
  if (basicConstraints?.isCa !== true) throw refusal(position, 'not_a_ca', 'the issuer is not a CA')
  if (!selfIssued) {
    if (state.maxPathLength <= 0)
      throw refusal(position, 'path_too_long', 'more CAs follow than one above allows (RFC 5280 §4.2.1.9)')
    state.maxPathLength--
  }
  state.maxPathLength = Math.min(state.maxPathLength, basicConstraints.pathLength ?? state.maxPathLength)
  if (keyUsage !== null && !keyUsage.includes('keyCertSign'))
    throw refusal(position, 'key_usage', 'the issuer may not sign certificates')
  // RFC 9608 §2: never in a CA's certificate.
  if (certificate.hasNoRevAvail)
    throw refusal(position, 'certificate_malformed', 'a CA certificate says that it has no revocation information')
}

const processedExtensions: ReadonlySet<string> = new Set([
  oidOf.basicConstraints,
  oidOf.keyUsage,
  oidOf.extendedKeyUsage,
  oidOf.subjectAltName,
  oidOf.nameConstraints,
  oidOf.certificatePolicies,
  oidOf.policyMappings,
  oidOf.policyConstraints,
  oidOf.inhibitAnyPolicy,
  oidOf.crlDistributionPoints,
])

/** §6.1.4 (o), §6.1.5 (f) */
const checkCriticalExtensions = (position: Position, certificate: Certificate): void => {
  for (const { oid, critical } of certificate.extensions)
    if (critical && !processedExtensions.has(oid))
      throw refusal(position, 'critical_extension_unknown', `critical extension not known: ${oidName(oid)}`, {
        facts: { extension: oidName(oid) },
      })
}

/** §4.2.1.12 leaves the usages of CAs open; relying parties take them as limits for what lies below, and so do we. */
const allowsPurposeBelow = (usages: readonly string[], purpose: Purpose): boolean =>
  purpose === 'any' || usages.includes(oidOf[purpose]) || usages.includes(oidOf.anyExtendedKeyUsage)

const checkPurpose = (position: Position, certificate: Certificate, purpose: Purpose): void => {
  if (purpose === 'any') return
  const { extendedKeyUsage: usages, keyUsage, basicConstraints } = certificate
  const leaf = position.depth === 0
  // A leaf for everything is nobody's intention (§4.2.1.12 lets applications refuse it): the purpose itself has to be there.
  if (usages !== null && !(leaf ? usages.includes(oidOf[purpose]) : allowsPurposeBelow(usages, purpose)))
    throw refusal(position, 'extended_key_usage', `the certificate is not for ${purpose}`, { facts: { purpose } })
  if (!leaf) return
  // TLS 1.3 knows signatures only (RFC 8446 §4.4.2.2).
  if (keyUsage !== null && !keyUsage.includes('digitalSignature'))
    throw refusal(position, 'key_usage', `the key may not sign, as ${purpose} needs it`)
  // X509-SVID §4.1: a CA's key speaks for nobody.
  if (basicConstraints?.isCa === true)
    throw refusal(position, 'ca_as_leaf', 'a CA certificate is no identity of a peer')
}

/** §6.1.5 */
const wrapUp = ({ anchor, certificates }: CandidatePath, state: PathState): PathFindings => {
  const leaf = certificates[0]!
  const policies = reading({ depth: 0, certificate: leaf }, () => state.policies.wrapUp(leaf))
  if (policies === null) throw refusal({ depth: 0, certificate: leaf }, 'policy_missing', policyMessages.policy_missing)
  const validity = constraintsOf(anchor)?.validity
  const all = validity == null ? certificates : [...certificates, validity]
  return {
    policies,
    notBefore: Math.max(...all.map(each => each.notBefore)),
    notAfter: Math.min(...all.map(each => each.notAfter)),
  }
}
