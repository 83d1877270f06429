// `verifyPeer(chain, state, call)`: the whole decision on one call as a pure function, for whatever has a certificate chain and a state. Nothing
// is remembered and nothing is looked up elsewhere: chain, anchors, state, freshness and time are arguments.
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { parsePem } from '../pki/pem.ts'
import { parseTrustDomain, type TrustDomain } from '../pki/spiffe.ts'
import { usualBudget } from './budget.ts'
import { CallRefused, type CallRules, decideCall, type Peer, readPeer, type VerifiedPeer } from './decision.ts'
import type { Freshness } from './freshness.ts'
import { type ValidatedPath, validatePath } from './path.ts'
import { anyPolicies } from './policies.ts'
import type { RevocationState } from './revocation-state.ts'
import { usualAlgorithms } from './signatures.ts'
import { anchorOf, type TrustAnchor } from './trust-anchor.ts'

export interface Trust {
  readonly trustDomain: TrustDomain
  readonly anchors: readonly TrustAnchor[]
  /** Beside those that a peer sends. */
  readonly intermediates: readonly Certificate[]
}

/**
 * @param bundlePem the roots @param chainPem issuers that peers may leave out
 * @throws PkiError for what cannot be read
 */
export const trustIn = (trustDomain: string, bundlePem: string, chainPem = ''): Trust => ({
  trustDomain: parseTrustDomain(trustDomain),
  anchors: parsePem(bundlePem, 'CERTIFICATE').map(der => anchorOf(parseCertificate(der), 'constraints')),
  intermediates: chainPem === '' ? [] : parsePem(chainPem, 'CERTIFICATE').map(der => parseCertificate(der)),
})

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

export interface PeerState {
  readonly trust: Trust
  readonly revocation: Pick<RevocationState, 'status' | 'principal'>
  readonly freshness: Freshness
}

export interface PeerCall {
  /** Milliseconds since the epoch. */
  readonly now: number
  readonly rules: CallRules
}

/**
 * Whether the holder of a chain may make a call now. That it holds the key is for whoever has the chain to know: by a TLS handshake, or by
 * a proxy that is trusted.
 * @param chain DER, leaf first
 * @throws CallRefused, VerifyError: the rule that was broken; PkiError for bytes that are no certificate
 */
export const verifyPeer = (chain: readonly Uint8Array[], state: PeerState, { now, rules }: PeerCall): VerifiedPeer =>
  decideCall({
    peer: proveChain(chain, state.trust, now).peer,
    state: state.revocation,
    freshness: state.freshness,
    now,
    rules,
  })
