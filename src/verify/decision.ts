// The decision on one call: whether the peer of a validated path may make it now. Nothing is remembered between calls; what the chain
// proved is read once a connection, everything that can change is asked for each request.
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'
import type { Certificate } from '../pki/certificate.ts'
import { oidOf } from '../pki/oid.ts'
import { principalOf, type SpiffeId, type TrustDomain } from '../pki/spiffe.ts'
import type { PrincipalEntry, PrincipalKind } from './feed-event.ts'
import type { Freshness } from './freshness.ts'
import type { RevocationState } from './revocation-state.ts'
import { type SerialKey, serialKeyOf } from './serial-table.ts'

export type CallRefusalCode =
  /** No verified state yet. */
  | 'state_unknown'
  /** Nothing vouches for the state any more, and the backend said to refuse then. */
  | 'state_stale'
  | 'identity_missing'
  /** A proxy that may forward certificates forwarded something else, or several. */
  | 'forwarded_malformed'
  | 'trust_domain_foreign'
  | 'kind_not_accepted'
  | 'purpose_not_client'
  | 'certificate_not_yet_valid'
  | 'certificate_expired'
  | 'certificate_revoked'
  | 'certificate_held'
  | 'principal_unknown'
  | 'principal_held'
  | 'principal_retired'
  /** The certificate was made under a newer version of the registration than is known here. */
  | 'principal_outdated'
  | 'role_missing'
  | 'scope_missing'
  /** Allowed by registration and scopes; a condition on the call itself was not met. */
  | 'condition_failed'

/** `facts` and message are for the backend's log; a caller hears the code's class only (401 or 403). */
export class CallRefused extends AgentCaError<CallRefusalCode> {
  constructor(code: CallRefusalCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'CallRefused'
  }
}

/** Who a certificate names, read from its DER once a connection. */
export interface Peer {
  readonly spiffeId: SpiffeId
  readonly kind: PrincipalKind
  /** Name of the registration. */
  readonly name: string
  /** Instance id of an agent; null for services and operators. */
  readonly instance: string | null
  readonly serial: string
  readonly serialKey: SerialKey
  readonly notBefore: number
  readonly notAfter: number
  readonly scopesVersion: number | null
}

/** @throws CallRefused `identity_missing`, `trust_domain_foreign`, `purpose_not_client` */
export const readPeer = (leaf: Certificate, trustDomain: TrustDomain): Peer => {
  const { spiffeId } = leaf
  const principal = spiffeId === null ? null : principalOf(spiffeId)
  if (spiffeId === null || principal === null)
    throw new CallRefused('identity_missing', 'the certificate names no agent, service or operator')
  if (principal.trustDomain !== trustDomain)
    throw new CallRefused('trust_domain_foreign', `expected trust domain ${trustDomain}, got ${principal.trustDomain}`)
  if (!leaf.extendedKeyUsage?.includes(oidOf.clientAuth))
    throw new CallRefused('purpose_not_client', 'the certificate is not for clients (clientAuth)')
  return {
    spiffeId,
    kind: principal.kind,
    name: principal.kind === 'agent' ? principal.agent : principal.name,
    instance: principal.kind === 'agent' ? principal.instance : null,
    serial: leaf.serialHex,
    serialKey: serialKeyOf(leaf.serialHex),
    notBefore: leaf.notBefore,
    notAfter: leaf.notAfter,
    scopesVersion: leaf.scopesVersion,
  }
}

export interface CallRules {
  /** Kinds that may call at all. */
  readonly kinds: readonly PrincipalKind[]
  /** All of them are needed. */
  readonly roles: readonly string[]
  readonly scopes: readonly string[]
}

declare const verified: unique symbol

/** Only `decideCall` makes one, and it is true for the moment it was made in. */
export interface VerifiedPeer extends Peer {
  readonly [verified]: true
  readonly roles: readonly string[]
  readonly scopes: readonly string[]
  readonly attributes: Readonly<Record<string, string>>
  /** null: it has none, or the CA does not say. */
  readonly owner: string | null
  readonly profile: string | null
  /** How fresh the state was that let it in. */
  readonly freshness: Freshness
}

export interface CallToDecide {
  readonly peer: Peer
  readonly state: Pick<RevocationState, 'status' | 'principal'>
  readonly freshness: Freshness
  /** Milliseconds since the epoch. */
  readonly now: number
  readonly rules: CallRules
}

const checkFreshness = (freshness: Freshness): void => {
  if (freshness.trusted) return
  if (freshness.rung === 'unknown')
    throw new CallRefused('state_unknown', 'there is no verified revocation state yet', {
      hint: 'is the CA reachable, or was there a state on disk?',
    })
  throw new CallRefused('state_stale', `nothing has confirmed the revocation state for ${freshness.ageMs} ms`, {
    facts: { ageMs: freshness.ageMs },
  })
}

/** RFC 5280 §4.1.2.5: both ends included, in whole seconds. */
const checkValidity = ({ notBefore, notAfter, serial }: Peer, now: number): void => {
  if (now < notBefore) throw new CallRefused('certificate_not_yet_valid', `certificate ${serial} is not valid yet`)
  if (now >= notAfter + 1000)
    throw new CallRefused('certificate_expired', `certificate ${serial} has expired`, { facts: { notAfter } })
}

const checkPrincipal = ({ kind, name, scopesVersion }: Peer, entry: PrincipalEntry | null): PrincipalEntry => {
  if (entry === null) throw new CallRefused('principal_unknown', `${kind} ${name} is not known here`)
  if (entry.state === 'held') throw new CallRefused('principal_held', `${kind} ${name} is held`)
  if (entry.state !== 'active') throw new CallRefused('principal_retired', `${kind} ${name} is retired`)
  if (scopesVersion !== null && entry.version < scopesVersion)
    throw new CallRefused(
      'principal_outdated',
      `${kind} ${name} is known in version ${entry.version}, the certificate says ${scopesVersion}`,
    )
  return entry
}

const missing = (wanted: readonly string[], has: readonly string[]): string | undefined =>
  wanted.find(each => !has.includes(each))

/** What a call asks of a peer that may call at all. @throws CallRefused `role_missing`, `scope_missing` */
export const checkDemand = (peer: VerifiedPeer, wanted: Pick<CallRules, 'roles' | 'scopes'>): void => {
  const { kind, name } = peer
  const role = missing(wanted.roles, peer.roles)
  if (role !== undefined) throw new CallRefused('role_missing', `${kind} ${name} has no role ${role}`)
  const scope = missing(wanted.scopes, peer.scopes)
  if (scope !== undefined) throw new CallRefused('scope_missing', `${kind} ${name} has no scope ${scope}`)
}

/**
 * @returns the peer with what it may do
 * @throws CallRefused naming the rule; of several, who may not call at all comes before what a caller lacks
 */
export const decideCall = ({ peer, state, freshness, now, rules }: CallToDecide): VerifiedPeer => {
  checkValidity(peer, now)
  // Before freshness: what is known to be revoked is refused for that reason, however old the knowledge.
  const status = state.status(peer.serialKey)
  if (status === 'revoked') throw new CallRefused('certificate_revoked', `certificate ${peer.serial} is revoked`)
  if (status === 'held') throw new CallRefused('certificate_held', `certificate ${peer.serial} is on hold`)
  checkFreshness(freshness)
  if (!rules.kinds.includes(peer.kind))
    throw new CallRefused('kind_not_accepted', `expected ${rules.kinds.join(' or ')}, got ${peer.kind} ${peer.name}`)
  const entry = checkPrincipal(peer, state.principal(peer.kind, peer.name))
  const { roles, scopes, attributes, owner = null, profile = null } = entry
  const verified = { ...peer, roles, scopes, attributes, owner, profile, freshness } as VerifiedPeer
  checkDemand(verified, rules)
  return verified
}
