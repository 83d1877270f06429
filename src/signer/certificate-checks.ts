// Purpose checks for certificates: leaves and OCSP responders (RFC 5280 §4, RFC 6960 §4.2.2.2). Part of the last judge before the
// HSM; see purpose-checks.ts for what surrounds it.
import { createHash } from 'node:crypto'
import { equalBytes, toHex } from '../base/bytes.ts'
import { DerReader } from '../pki/der.ts'
import { PkiError } from '../pki/errors.ts'
import { createKnownShapes, type KnownShapes, leafValues } from '../pki/leaf-shape.ts'
import { commonNameFor, parseName } from '../pki/names.ts'
import { oidOf } from '../pki/oid.ts'
import { type Principal, parseSpiffeId, principalOf, type TrustDomain } from '../pki/spiffe.ts'
import { parseSubjectPublicKeyInfo } from '../pki/spki.ts'
import type { KeyCeilings } from './config.ts'
import { SignerError } from './errors.ts'
import { checkAuthorityKey, clockSlackMs, type IssuerFacts, type PurposeKey, refuse } from './refusal.ts'
import { type ExtensionField, readTbsCertificate, type TbsCertificateFields } from './tbs-fields.ts'

export interface CertificateRules {
  readonly trustDomain: TrustDomain
  readonly issuer: IssuerFacts
  readonly algorithmDer: Uint8Array
  readonly ceilings: KeyCeilings
  readonly now: number
  readonly ownKeys: readonly PurposeKey[]
}

const leafExtensions: ReadonlySet<string> = new Set([
  oidOf.subjectKeyIdentifier,
  oidOf.authorityKeyIdentifier,
  oidOf.keyUsage,
  oidOf.extendedKeyUsage,
  oidOf.subjectAltName,
  oidOf.basicConstraints,
  oidOf.crlDistributionPoints,
  oidOf.authorityInfoAccess,
  oidOf.certificatePolicies,
  oidOf.noRevAvail,
  oidOf.agentScopesVersion,
])

const responderExtensions: ReadonlySet<string> = new Set([
  oidOf.subjectKeyIdentifier,
  oidOf.authorityKeyIdentifier,
  oidOf.keyUsage,
  oidOf.extendedKeyUsage,
  oidOf.basicConstraints,
  oidOf.ocspNoCheck,
  oidOf.authorityInfoAccess,
])

/** notBefore lies back by design (60 s); the allowance keeps that out of the ceiling. */
const backdateAllowanceMs = 120_000

const value = (tbs: TbsCertificateFields, oid: string, rule: string): ExtensionField =>
  tbs.extensions.get(oid) ?? refuse(rule, `extension ${oid} is missing`)

const sequenceOf = (bytes: Uint8Array): DerReader => {
  const input = new DerReader(bytes)
  const body = input.readSequence()
  input.end()
  return body
}

const checkShape = (tbs: TbsCertificateFields, rules: CertificateRules, known: ReadonlySet<string>): void => {
  // 16 octets with the top bit clear: the form pki/serial.ts makes, positive and of fixed length.
  if (tbs.serial.length !== 16 || tbs.serial[0]! < 0x01 || tbs.serial[0]! > 0x7f)
    refuse('serial', 'the serial must be 16 octets, positive')
  if (!equalBytes(tbs.algorithmDer, rules.algorithmDer))
    refuse('signature_algorithm', 'the signature algorithm is not that of the key')
  if (!equalBytes(tbs.issuerDer, rules.issuer.subjectDer))
    refuse('issuer', 'the issuer is not the subject of this key’s certificate')
  for (const [oid, { critical }] of tbs.extensions) {
    if (!known.has(oid)) refuse('extension', `extension ${oid} is not known here`)
    if (
      critical &&
      oid !== oidOf.keyUsage &&
      oid !== oidOf.basicConstraints &&
      oid !== oidOf.subjectAltName &&
      oid !== oidOf.extendedKeyUsage
    ) {
      refuse('extension', `extension ${oid} must not be critical`)
    }
  }
  checkAuthorityKey(
    value(tbs, oidOf.authorityKeyIdentifier, 'authority_key').value,
    rules.issuer.keyIdentifier,
    'authority_key',
  )
  const constraints = tbs.extensions.get(oidOf.basicConstraints)
  if (constraints && !sequenceOf(constraints.value).atEnd)
    refuse('not_a_ca', 'basicConstraints must be empty: cA false, no path length')
  const usage = value(tbs, oidOf.keyUsage, 'key_usage')
  const bits = new DerReader(usage.value)
  if (!usage.critical || bits.readNamedBits().join() !== '0')
    refuse('key_usage', 'keyUsage must be critical and digitalSignature alone')
  bits.end()
}

const checkLife = (
  tbs: Pick<TbsCertificateFields, 'notBefore' | 'notAfter'>,
  rules: CertificateRules,
  maxSeconds: number,
): void => {
  if (tbs.notAfter <= tbs.notBefore) refuse('validity', 'notAfter is not after notBefore')
  if (tbs.notBefore > rules.now + clockSlackMs || tbs.notBefore < rules.now - 2 * clockSlackMs)
    refuse('not_before', 'notBefore is not now')
  // RFC 5280 §4.1.2.5: both ends are included, hence the second more.
  const life = tbs.notAfter - tbs.notBefore + 1000 - backdateAllowanceMs
  if (life > maxSeconds * 1000) refuse('lifetime', `the life is longer than ${maxSeconds} s`)
  if (tbs.notAfter > rules.issuer.notAfter) refuse('lifetime_beyond_issuer', 'the certificate would outlive its issuer')
}

const extendedUsages = (tbs: TbsCertificateFields): string[] => {
  const list = sequenceOf(value(tbs, oidOf.extendedKeyUsage, 'extended_key_usage').value)
  const found: string[] = []
  while (!list.atEnd) found.push(list.readOid())
  return found
}

const dnsPattern = /^(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/

/** Exactly one URI; DNS names and addresses beside it only for services and DNS-naming profiles. */
const principalOfSan = (tbs: TbsCertificateFields, trustDomain: TrustDomain): Principal => {
  const names = sequenceOf(value(tbs, oidOf.subjectAltName, 'san').value)
  const uris: string[] = []
  let addresses = 0
  let dns = 0
  while (!names.atEnd) {
    const tag = names.peekTag()
    if (tag === 0x86) uris.push(names.readIa5String(0x86))
    else if (tag === 0x82) {
      dns++
      if (!dnsPattern.test(names.readIa5String(0x82))) refuse('san_dns', 'a DNS name is not of the accepted form')
    } else if (tag === 0x87) {
      addresses++
      const { length } = names.readOctetString(0x87)
      if (length !== 4 && length !== 16) refuse('san_kind', 'an IP address has 4 or 16 octets')
    } else refuse('san_kind', `general name with tag 0x${tag.toString(16)} is not allowed`)
  }
  if (uris.length !== 1) refuse('san_uri', `expected exactly one URI, got ${uris.length}`)
  const principal = principalOf(parseSpiffeId(uris[0]!))
  if (principal === null) return refuse('san_path', 'the SPIFFE ID is not of an agent, a service or an operator')
  if (principal.trustDomain !== trustDomain) refuse('san_trust_domain', `the SPIFFE ID is outside ${trustDomain}`)
  if (addresses > 0 && principal.kind !== 'service') refuse('san_kind', 'only services have IP addresses')
  if (dns > 0 && principal.kind === 'operator') refuse('san_dns', 'operators have no DNS names')
  return principal
}

const expectedCommonName = (principal: Principal): string =>
  commonNameFor(principal.kind, principal.kind === 'agent' ? principal.agent : principal.name)

const checkSubject = (tbs: TbsCertificateFields, principal: Principal): void => {
  const expected = expectedCommonName(principal)
  // Every common name, not the last: databases that map the CN to an account differ in which one they take.
  for (const { type, value: text } of parseName(tbs.subjectDer).rdns.flat()) {
    if (type === oidOf.commonName && text !== expected) refuse('common_name', `expected the common name ${expected}`)
  }
}

const checkLeaf = (tbs: TbsCertificateFields, rules: CertificateRules): void => {
  const principal = principalOfSan(tbs, rules.trustDomain)
  checkLife(tbs, rules, rules.ceilings.maxLeafSeconds[principal.kind])
  checkSubject(tbs, principal)
  const usages = extendedUsages(tbs)
  if (usages.length === 0 || usages.some(usage => usage !== oidOf.clientAuth && usage !== oidOf.serverAuth)) {
    refuse('extended_key_usage', 'extendedKeyUsage must be clientAuth, serverAuth or both')
  }
  checkSubjectKey(tbs.spkiDer, rules)
}

const checkSubjectKey = (spkiDer: Uint8Array, rules: CertificateRules): void => {
  if (rules.ownKeys.some(key => equalBytes(key.spki, spkiDer)))
    refuse('subject_key', 'the subject key is a key of this signer')
  parseSubjectPublicKeyInfo(spkiDer)
}

// Leaves of one issuer and profile are judged whole once, the next ones by what differs from those: the places of pki/leaf-shape.ts, by the
// same functions. By the facts of the key's own certificate, which the rest was held against, and with the algorithm it was held against.
// Owned by this module.
const judged = new WeakMap<IssuerFacts, KnownShapes<Uint8Array>>()

/** Whether the checks of a leaf would all pass; false: they have to be made, and say what is wrong. */
const isLikeJudged = (known: KnownShapes<Uint8Array>, rules: CertificateRules, tbs: Uint8Array): boolean => {
  const found = known.find(tbs)
  if (found === null || found.facts !== rules.algorithmDer) return false
  try {
    const values = leafValues(found.shape, tbs)
    const principal = principalOf(parseSpiffeId(values.uri))
    if (principal === null || principal.trustDomain !== rules.trustDomain) return false
    checkLife(values, rules, rules.ceilings.maxLeafSeconds[principal.kind])
    checkSubjectKey(values.spkiDer, rules)
    return values.serial.length === 16 && values.commonName === expectedCommonName(principal)
  } catch (error) {
    if (error instanceof SignerError || error instanceof PkiError) return false
    throw error
  }
}

/** @throws SignerError `signer_refused`, or PkiError when the bytes do not parse */
export const checkLeafCertificate = (rules: CertificateRules, der: Uint8Array): void => {
  let known = judged.get(rules.issuer)
  if (known === undefined) {
    known = createKnownShapes()
    judged.set(rules.issuer, known)
  }
  if (isLikeJudged(known, rules, der)) return
  checkCertificate('leaf', rules, der)
  known.add(der, rules.algorithmDer)
}

const checkResponder = (tbs: TbsCertificateFields, rules: CertificateRules): void => {
  checkLife(tbs, rules, rules.ceilings.maxResponderSeconds)
  if (extendedUsages(tbs).join() !== oidOf.ocspSigning)
    refuse('extended_key_usage', 'extendedKeyUsage must be OCSPSigning alone')
  const noCheck = new DerReader(value(tbs, oidOf.ocspNoCheck, 'ocsp_nocheck').value)
  noCheck.readNull()
  noCheck.end()
  if (!rules.ownKeys.some(key => key.purposes.includes('ocsp-response') && equalBytes(key.spki, tbs.spkiDer))) {
    refuse('subject_key', 'the subject key is not an OCSP key of this signer')
  }
}

/** @throws SignerError `signer_refused`, or PkiError when the bytes do not parse */
export const checkCertificate = (
  kind: 'leaf' | 'ocsp-responder',
  rules: CertificateRules,
  der: Uint8Array,
): { readonly spkiSha256Hex: string; readonly subjectHex: string } => {
  const tbs = readTbsCertificate(der)
  checkShape(tbs, rules, kind === 'leaf' ? leafExtensions : responderExtensions)
  if (kind === 'leaf') checkLeaf(tbs, rules)
  else checkResponder(tbs, rules)
  return {
    spkiSha256Hex: kind === 'leaf' ? '' : createHash('sha256').update(tbs.spkiDer).digest('hex'),
    subjectHex: kind === 'leaf' ? '' : toHex(tbs.subjectDer),
  }
}
