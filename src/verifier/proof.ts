// What a chain of certificates proves: a path to one of the anchors, and who the leaf names. Chains that come with requests instead of a
// handshake are proved once and remembered by their bytes; what can change meanwhile is asked for each call, elsewhere.
import { createHash } from 'node:crypto'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import type { TrustDomain } from '../pki/spiffe.ts'
import { usualBudget } from '../verify/budget.ts'
import { CallRefused, type Peer, readPeer } from '../verify/decision.ts'
import { checkPathAt, type ValidatedPath, validatePath } from '../verify/path.ts'
import { anyPolicies } from '../verify/policies.ts'
import { usualAlgorithms } from '../verify/signatures.ts'
import type { TrustAnchor } from '../verify/trust-anchor.ts'

export interface Trust {
  readonly trustDomain: TrustDomain
  readonly anchors: readonly TrustAnchor[]
  /** Beside those that a peer sends. */
  readonly intermediates: readonly Certificate[]
}

/** True for as long as `checkPathAt` says so. */
export interface Proof {
  readonly peer: Peer
  readonly path: ValidatedPath
}

/**
 * @param chain DER, leaf first @param at milliseconds since the epoch
 * @throws CallRefused of readPeer, `identity_missing`; VerifyError; PkiError for bytes that are no certificate
 */
export const proveChain = (chain: readonly Uint8Array[], trust: Trust, at: number): Proof => {
  const [leafDer, ...rest] = chain
  if (leafDer === undefined) throw new CallRefused('identity_missing', 'the peer showed no certificate')
  const leaf = parseCertificate(leafDer)
  const path = validatePath({
    leaf,
    // Ours first: signatures that were verified are remembered by the certificate object.
    intermediates: [...trust.intermediates, ...rest.map(each => parseCertificate(each))],
    anchors: trust.anchors,
    at,
    purpose: 'clientAuth',
    algorithms: usualAlgorithms,
    policies: anyPolicies,
    names: 'any',
    // Issuers are the CA's own business: leaves are in the state, which lists them when an issuer is revoked.
    revocation: 'none',
    budget: usualBudget,
  })
  return { peer: readPeer(leaf, trust.trustDomain), path }
}

export interface Proofs {
  /** @throws as proveChain; a chain that proves nothing is not remembered */
  of(chain: readonly Uint8Array[], at: number): Proof
  /** Whom to trust has changed. */
  forget(): void
  readonly size: number
}

/** Each has a few kilobytes. */
const maxProofs = 10_000

const hashOf = (chain: readonly Uint8Array[]): string => {
  const hash = createHash('sha256')
  for (const der of chain) {
    // DER says its own length, but nobody has parsed it yet.
    hash.update(`${der.length}:`)
    hash.update(der)
  }
  return hash.digest('base64')
}

export const createProofs = (trust: () => Trust, maxEntries = maxProofs): Proofs => {
  // Owned by this closure; in the order of their last use.
  const proofs = new Map<string, Proof>()
  return {
    of: (chain, at) => {
      const key = hashOf(chain)
      const known = proofs.get(key)
      proofs.delete(key)
      if (known !== undefined) {
        checkPathAt(known.path, at)
        proofs.set(key, known)
        return known
      }
      const proof = proveChain(chain, trust(), at)
      if (proofs.size >= maxEntries) proofs.delete(proofs.keys().next().value as string)
      proofs.set(key, proof)
      return proof
    },
    forget: () => proofs.clear(),
    get size() {
      return proofs.size
    },
  }
}
