// Whether a certificate leads to one of the given roots over the given intermediates: what the agent checks of every answer before
// it believes it. Revocation is the relying party's business, not the holder's.
import { equalBytes } from '../base/bytes.ts'
import { messageOf } from '../base/errors.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { parsePem } from '../pki/pem.ts'
import { checkSignature } from '../pki/signature.ts'
import { AgentError } from './errors.ts'

/** An issuing CA below a root is two; a corporate root adds one or two. */
const maxDepth = 6

/** @throws PkiError pem_malformed and whatever the bytes deserve */
export const parseCertificates = (pem: string): readonly Certificate[] =>
  parsePem(pem, 'CERTIFICATE').map(der => parseCertificate(der))

const isCaFor = (issuer: Certificate, below: number): boolean =>
  issuer.basicConstraints?.isCa === true &&
  (issuer.basicConstraints.pathLength ?? maxDepth) >= below &&
  (issuer.keyUsage?.includes('keyCertSign') ?? true)

const isValidAt = (certificate: Certificate, now: number): boolean =>
  certificate.notBefore <= now && now < certificate.notAfter + 1000

const isSignedBy = (certificate: Certificate, issuer: Certificate): boolean => {
  if (!equalBytes(certificate.issuerDer, issuer.subjectDer)) return false
  try {
    checkSignature(issuer.spki, certificate.signatureAlgorithm, certificate.tbs, certificate.signature)
    return true
  } catch {
    return false
  }
}

export interface ChainToCheck {
  readonly leaf: Certificate
  readonly intermediates: readonly Certificate[]
  readonly roots: readonly Certificate[]
  readonly now: number
}

/** RFC 5280 §6.1 as far as our own chains go: signatures, names, validity, CA bit, key usage, path length. */
const leadsToRoot = ({ leaf, intermediates, roots, now }: ChainToCheck): boolean => {
  let current = leaf
  // `below`: intermediates between the leaf and the issuer that is sought (RFC 5280 §4.2.1.9).
  for (let below = 0; below < maxDepth; below++) {
    const fits = (issuer: Certificate): boolean =>
      isCaFor(issuer, below) && isValidAt(issuer, now) && isSignedBy(current, issuer)
    if (roots.some(fits)) return true
    const next = intermediates.find(fits)
    if (next === undefined) return false
    current = next
  }
  return false
}

/** @throws AgentError `answer_not_verified` */
export const checkChain = (chain: ChainToCheck): void => {
  let verified = false
  try {
    verified = leadsToRoot(chain)
  } catch (error) {
    throw AgentError.of('answer_not_verified', `the chain cannot be read: ${messageOf(error)}`, { cause: error })
  }
  if (!verified)
    throw AgentError.of(
      'answer_not_verified',
      'the certificate does not lead to a root of the bundle that came with it',
    )
}

/**
 * The holder's own clock against the certificate's times.
 * @throws AgentError `answer_not_verified` with both times
 */
export const checkValidity = (leaf: Certificate, now: number): void => {
  if (isValidAt(leaf, now)) return
  const [notBefore, notAfter, at] = [leaf.notBefore, leaf.notAfter, now].map(time => new Date(time).toISOString())
  throw AgentError.of(
    'answer_not_verified',
    `the certificate is valid from ${notBefore} to ${notAfter}, this machine's clock says ${at}`,
    {
      hint: 'set the clock of this machine (timedatectl), then try again',
      facts: { notBefore, notAfter, at } as Record<string, string>,
    },
  )
}
