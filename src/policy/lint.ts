// The lints before signing: what will be recorded and signed is parsed once, as a stranger would, and held against every rule. A
// finding is a fault of this program, so it stops the certificate. The signer judges again, on its own.
import { messageOf } from '../base/errors.ts'
import { parseTbsCertificate, type TbsCertificate } from '../pki/certificate.ts'
import { PkiError } from '../pki/errors.ts'
import { createKnownShapes, leafValues } from '../pki/leaf-shape.ts'
import { commonNameFor, type PrincipalKind } from '../pki/names.ts'
import { type Principal, parseSpiffeId, principalOf } from '../pki/spiffe.ts'
import { parseSubjectPublicKeyInfo } from '../pki/spki.ts'
import { PolicyError } from './errors.ts'
import { authorityInfoAccess } from './lints/authority-info-access.ts'
import { authorityKeyIdentifier } from './lints/authority-key-identifier.ts'
import { basicConstraints } from './lints/basic-constraints.ts'
import { commonName } from './lints/common-name.ts'
import { crlDistributionPoints } from './lints/crl-distribution-points.ts'
import { extendedKeyUsage } from './lints/extended-key-usage.ts'
import { hostNames } from './lints/host-names.ts'
import { keyUsage } from './lints/key-usage.ts'
import { knownExtensions } from './lints/known-extensions.ts'
import type { Lint } from './lints/lint.ts'
import { noRevAvail } from './lints/no-rev-avail.ts'
import { publicKey } from './lints/public-key.ts'
import { serialNumber } from './lints/serial-number.ts'
import { spiffeId } from './lints/spiffe-id.ts'
import { subjectAltName } from './lints/subject-alt-name.ts'
import { validity } from './lints/validity.ts'
import { version } from './lints/version.ts'

export interface Finding {
  readonly lint: string
  /** The rule's source. */
  readonly citation: string
  readonly problem: string
}

declare const lintedBrand: unique symbol
/** To-be-signed bytes without a finding: only `lintTbs` makes them, and only they are recorded and signed. */
export type LintedTbs = Uint8Array & { readonly [lintedBrand]: true }

export const lints: readonly Lint[] = [
  version,
  serialNumber,
  validity,
  publicKey,
  knownExtensions,
  subjectAltName,
  spiffeId,
  hostNames,
  commonName,
  basicConstraints,
  keyUsage,
  extendedKeyUsage,
  authorityKeyIdentifier,
  crlDistributionPoints,
  authorityInfoAccess,
  noRevAvail,
]

/** A value that does not parse is a finding of the lint that wanted to read it. */
const problemOf = (check: Lint['check'], tbs: TbsCertificate, principal: Principal | null): string | null => {
  try {
    return check(tbs, principal)
  } catch (error) {
    if (error instanceof PkiError) return error.message
    throw error
  }
}

const principalIn = (tbs: TbsCertificate): Principal | null => {
  try {
    return tbs.spiffeId === null ? null : principalOf(tbs.spiffeId)
  } catch {
    // Several URIs, or one that is no SPIFFE ID: the lint of that name meets the same error.
    return null
  }
}

/** Every finding; none is the usual case. Duplicate extensions and other faults of the encoding are the parser's. */
export const findingsOf = (tbs: Uint8Array): readonly Finding[] => {
  let certificate: TbsCertificate
  try {
    certificate = parseTbsCertificate(tbs)
  } catch (error) {
    return [{ lint: 'encoding', citation: 'X.690 §10; RFC 5280 §4.1, §4.2', problem: messageOf(error) }]
  }
  const principal = principalIn(certificate)
  const findings: Finding[] = []
  for (const { name, citation, check } of lints) {
    const problem = problemOf(check, certificate, principal)
    if (problem !== null) findings.push({ lint: name, citation, problem })
  }
  return findings
}

/** What the verdict depends on beside the octets outside of the places of a shape. */
interface LintedAs {
  readonly kind: PrincipalKind
  readonly lifeMs: number
}

// Leaves of one issuer and profile are judged whole once; the next ones by what differs. Owned by this module.
const linted = createKnownShapes<LintedAs>()

/** Whether every lint would say the same of these bytes as of those before, which had no finding. */
const isLikeLinted = (tbs: Uint8Array): boolean => {
  const found = linted.find(tbs)
  if (found === null) return false
  const { kind, lifeMs } = found.facts
  try {
    const values = leafValues(found.shape, tbs)
    const principal = principalOf(parseSpiffeId(values.uri))
    parseSubjectPublicKeyInfo(values.spkiDer)
    return (
      principal?.kind === kind &&
      values.notAfter - values.notBefore === lifeMs &&
      values.commonName === commonNameFor(kind, principal.kind === 'agent' ? principal.agent : principal.name)
    )
  } catch (error) {
    // Whatever it is, the lints will name it.
    if (error instanceof PkiError) return false
    throw error
  }
}

const remember = (tbs: Uint8Array): void => {
  const certificate = parseTbsCertificate(tbs)
  const principal = principalIn(certificate)
  if (principal === null) return
  linted.add(tbs, { kind: principal.kind, lifeMs: certificate.notAfter - certificate.notBefore })
}

/** @throws PolicyError `lint_failed` naming every finding */
export const lintTbs = (tbs: Uint8Array): LintedTbs => {
  if (isLikeLinted(tbs)) return tbs as LintedTbs
  const findings = findingsOf(tbs)
  if (findings.length === 0) {
    remember(tbs)
    return tbs as LintedTbs
  }
  const lines = findings.map(({ lint, citation, problem }) => `${lint}: ${problem} (${citation})`)
  throw new PolicyError('lint_failed', `the certificate breaks its rules: ${lines.join('; ')}`, {
    facts: { findings: lines },
  })
}
