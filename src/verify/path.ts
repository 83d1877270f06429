// Certification path validation (RFC 5280 §6): whether a leaf leads to one of the anchors, at a time, for a purpose, within a budget.
// Pure: bytes, time, anchors, CRLs and algorithms are arguments, none has a default. Search is build-path.ts, the rules are
// check-path.ts and revocation.ts; who the leaf's certificate names is read from it afterwards, by the caller.
import type { Certificate } from '../pki/certificate.ts'
import type { Crl } from '../pki/crl.ts'
import type { NameConstraints } from '../pki/extensions.ts'
import { type Budget, createWork, type Spent, type Work } from './budget.ts'
import { type CandidatePath, candidatePaths, type Pool, poolOf } from './build-path.ts'
import { checkPath, type PathFindings, type PathRules, type Purpose } from './check-path.ts'
import { moreSpecific, VerifyError } from './errors.ts'
import { anyPolicies, type PolicyInputs } from './policies.ts'
import { refusal } from './refusal.ts'
import { type CrlShelf, checkRevocation, shelve } from './revocation.ts'
import { type AcceptedAlgorithms, createSignatures, isAcceptedKey, type Signatures } from './signatures.ts'
import type { TrustAnchor } from './trust-anchor.ts'

export interface PathRequest {
  readonly leaf: Certificate
  /** In any order, with anything else among them; also issuers of CRLs. */
  readonly intermediates: readonly Certificate[]
  readonly anchors: readonly TrustAnchor[]
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly purpose: Purpose
  readonly algorithms: AcceptedAlgorithms
  readonly policies: PolicyInputs
  /** initial-permitted-subtrees and initial-excluded-subtrees. */
  readonly names: 'any' | NameConstraints
  /** `none`: the caller knows the status of every certificate by other means. */
  readonly revocation: 'none' | { readonly crls: readonly Crl[] }
  readonly budget: Budget
}

declare const validated: unique symbol

/** Only `validatePath` makes one. It is true for `at`; `checkPathAt` says whether it still is. */
export interface ValidatedPath extends PathFindings {
  readonly [validated]: true
  readonly leaf: Certificate
  /** The leaf's issuer first, the one that the anchor signed last; empty when the anchor signed the leaf. */
  readonly intermediates: readonly Certificate[]
  readonly anchor: TrustAnchor
  readonly purpose: Purpose
  /** Until when the CRLs that were relied upon are current; infinite without CRLs. */
  readonly currentUntil: number
  readonly spent: Spent
}

/**
 * The first path, in the order of likelihood, that breaks no rule.
 * @throws VerifyError with the most specific of the reasons for which paths were refused; `issuer_unknown` when there is none;
 * `budget_exceeded` at once when work runs out, whose cause is the most specific so far
 */
export const validatePath = (request: PathRequest): ValidatedPath => {
  const { leaf, revocation, purpose } = request
  const work = createWork(request.budget)
  const validation: Validation = {
    request,
    work,
    signatures: createSignatures(request.algorithms, work),
    pool: poolOf(request.intermediates),
    crls: revocation === 'none' ? null : shelve(revocation.crls),
  }
  const underway = new Set([leaf])
  const { path, findings, currentUntil } = findPath(validation, {
    leaf,
    anchors: request.anchors,
    rules: request,
    underway,
  })
  if (!isAcceptedKey(request.algorithms, leaf))
    throw refusal({ depth: 0, certificate: leaf }, 'key_not_accepted', "the leaf's key is of no accepted kind")
  return {
    leaf,
    intermediates: path.certificates.slice(1),
    anchor: path.anchor,
    purpose,
    ...findings,
    currentUntil,
    spent: { ...work.spent },
  } as Omit<ValidatedPath, typeof validated> as ValidatedPath
}

/**
 * What time alone can change about a path, for each call on a connection that lives on; a few nanoseconds.
 * @throws VerifyError certificate_not_yet_valid, certificate_expired, revocation_unknown
 */
export const checkPathAt = (path: ValidatedPath, at: number): void => {
  const facts = (name: string, ms: number) => ({
    facts: { [name]: new Date(ms).toISOString(), at: new Date(at).toISOString() },
  })
  // Written so that a time which is no number is outside.
  if (!(at >= path.notBefore))
    throw new VerifyError('certificate_not_yet_valid', 'the path is not valid yet', facts('notBefore', path.notBefore))
  if (!(at < path.notAfter + 1000))
    throw new VerifyError('certificate_expired', 'a certificate of the path expired', facts('notAfter', path.notAfter))
  if (!(at <= path.currentUntil))
    throw new VerifyError('revocation_unknown', 'a CRL ended', facts('nextUpdate', path.currentUntil))
}

interface Validation {
  readonly request: PathRequest
  readonly work: Work
  readonly signatures: Signatures
  readonly pool: Pool
  readonly crls: CrlShelf | null
}

interface Question {
  readonly leaf: Certificate
  readonly anchors: readonly TrustAnchor[]
  readonly rules: PathRules
  /** Leaves that are being judged: the status of none of them may depend on itself. */
  readonly underway: ReadonlySet<Certificate>
}

interface Found {
  readonly path: CandidatePath
  readonly findings: PathFindings
  readonly currentUntil: number
}

const findPath = (validation: Validation, question: Question): Found => {
  const { signatures, pool, work } = validation
  const { leaf, anchors } = question
  let refused: VerifyError | null = null
  try {
    for (const path of candidatePaths({ leaf, pool, anchors, signatures, work }))
      try {
        return judge(validation, question, path)
      } catch (error) {
        if (!isRefusal(error)) throw error
        refused = moreSpecific(refused, error)
      }
  } catch (error) {
    if (!(error instanceof VerifyError) || refused === null) throw error
    throw new VerifyError(error.code, error.message, { facts: error.facts, cause: refused })
  }
  throw refused ?? refusal({ depth: 0, certificate: leaf }, 'issuer_unknown', 'no path leads to a trust anchor')
}

/** Of one path; others may hold. What is no refusal ends the search: work that ran out, and faults of this program. */
const isRefusal = (error: unknown): error is VerifyError =>
  error instanceof VerifyError && error.code !== 'budget_exceeded'

/** Signatures first: nothing is said about certificates that the anchor does not vouch for. */
const judge = (validation: Validation, question: Question, path: CandidatePath): Found => {
  checkSignatures(path, validation.signatures)
  const findings = checkPath(path, question.rules, validation.work)
  return { path, findings, currentUntil: currentUntilOf(validation, question, path) }
}

const checkSignatures = ({ anchor, certificates }: CandidatePath, signatures: Signatures): void => {
  for (let depth = certificates.length - 1; depth >= 0; depth--) {
    const certificate = certificates[depth]!
    const problem = signatures.problemOf(certificate, certificates[depth + 1] ?? anchor)
    if (problem !== null) throw refusal({ depth, certificate }, problem, signatureMessages[problem])
  }
}

const signatureMessages = {
  signature_invalid: 'the signature does not verify under the key of the issuer',
  algorithm_not_accepted: 'the signature algorithm is not accepted',
  key_not_accepted: "the issuer's key is of no accepted kind",
} as const

const currentUntilOf = (validation: Validation, { underway, rules }: Question, path: CandidatePath): number => {
  const { crls, pool, signatures } = validation
  if (crls === null) return Number.POSITIVE_INFINITY
  const leadsTo = (crlIssuer: Certificate, anchor: TrustAnchor): boolean => {
    if (underway.has(crlIssuer)) return false
    try {
      findPath(validation, {
        leaf: crlIssuer,
        anchors: [anchor],
        rules: { ...rules, purpose: 'any', policies: anyPolicies },
        underway: new Set([...underway, crlIssuer]),
      })
      return true
    } catch (error) {
      if (!isRefusal(error)) throw error
      return false
    }
  }
  return checkRevocation(path, { at: rules.at, crls, pool, signatures, leadsTo })
}
