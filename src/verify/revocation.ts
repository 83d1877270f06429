// Whether a certificate of a path is revoked, by CRLs (RFC 5280 §6.3): complete ones and deltas, of the issuer or indirect, whole or
// by distribution point and reason. What no CRL at hand decides is `revocation_unknown`, never "not revoked".
import { equalBytes } from '../base/bytes.ts'
import type { Certificate } from '../pki/certificate.ts'
import type { Crl, ParsedRevokedEntry } from '../pki/crl.ts'
import { findExtension } from '../pki/extensions.ts'
import { oidOf } from '../pki/oid.ts'
import type { CandidatePath, Pool } from './build-path.ts'
import { allReasons, crlIssuersOf, pointsOf, reasonsCovered } from './crl-scope.ts'
import { type Position, reading, refusal } from './refusal.ts'
import type { Signatures, SigningKey } from './signatures.ts'
import type { TrustAnchor } from './trust-anchor.ts'

/** CRLs by their issuer's name in the form of `comparableName`, newest first. */
export type CrlShelf = ReadonlyMap<string, readonly Crl[]>

export const shelve = (crls: readonly Crl[]): CrlShelf =>
  Map.groupBy(
    crls.toSorted((a, b) => b.thisUpdate - a.thisUpdate),
    crl => crl.comparableIssuer,
  )

export interface RevocationDeps {
  readonly at: number
  readonly crls: CrlShelf
  readonly pool: Pool
  readonly signatures: Signatures
  /**
   * §6.3.3 (f): whether a certificate that is not on the path leads to the path's anchor.
   * @throws VerifyError budget_exceeded
   */
  readonly leadsTo: (crlIssuer: Certificate, anchor: TrustAnchor) => boolean
}

/** Why the CRLs at hand decide nothing, from those that did not get far to those that did. */
const undecided = [
  'no_crl',
  'crl_not_current',
  'crl_critical_extension_unknown',
  'crl_issuer_not_trusted',
  'crl_reasons_incomplete',
] as const
type Undecided = (typeof undecided)[number]

/**
 * Every certificate of the path, from the anchor down.
 * @returns until when what was found is current: the earliest nextUpdate; infinite where no CRL was needed
 * @throws VerifyError certificate_revoked, revocation_unknown, certificate_malformed, budget_exceeded
 */
export const checkRevocation = (path: CandidatePath, deps: RevocationDeps): number => {
  let currentUntil = Number.POSITIVE_INFINITY
  for (let depth = path.certificates.length - 1; depth >= 0; depth--) {
    const certificate = path.certificates[depth]!
    const position = { depth, certificate }
    currentUntil = Math.min(
      currentUntil,
      reading(position, () => checkCertificate(position, { path, certificate }, deps)),
    )
  }
  return currentUntil
}

interface Target {
  readonly path: CandidatePath
  readonly certificate: Certificate
}

const checkCertificate = (position: Position, target: Target, deps: RevocationDeps): number => {
  const { certificate } = target
  let covered = 0
  let currentUntil = Number.POSITIVE_INFINITY
  let reason: Undecided = 'no_crl'
  for (const point of pointsOf(certificate))
    for (const issuerName of crlIssuersOf(point, certificate))
      for (const crl of deps.crls.get(issuerName) ?? []) {
        if (crl.deltaCrlIndicator !== null) continue
        const reasons = reasonsCovered(crl, point, certificate) & ~covered
        if (reasons === 0) continue
        const answer = ask(crl, target, deps)
        if (typeof answer === 'string') {
          if (undecided.indexOf(answer) > undecided.indexOf(reason)) reason = answer
          continue
        }
        if (answer.entry !== null) throw revoked(position, answer.entry)
        covered |= reasons
        reason = 'crl_reasons_incomplete'
        currentUntil = Math.min(currentUntil, answer.currentUntil)
        if (covered === allReasons) return currentUntil
      }
  // RFC 9608 §3: its issuer publishes nothing about it. A list that names it all the same has been believed above.
  if (certificate.hasNoRevAvail) return currentUntil
  throw refusal(position, 'revocation_unknown', `nothing says whether the certificate is revoked: ${reason}`, {
    facts: { reason },
  })
}

const revoked = (position: Position, { reason, revokedAt }: ParsedRevokedEntry) =>
  refusal(position, 'certificate_revoked', `the certificate was revoked: ${reason}`, {
    facts: { reason, revokedAt: new Date(revokedAt).toISOString() },
  })

interface Answer {
  readonly entry: ParsedRevokedEntry | null
  readonly currentUntil: number
}

/** (f) to (k) for one complete CRL and the newest delta to it. */
const ask = (crl: Crl, target: Target, deps: RevocationDeps): Answer | Undecided => {
  const problem = usabilityProblem(crl, deps.at)
  if (problem !== null) return problem
  const key = keyOf(crl, target, deps)
  if (key === null) return 'crl_issuer_not_trusted'
  const delta = deltaTo(crl, key, deps)
  const { serial, issuerDer } = target.certificate
  const entry = delta?.findRevoked(serial, issuerDer) ?? crl.findRevoked(serial, issuerDer) ?? null
  return {
    // (k): taken off hold.
    entry: entry?.reason === 'removeFromCRL' ? null : entry,
    currentUntil: Math.min(crl.nextUpdate!, delta?.nextUpdate ?? Number.POSITIVE_INFINITY),
  }
}

const usabilityProblem = (crl: Crl, at: number): Undecided | null => {
  if (crl.nextUpdate === null || !(at >= crl.thisUpdate && at <= crl.nextUpdate)) return 'crl_not_current'
  // §5.2, §5.3: then no certificate's status may be taken from it.
  return crl.unknownCritical.length > 0 ? 'crl_critical_extension_unknown' : null
}

/** (f), (g): the key that the CRL verifies under, of an issuer who may sign CRLs below the path's anchor. */
const keyOf = (crl: Crl, { path, certificate }: Target, deps: RevocationDeps): SigningKey | null => {
  const name = crl.comparableIssuer
  const above = path.certificates.slice(path.certificates.indexOf(certificate) + 1)
  const signs = (issuer: SigningKey): boolean => deps.signatures.problemOf(crl, issuer) === null
  // Those above have been judged with the path.
  for (const issuer of above)
    if (issuer.comparableSubject === name && maySignCrls(issuer) && signs(issuer)) return issuer
  const { anchor } = path
  if (anchor.comparableSubject === name && anchorMaySignCrls(anchor) && signs(anchor)) return anchor
  for (const issuer of deps.pool.get(name) ?? [])
    if (!above.includes(issuer) && maySignCrls(issuer) && signs(issuer) && deps.leadsTo(issuer, anchor)) return issuer
  return null
}

const maySignCrls = (issuer: Certificate): boolean => {
  try {
    return issuer.keyUsage?.includes('cRLSign') ?? true
  } catch {
    // Somebody else's certificate in the pool: what cannot be read signs nothing, and is no fault of the one that is judged.
    return false
  }
}

const anchorMaySignCrls = ({ constraints }: TrustAnchor): boolean =>
  constraints === 'none' || constraints.keyUsage === null || constraints.keyUsage.includes('cRLSign')

/** (c), (h) and §5.2.4: of the same scope and key, built on this CRL or one before it, and newer. */
const deltaTo = (crl: Crl, key: SigningKey, { at, crls, signatures }: RevocationDeps): Crl | null =>
  (crls.get(crl.comparableIssuer) ?? []).find(
    delta =>
      delta.deltaCrlIndicator !== null &&
      delta.crlNumber !== null &&
      crl.crlNumber !== null &&
      delta.deltaCrlIndicator <= crl.crlNumber &&
      crl.crlNumber < delta.crlNumber &&
      sameExtension(crl, delta, oidOf.issuingDistributionPoint) &&
      sameExtension(crl, delta, oidOf.authorityKeyIdentifier) &&
      usabilityProblem(delta, at) === null &&
      signatures.problemOf(delta, key) === null,
  ) ?? null

const sameExtension = (a: Crl, b: Crl, dotted: string): boolean => {
  const [left, right] = [findExtension(a.extensions, dotted)?.value, findExtension(b.extensions, dotted)?.value]
  return left === undefined || right === undefined ? left === right : equalBytes(left, right)
}
