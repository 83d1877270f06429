// One generation of an identity: key, certificate, trust bundle and what the CA said about them, as one immutable value. Everything
// that hands an identity on (files, TLS, listeners) takes it from here.
import type { KeyObject } from 'node:crypto'
import { equalBytes } from '../base/bytes.ts'
import { isAgentCaError, messageOf } from '../base/errors.ts'
import { parseCertificate } from '../pki/certificate.ts'
import { parsePem } from '../pki/pem.ts'
import { parseSpiffeId, type SpiffeId, type TrustDomain, trustDomainOf } from '../pki/spiffe.ts'
import type { IdentityAnswer, IdentityFacts } from './answer.ts'
import { AgentError } from './errors.ts'
import { encodePrivateKey, spkiOf } from './key-pair.ts'

export interface Credential {
  readonly spiffeId: SpiffeId
  readonly trustDomain: TrustDomain
  /** What the CA said, times and generation included. */
  readonly facts: IdentityFacts
  readonly privateKey: KeyObject
  /** PEM of the leaf. */
  readonly certificatePem: string
  /** PEM of the intermediates, without the leaf. */
  readonly chainPem: string
  /** PEM of the roots: the only trust anchors for this identity's peers. */
  readonly bundlePem: string
  /** Milliseconds since the epoch; for people and logs. What is scheduled goes by the monotonic clock. */
  readonly notAfter: number
  /** The CA it came from. */
  readonly url: string
  /** `sha256:HEX` of the evidence it was enrolled with: the same command again needs no second enrolment. */
  readonly enrolledWith: string | null
}

/** Key, certificate chain and roots in the form that `tls` and `https` take. */
export interface TlsMaterial {
  readonly key: string
  readonly cert: string
  readonly ca: string
}

export const tlsMaterialOf = (credential: Credential): TlsMaterial => ({
  key: encodePrivateKey(credential.privateKey),
  cert: credential.certificatePem + credential.chainPem,
  ca: credential.bundlePem,
})

/** A PEM that ends with a line feed, so that PEMs can be put one behind the other. */
const ended = (pem: string): string => (pem === '' || pem.endsWith('\n') ? pem : `${pem}\n`)

export interface CredentialOrigin {
  readonly url: string
  readonly enrolledWith: string | null
}

export const credentialOf = (answer: IdentityAnswer, privateKey: KeyObject, origin: CredentialOrigin): Credential => {
  const { certificate, chain, bundle, ...facts } = answer
  const spiffeId = parseSpiffeId(facts.spiffeId)
  return {
    spiffeId,
    trustDomain: trustDomainOf(spiffeId),
    facts,
    privateKey,
    certificatePem: ended(certificate),
    chainPem: ended(chain),
    bundlePem: ended(bundle),
    notAfter: Date.parse(facts.notAfter),
    ...origin,
  }
}

/**
 * The parts of a stored credential belong together: key, leaf and facts.
 * @throws AgentError `directory_malformed`
 */
export const checkTogether = (credential: Credential): void => {
  const broken = (reason: string, cause?: unknown): AgentError =>
    AgentError.of('directory_malformed', `the stored credential is unusable: ${reason}`, {
      hint: 'enrol again with fresh evidence: agentca enroll',
      ...(cause === undefined ? {} : { cause }),
    })
  try {
    const leaf = parseCertificate(parsePem(credential.certificatePem, 'CERTIFICATE')[0]!)
    if (!equalBytes(leaf.spkiDer, spkiOf(credential.privateKey))) throw broken('key and certificate do not match')
    if (leaf.serialHex !== credential.facts.serial || leaf.spiffeId !== credential.spiffeId)
      throw broken('identity.json tells of another certificate')
  } catch (error) {
    if (error instanceof AgentError || !isAgentCaError(error)) throw error
    throw broken(messageOf(error), error)
  }
}
