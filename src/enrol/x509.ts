// The attestor for certificates of another authority: a machine's, a mesh's, a corporate PKI's. The path is validated by this CA's own
// verifier at each use; the key is proved by the TLS handshake or by a JWS. What the certificate says becomes claims for the rules.
import { hash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { messageOf } from '../base/errors.ts'
import { proofBy, readCertificateProof } from '../jws/certificate-proof.ts'
import { checkProof, proofWindowMs } from '../jws/verify-proof.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { type Crl, parseCrl } from '../pki/crl.ts'
import { parseCertificationRequest } from '../pki/csr.ts'
import { commonNameOf, nameToString } from '../pki/names.ts'
import { parsePem } from '../pki/pem.ts'
import type { X509AttestorSettings } from '../schema/attestor.ts'
import { usualBudget } from '../verify/budget.ts'
import { VerifyError } from '../verify/errors.ts'
import { validatePath } from '../verify/path.ts'
import { anyPolicies } from '../verify/policies.ts'
import { usualAlgorithms } from '../verify/signatures.ts'
import { anchorOf, type TrustAnchor } from '../verify/trust-anchor.ts'
import type { Attested, Attestor, AttestorDeps, EvidenceRequest, WorkloadEvidence } from './attestor.ts'
import { EnrolError } from './errors.ts'
import type { Claims } from './rules.ts'

const certificatesIn = (file: string): readonly Certificate[] =>
  parsePem(readFileSync(file, 'utf8'), 'CERTIFICATE').map(der => parseCertificate(der))

const isPem = (bytes: Uint8Array): boolean => Buffer.from(bytes.subarray(0, 64)).includes('-----BEGIN')

const listsIn = (file: string): readonly Crl[] => {
  const bytes = readFileSync(file)
  if (!isPem(bytes)) return [parseCrl(new Uint8Array(bytes))]
  return parsePem(bytes.toString('utf8'), 'X509 CRL').map(der => parseCrl(der))
}

/** The lists of a file that something else keeps new: read again when it has changed. Owned by the attestor. */
const createLists = (file: string | undefined) => {
  let known: { readonly mark: string; readonly lists: readonly Crl[]; readonly readAt: number } | null = null
  const read = (now: number): readonly Crl[] => {
    if (file === undefined) return []
    const { mtimeMs, size, ino } = statSync(file)
    const mark = `${mtimeMs} ${size} ${ino}`
    if (known?.mark !== mark) known = { mark, lists: listsIn(file), readAt: now }
    return known.lists
  }
  return { read, readAt: () => known?.readAt ?? null }
}

/** What rules may ask of it. Names as they are in the certificate. */
export const claimsOfCertificate = (certificate: Certificate): Claims => {
  const names = certificate.subjectAltName ?? []
  const of = (kind: 'dns' | 'uri' | 'email'): readonly string[] =>
    names.flatMap(name => (name.kind === kind ? [name.value] : []))
  return {
    ...(commonNameOf(certificate.subject) === null ? {} : { commonName: commonNameOf(certificate.subject) }),
    subject: nameToString(certificate.subject),
    issuer: nameToString(certificate.issuer),
    serial: certificate.serialHex,
    dns: of('dns'),
    uri: of('uri'),
    email: of('email'),
  }
}

const invalid = (error: unknown): EnrolError => {
  const facts = error instanceof VerifyError ? { reason: error.code } : {}
  return new EnrolError('evidence_certificate_invalid', `the certificate is not good evidence: ${messageOf(error)}`, {
    hint: 'agentca attestor list names the authorities; show their certificate, with its intermediates',
    facts,
    cause: error,
  })
}

interface Shown {
  readonly leaf: Certificate
  readonly rest: readonly Certificate[]
}

const parseChain = (chain: readonly Uint8Array[]): Shown => {
  try {
    const [leaf, ...rest] = chain.map(der => parseCertificate(der))
    if (leaf === undefined) throw new Error('there is none')
    return { leaf, rest }
  } catch (error) {
    throw invalid(error)
  }
}

const chainOf = (evidence: WorkloadEvidence): readonly Uint8Array[] => {
  if (evidence.type !== 'x509') throw new TypeError('expected a certificate')
  return 'jws' in evidence ? readCertificateProof(evidence.jws).chain : evidence.shown
}

interface Authority {
  readonly settings: X509AttestorSettings
  readonly anchors: readonly TrustAnchor[]
  readonly intermediates: readonly Certificate[]
  readonly lists: ReturnType<typeof createLists>
}

const noList = (attestor: string, why: string, cause: unknown): EnrolError =>
  new EnrolError('attestor_unavailable', `whether certificates of attestor ${attestor} are revoked is not known now`, {
    hint: 'an operator looks after its list: agentca attestor list',
    facts: { retryAfterSeconds: 30 },
    cause: new Error(why, { cause }),
  })

const listsNow = ({ settings, lists }: Authority, now: number): readonly Crl[] => {
  try {
    return lists.read(now)
  } catch (cause) {
    throw noList(settings.name, messageOf(cause), cause)
  }
}

/** @throws EnrolError `evidence_certificate_invalid`, `attestor_unavailable` */
const believe = (authority: Authority, { leaf, rest }: Shown, now: number): void => {
  const { settings, anchors, intermediates } = authority
  const revocation = settings.crlFile === undefined ? ('none' as const) : { crls: listsNow(authority, now) }
  try {
    validatePath({
      leaf,
      intermediates: [...intermediates, ...rest],
      anchors,
      at: now,
      purpose: settings.extendedKeyUsage,
      algorithms: usualAlgorithms,
      policies: anyPolicies,
      names: 'any',
      revocation,
      budget: usualBudget,
    })
  } catch (error) {
    if (error instanceof VerifyError && error.code === 'revocation_unknown')
      throw noList(settings.name, error.message, error)
    throw invalid(error)
  }
}

/** @throws what is wrong with the files: an attestor without anchors vouches for nobody */
export const createX509Attestor = (settings: X509AttestorSettings, { publicUrl }: AttestorDeps): Attestor => {
  const { name } = settings
  const roots = certificatesIn(settings.anchorsFile)
  if (roots.length === 0) throw new Error(`no certificate in ${settings.anchorsFile}`)
  const anchors = roots.map(root => anchorOf(root, 'constraints'))
  const intermediates = settings.intermediatesFile === undefined ? [] : certificatesIn(settings.intermediatesFile)
  const authorities = new Set([...roots, ...intermediates].map(({ comparableSubject }) => comparableSubject))
  const lists = createLists(settings.crlFile)
  const authority = roots.map(({ subject }) => nameToString(subject)).join('; ')

  const authorityOf = { settings, anchors, intermediates, lists }

  /** By a JWS each proof is one use; on a connection each new key is one, because the handshake is made anew. */
  const useOf = async (evidence: WorkloadEvidence, leaf: Certificate, { csr, now }: EvidenceRequest) => {
    if (evidence.type === 'x509' && 'jws' in evidence) {
      const read = readCertificateProof(evidence.jws)
      const proof = proofBy(read, { der: leaf.spkiDer, hashHex: leaf.spkiHashHex })
      const { jti, madeAt } = await checkProof(proof, { audience: publicUrl, csr, now })
      const oneUse = JSON.stringify(['jws', leaf.spkiHashHex, jti])
      return { oneUse, expiresAt: now + 2 * proofWindowMs, madeAfter: madeAt - proofWindowMs }
    }
    const { spki } = parseCertificationRequest(csr)
    const keys = [hash('sha256', leaf.der), hash('sha256', spki.der)]
    return { oneUse: JSON.stringify(['tls', ...keys]), expiresAt: leaf.notAfter, madeAfter: now }
  }

  return {
    name,
    type: 'x509',
    rules: settings.rules,
    recognises: evidence => {
      if (evidence.type !== 'x509' || !settings.by.includes('jws' in evidence ? 'jws' : 'tls')) return false
      const { leaf, rest } = parseChain(chainOf(evidence))
      return [leaf, ...rest].some(each => authorities.has(each.comparableIssuer))
    },
    attest: async (evidence, request): Promise<Attested> => {
      const shown = parseChain(chainOf(evidence))
      believe(authorityOf, shown, request.now)
      const { leaf } = shown
      const { oneUse, expiresAt, madeAfter } = await useOf(evidence, leaf, request)
      return {
        issuer: nameToString(leaf.issuer),
        subject: nameToString(leaf.subject) || leaf.serialHex,
        claims: claimsOfCertificate(leaf),
        oneUse,
        expiresAt: Math.min(expiresAt, leaf.notAfter),
        madeAfter,
        keyThumbprint: null,
      }
    },
    status: () => {
      const common = { name, kind: 'x509', authority, rules: settings.rules.length, keys: roots.length } as const
      try {
        lists.read(0)
      } catch (error) {
        return { ...common, state: 'down', problem: messageOf(error), updatedAt: null }
      }
      return { ...common, state: 'ready', problem: null, updatedAt: lists.readAt() }
    },
    close: () => {},
  }
}
