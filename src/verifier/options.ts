// What a verifier is made from, and what it means by it.
import type { AgentIdentity } from '../agent/identity.ts'
import { AgentCaError, messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { parseSpiffeId } from '../pki/spiffe.ts'
import type { PrincipalKind } from '../verify/feed-event.ts'
import type { StalenessPolicy } from '../verify/freshness.ts'
import { type ForwardedForHeader, forwardedForHeaders } from './call-source.ts'

export interface AgentVerifierOptions {
  /** The backend's own identity: what it answers with, whom it trusts, and how it hears of revocations. */
  readonly identity: AgentIdentity
  /** Once nothing vouches for the revocation state any more. */
  readonly onStale: 'refuse' | 'allow'
  /** `90s`, `5m`, `1h`: how long after the last contact the state is relied on all the same; the bound for a revoked caller. */
  readonly maxStaleness: string
  /** Who may call at all; default: agents and services. */
  readonly kinds?: readonly PrincipalKind[]
  /** Name of this replica among those of the service; default: the identity's instance. */
  readonly subscriber?: string
  /** Directory of the last good state (0700), for a start while the CA is away. Without it such a start refuses everybody. One process each. */
  readonly stateDirectory?: string
  /** Where signed states are fetched while the feed is away; default: the status listener that the backend's certificate names. */
  readonly statusUrl?: string
  /**
   * SPIFFE IDs, exact, of proxies that terminate TLS and forward their callers' certificates (RFC 9440). What such a proxy sends is
   * judged as its caller's call; what anybody else sends under these names never reaches a handler.
   */
  readonly trustedProxies?: readonly string[]
  /**
   * The one header in which trusted proxies say where their callers are, `x-forwarded-for` or `forwarded` (RFC 7239); they must write it
   * themselves, and what they append last counts. Default: none. Then it is not known, and reports say where the proxy is.
   */
  readonly forwardedFor?: ForwardedForHeader
  /** Connections are cut after so long; default `1h`. */
  readonly maxConnectionAge?: string
  /**
   * Whether policies are evaluated here with what the service says of a call: `require(action, describe)`. It needs the package
   * @cedar-policy/cedar-wasm; without it scopes are looked up.
   */
  readonly conditions?: boolean
  readonly log?: Log
  /** Whether the CA is told what was decided, in digests, so that it sees what is not usual; default `decisions`. */
  readonly report?: 'decisions' | 'nothing'
  /** Each call that was refused, with the rule. Must not throw. */
  readonly onRefused?: (refusal: { readonly rule: string; readonly peer: string | null }) => void
}

export interface VerifierSettings extends StalenessPolicy {
  readonly kinds: readonly PrincipalKind[]
  readonly maxConnectionAgeMs: number
  readonly statusUrl: string | null
  readonly trustedProxies: ReadonlySet<string>
  readonly forwardedFor: ForwardedForHeader | null
}

const unitMs: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

const durationMs = (name: string, text: string): number => {
  const match = /^([1-9][0-9]{0,6})([smhd])$/.exec(text)
  if (match !== null) return Number(match[1]) * (unitMs[match[2] as string] as number)
  throw new AgentCaError('option_invalid', `${name}: expected a duration such as 90s, 5m or 1h, got "${text}"`)
}

const httpUrl = (name: string, text: string): string => {
  if (/^https?:/.test(text) && URL.canParse(text)) return text
  throw new AgentCaError('option_invalid', `${name}: expected an http or https URL, got "${text}"`)
}

const spiffeIds = (name: string, texts: readonly string[]): ReadonlySet<string> => {
  for (const text of texts)
    try {
      parseSpiffeId(text)
    } catch (error) {
      throw new AgentCaError('option_invalid', `${name}: expected SPIFFE IDs, got "${text}": ${messageOf(error)}`)
    }
  return new Set(texts)
}

const forwardedForOf = (header: string | undefined): ForwardedForHeader | null => {
  if (header === undefined) return null
  const known = forwardedForHeaders.find(each => each === header)
  if (known !== undefined) return known
  throw new AgentCaError(
    'option_invalid',
    `forwardedFor: expected ${forwardedForHeaders.join(' or ')}, got ${String(header)}`,
  )
}

/** @throws AgentCaError `option_invalid` */
export const readVerifierOptions = (options: AgentVerifierOptions): VerifierSettings => {
  if (options.onStale !== 'refuse' && options.onStale !== 'allow')
    throw new AgentCaError('option_invalid', `onStale: expected refuse or allow, got ${String(options.onStale)}`)
  return {
    onStale: options.onStale,
    maxStalenessMs: durationMs('maxStaleness', options.maxStaleness),
    kinds: options.kinds ?? ['agent', 'service'],
    maxConnectionAgeMs: durationMs('maxConnectionAge', options.maxConnectionAge ?? '1h'),
    statusUrl: options.statusUrl === undefined ? null : httpUrl('statusUrl', options.statusUrl),
    forwardedFor: forwardedForOf(options.forwardedFor),
    trustedProxies: spiffeIds('trustedProxies', options.trustedProxies ?? []),
  }
}
