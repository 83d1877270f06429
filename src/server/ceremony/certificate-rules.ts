// What a CA certificate must be after its ceremony. It was built by @peculiar/x509, so our own strict parser is the judge here, and
// OpenSSL the one after it (judge.ts). Certificates that another organisation's root made pass the same table, less exactly where
// that organisation decides.
import { equalBytes, toHex } from '../../base/bytes.ts'
import { signatureAlgorithmFor } from '../../pki/algorithms.ts'
import { assembleCertificate, type Certificate } from '../../pki/certificate.ts'
import type { Extension } from '../../pki/extensions.ts'
import { encodeName, nameToString, parseName } from '../../pki/names.ts'
import { oidName, oidOf } from '../../pki/oid.ts'
import { verifySignature } from '../../pki/signature.ts'
import { keyIdentifier, type SubjectPublicKeyInfo } from '../../pki/spki.ts'
import { type CaDraft, generalNameText, timeText } from './draft.ts'
import { differs, type Fault, type Rule, unless } from './rules.ts'

export interface ExpectedCa {
  /** `another`: the certificate came from outside; what is that organisation's to decide is then not compared. */
  readonly madeBy: 'us' | 'another'
  readonly issuer: Certificate | 'self'
  /** The key in the token. */
  readonly spki: SubjectPublicKeyInfo
  readonly draft: CaDraft
  readonly now: number
}

const issuerOf = (certificate: Certificate, expected: ExpectedCa): Certificate =>
  expected.issuer === 'self' ? certificate : expected.issuer

const critical = (certificate: Certificate, dotted: string): Fault =>
  unless(certificate.extension(dotted)?.critical === true, 'expected it present and critical')

const notCritical = (certificate: Certificate, dotted: string): Fault =>
  unless(certificate.extension(dotted)?.critical === false, 'expected it present and not critical')

const serialFault = (certificate: Certificate, { madeBy }: ExpectedCa): Fault => {
  const { serial } = certificate
  if (serial[0]! >= 0x80 || serial.every(byte => byte === 0)) return 'expected a positive number'
  if (madeBy === 'us') return differs(serial.length, 16)
  return unless(serial.length <= 20, `expected at most 20 octets, got ${serial.length}`)
}

/** Corporate CAs date back and count the last second or not. */
const foreignSlackMs = 86_400_000

const validityFault = (certificate: Certificate, { madeBy, draft, now }: ExpectedCa): Fault => {
  const { notBefore, notAfter } = certificate
  if (madeBy === 'us')
    return differs([notBefore, notAfter].map(timeText).join(), [draft.notBefore, draft.notAfter].map(timeText).join())
  if (notBefore > now || notAfter < now)
    return `valid ${timeText(notBefore)} to ${timeText(notAfter)}, which is not now`
  return unless(
    notAfter - notBefore <= draft.notAfter - draft.notBefore + foreignSlackMs,
    'the life is longer than the input asks for: raise lifetime there if that is wanted',
  )
}

const knownExtensions = (draft: CaDraft, selfSigned: boolean): readonly string[] => [
  oidOf.basicConstraints,
  oidOf.keyUsage,
  oidOf.subjectKeyIdentifier,
  ...(selfSigned ? [] : [oidOf.authorityKeyIdentifier]),
  ...(draft.spiffeId === undefined ? [] : [oidOf.subjectAltName]),
  ...(draft.permittedNames === undefined ? [] : [oidOf.nameConstraints]),
  ...(draft.crlDistributionPoints === undefined ? [] : [oidOf.crlDistributionPoints]),
  ...(draft.authorityInfoAccess === undefined ? [] : [oidOf.authorityInfoAccess]),
]

const understoodCritical: ReadonlySet<string> = new Set([
  oidOf.basicConstraints,
  oidOf.keyUsage,
  oidOf.nameConstraints,
  oidOf.certificatePolicies,
])

const namesOf = (extensions: readonly Extension[]): string =>
  extensions
    .map(({ oid }) => oidName(oid))
    .toSorted()
    .join(', ')

const extensionsFault = (certificate: Certificate, { madeBy, draft, issuer }: ExpectedCa): Fault => {
  if (madeBy === 'us')
    return differs(
      namesOf(certificate.extensions),
      knownExtensions(draft, issuer === 'self')
        .map(oidName)
        .toSorted()
        .join(', '),
    )
  const unknown = certificate.extensions.filter(({ oid, critical }) => critical && !understoodCritical.has(oid))
  return unless(unknown.length === 0, `critical extensions that relying parties may not know: ${namesOf(unknown)}`)
}

const authorityKeyFault = (certificate: Certificate, expected: ExpectedCa): Fault => {
  const found = certificate.authorityKeyIdentifier?.keyId ?? null
  // RFC 5280 §4.2.1.1: only a self-signed certificate may do without.
  if (expected.issuer === 'self' && found === null) return null
  const wanted = issuerOf(certificate, expected).subjectKeyIdentifier
  return differs(found === null ? 'none' : toHex(found), wanted === null ? 'none' : toHex(wanted))
}

const usageFault = (certificate: Certificate, { madeBy }: ExpectedCa): Fault => {
  const usages = certificate.keyUsage ?? []
  if (madeBy === 'us') return differs(usages.join(', '), 'keyCertSign, cRLSign')
  return unless(
    usages.includes('keyCertSign') && usages.includes('cRLSign'),
    `expected keyCertSign and cRLSign, got ${usages.join(', ') || 'none'}`,
  )
}

const constraintsFault = (certificate: Certificate, { draft }: ExpectedCa): Fault => {
  const text = ({ permitted, excluded }: Pick<NonNullable<Certificate['nameConstraints']>, 'permitted' | 'excluded'>) =>
    [...permitted.map(generalNameText), ...excluded.map(name => `not ${generalNameText(name)}`)].join(', ') || 'none'
  const none = { permitted: [], excluded: [] }
  return (
    differs(text(certificate.nameConstraints ?? none), text({ ...none, permitted: draft.permittedNames ?? [] })) ??
    (certificate.nameConstraints === null ? null : critical(certificate, oidOf.nameConstraints))
  )
}

const extendedUsageFault = (certificate: Certificate): Fault => {
  const usages = certificate.extendedKeyUsage
  return unless(
    usages === null || [oidOf.clientAuth, oidOf.serverAuth].every(usage => usages.includes(usage)),
    'an extended key usage without clientAuth and serverAuth makes the leaves useless',
  )
}

const subjectFault = (certificate: Certificate, { madeBy, draft, issuer }: ExpectedCa): Fault => {
  if (madeBy === 'us')
    return differs(nameToString(certificate.subject), nameToString(parseName(encodeName(draft.subject))))
  if (certificate.subject.rdns.length === 0) return 'a CA needs a subject'
  return unless(
    issuer === 'self' || !equalBytes(certificate.subjectDer, issuer.subjectDer),
    'the subject is the name of the issuer, which makes a self-issued certificate',
  )
}

const urlsFault = (certificate: Certificate, { madeBy, draft }: ExpectedCa): Fault => {
  if (madeBy === 'another') return null
  const points = (certificate.crlDistributionPoints ?? []).flatMap(point => point.fullName ?? []).map(generalNameText)
  const urls = [...points, ...(certificate.authorityInfoAccess?.caIssuers ?? [])].join(', ')
  return differs(
    urls,
    [
      ...(draft.crlDistributionPoints ?? []).map(url => `uri:${url}`),
      ...(draft.authorityInfoAccess?.caIssuers ?? []),
    ].join(', '),
  )
}

export const certificateRules: readonly Rule<Certificate, ExpectedCa>[] = [
  {
    rule: 'the bytes are DER and nothing else is in them',
    source: 'RFC 5280 §4.1',
    fault: ({ der, tbs, signatureAlgorithm, signature }) =>
      unless(equalBytes(assembleCertificate(tbs, signatureAlgorithm, signature), der), 'it encodes to other bytes'),
  },
  { rule: 'version 3', source: 'RFC 5280 §4.1.2.1', fault: ({ version }) => differs(version, 3) },
  { rule: 'serial number', source: 'RFC 5280 §4.1.2.2', fault: serialFault },
  {
    rule: 'the public key is the one in the token',
    source: 'this ceremony',
    fault: (certificate, { spki }) => unless(equalBytes(certificate.spkiDer, spki.der), 'it is another key'),
  },
  {
    rule: 'the signature verifies with the issuer’s key',
    source: 'RFC 5280 §6.1.3 (a)(1)',
    fault: (certificate, expected) => {
      const { spki } = issuerOf(certificate, expected)
      const { signatureAlgorithm, tbs, signature } = certificate
      return expected.madeBy === 'us' && signatureAlgorithm !== signatureAlgorithmFor(spki.algorithm)
        ? `${signatureAlgorithm} is not what a ${spki.algorithm} key signs by`
        : unless(verifySignature(spki, signatureAlgorithm, tbs, signature), 'it does not')
    },
  },
  {
    rule: 'issuer name',
    source: 'RFC 5280 §6.1.3 (a)(4)',
    fault: (certificate, expected) =>
      unless(
        equalBytes(certificate.issuerDer, issuerOf(certificate, expected).subjectDer),
        'it is not the issuer’s subject',
      ),
  },
  { rule: 'subject name', source: 'RFC 5280 §4.1.2.6', fault: subjectFault },
  { rule: 'validity', source: 'RFC 5280 §4.1.2.5', fault: validityFault },
  {
    rule: 'validity within the issuer’s',
    source: 'this ceremony',
    fault: (certificate, expected) => {
      const issuer = issuerOf(certificate, expected)
      return unless(certificate.notAfter <= issuer.notAfter, `the issuer ends ${timeText(issuer.notAfter)}`)
    },
  },
  {
    rule: 'basic constraints: critical, a CA, path length',
    source: 'RFC 5280 §4.2.1.9',
    fault: (certificate, { draft }) =>
      critical(certificate, oidOf.basicConstraints) ??
      unless(certificate.basicConstraints?.isCa === true, 'expected cA true') ??
      differs(certificate.basicConstraints?.pathLength ?? null, draft.pathLength),
  },
  {
    rule: 'key usage: critical, certificates and CRLs',
    source: 'RFC 5280 §4.2.1.3',
    fault: (certificate, expected) => critical(certificate, oidOf.keyUsage) ?? usageFault(certificate, expected),
  },
  { rule: 'extended key usage leaves the leaves theirs', source: 'RFC 5280 §4.2.1.12', fault: extendedUsageFault },
  {
    rule: 'subject key identifier',
    source: 'RFC 5280 §4.2.1.2',
    fault: (certificate, { madeBy, spki }) =>
      notCritical(certificate, oidOf.subjectKeyIdentifier) ??
      (madeBy === 'us'
        ? differs(toHex(certificate.subjectKeyIdentifier ?? new Uint8Array()), toHex(keyIdentifier(spki)))
        : null),
  },
  { rule: 'authority key identifier', source: 'RFC 5280 §4.2.1.1', fault: authorityKeyFault },
  { rule: 'name constraints', source: 'RFC 5280 §4.2.1.10', fault: constraintsFault },
  {
    rule: 'SPIFFE ID',
    source: 'X509-SVID §3.2',
    fault: (certificate, { madeBy, draft }) =>
      madeBy === 'us' ? differs(certificate.spiffeId ?? 'none', draft.spiffeId ?? 'none') : null,
  },
  { rule: 'status URLs', source: 'RFC 5280 §4.2.1.13, §4.2.2.1', fault: urlsFault },
  { rule: 'no other extensions', source: 'RFC 5280 §4.2', fault: extensionsFault },
]

/** What a certificate must be before anything is signed in its name or checked against it. */
export const rootRules: readonly Rule<Certificate, { readonly now: number }>[] = [
  {
    rule: 'self-signed',
    source: 'RFC 5280 §3.2',
    fault: ({ subjectDer, issuerDer, spki, signatureAlgorithm, tbs, signature }) =>
      unless(
        equalBytes(subjectDer, issuerDer) && verifySignature(spki, signatureAlgorithm, tbs, signature),
        'it is signed by another CA',
      ),
  },
  {
    rule: 'a CA that may sign certificates',
    source: 'RFC 5280 §4.2.1.3, §4.2.1.9',
    fault: ({ basicConstraints, keyUsage }) =>
      unless(basicConstraints?.isCa === true, 'expected cA true') ??
      unless(keyUsage === null || keyUsage.includes('keyCertSign'), 'expected keyCertSign'),
  },
  {
    rule: 'valid now',
    source: 'RFC 5280 §6.1.3 (a)(2)',
    fault: ({ notBefore, notAfter }, { now }) =>
      unless(notBefore <= now && now <= notAfter, `valid ${timeText(notBefore)} to ${timeText(notAfter)}`),
  },
]
