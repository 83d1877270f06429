// Whether the other end of a TLS connection is the peer that a call names: a path of our own validation to this identity's roots, and
// exactly that SPIFFE ID. OpenSSL's verdict over the same roots comes first and is not enough: it knows nothing of SPIFFE IDs, and what
// it leaves out of RFC 5280 must not decide who gets our requests.
import type { PeerCertificate } from 'node:tls'
import { isAgentCaError, messageOf } from '../base/errors.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { parsePem } from '../pki/pem.ts'
import { parseSpiffeId, type SpiffeId } from '../pki/spiffe.ts'
import { usualBudget } from '../verify/budget.ts'
import { validatePath } from '../verify/path.ts'
import { anyPolicies } from '../verify/policies.ts'
import { usualAlgorithms } from '../verify/signatures.ts'
import { anchorOf, type TrustAnchor } from '../verify/trust-anchor.ts'
import { type Credential, type TlsMaterial, tlsMaterialOf } from './credential.ts'
import { AgentError } from './errors.ts'
import type { CheckServerIdentity } from './server-identity.ts'

/** @throws AgentError `option_missing`, `option_invalid` */
export const parsePeer = (peer: unknown): SpiffeId => {
  try {
    if (typeof peer === 'string') return parseSpiffeId(peer)
  } catch (error) {
    if (!isAgentCaError(error)) throw error
    throw AgentError.of('option_invalid', `peer: ${error.message}`, { cause: error })
  }
  throw AgentError.of('option_missing', 'a call needs the SPIFFE ID of its peer', {
    hint: "name it, for example { peer: 'spiffe://TRUST-DOMAIN/service/NAME' }",
  })
}

/** Longer than any path that the budget lets through. */
const maxShown = 10

/** Leaf first, then what Node found above it, each once: the last one is its own issuer. */
const shownBy = (certificate: PeerCertificate): readonly Certificate[] => {
  const shown: Buffer[] = []
  let at: { readonly raw?: Buffer; readonly issuerCertificate?: unknown } | undefined = certificate
  while (at?.raw !== undefined && shown.length < maxShown && !shown.some(each => at?.raw?.equals(each))) {
    shown.push(at.raw)
    at = at.issuerCertificate as typeof at
  }
  return shown.map(each => parseCertificate(new Uint8Array(each)))
}

export interface PeerTrust {
  readonly anchors: readonly TrustAnchor[]
  /** Beside those that a peer sends. */
  readonly intermediates: readonly Certificate[]
}

const peerTrustOf = ({ bundlePem, chainPem }: Credential): PeerTrust => ({
  anchors: parsePem(bundlePem, 'CERTIFICATE').map(der => anchorOf(parseCertificate(der), 'constraints')),
  intermediates: chainPem === '' ? [] : parsePem(chainPem, 'CERTIFICATE').map(der => parseCertificate(der)),
})

const refused = (message: string, cause?: unknown, facts = {}): AgentError =>
  AgentError.of('peer_not_verified', message, {
    hint: 'check the address, or the peer that the call names',
    facts,
    ...(cause === undefined ? {} : { cause }),
  })

const checkPeer = (shown: readonly Certificate[], peer: SpiffeId, trust: PeerTrust, at: number): void => {
  const [leaf, ...rest] = shown
  if (leaf === undefined) throw refused(`expected ${peer}, got no certificate`)
  if (leaf.spiffeId !== peer)
    throw refused(`expected ${peer}, got ${leaf.spiffeId ?? 'a certificate without a SPIFFE ID'}`, undefined, {
      expected: peer,
      found: leaf.spiffeId,
    })
  validatePath({
    leaf,
    // Ours first: signatures that were verified are remembered by the certificate object.
    intermediates: [...trust.intermediates, ...rest],
    anchors: trust.anchors,
    at,
    purpose: 'serverAuth',
    algorithms: usualAlgorithms,
    policies: anyPolicies,
    names: 'any',
    // Services are short-lived; what a client hears of revocation comes with its own renewal of the trust bundle.
    revocation: 'none',
    budget: usualBudget,
  })
}

/** `tls.connect` wants errors returned, and calls this only after OpenSSL has verified the chain and the peer has proved its key. */
const checkIsVerifiedPeer =
  (peer: SpiffeId, trust: PeerTrust, now: () => number): CheckServerIdentity =>
  (_host, certificate) => {
    try {
      checkPeer(shownBy(certificate), peer, trust, now())
      return undefined
    } catch (error) {
      return error instanceof AgentError ? error : refused(`${peer} is not verified: ${messageOf(error)}`, error)
    }
  }

/** What `tls.connect` takes for one connection under one generation. */
export interface PeerTlsOptions extends TlsMaterial {
  readonly minVersion: 'TLSv1.3'
  readonly rejectUnauthorized: true
  readonly checkServerIdentity: CheckServerIdentity
}

/** Generations share their roots: those are read, and the signatures between them verified, once for all that have the same. */
export const createTrustMemory = (): ((credential: Credential) => PeerTrust) => {
  let known: { readonly of: string; readonly trust: PeerTrust } | null = null
  return credential => {
    const of = credential.bundlePem + credential.chainPem
    if (known?.of !== of) known = { of, trust: peerTrustOf(credential) }
    return known.trust
  }
}

/** Made once a generation: encoding the key costs more than a call. */
export const createPeerTls = (
  credential: Credential,
  trust: PeerTrust,
  now: () => number,
): ((peer: SpiffeId) => PeerTlsOptions) => {
  const material = tlsMaterialOf(credential)
  return peer => ({
    ...material,
    minVersion: 'TLSv1.3',
    rejectUnauthorized: true,
    checkServerIdentity: checkIsVerifiedPeer(peer, trust, now),
  })
}
