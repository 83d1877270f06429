// One request of a proxy, or of an agent, from its headers to an assertion or a refusal. Everything is judged for each request: where the
// certificate and the call are read is configuration, what they mean is the verifier's.
import { isAgentCaError, messageOf } from '../../base/errors.ts'
import type { Log } from '../../base/log.ts'
import { CallRefused, type VerifiedPeer } from '../../verify/decision.ts'
import { VerifyError } from '../../verify/errors.ts'
import type { PrincipalKind } from '../../verify/feed-event.ts'
import { type CallSource, type ForwardedForHeader, forwardedSource } from '../call-source.ts'
import type { Demand } from '../judgement.ts'
import { type RefusalAnswer, refusalAnswer, ruleOf } from '../problem.ts'
import type { AgentVerifier } from '../verifier.ts'
import type { Assert } from './assertion.ts'
import { type CallTarget, parseCallTarget } from './call-target.ts'
import { type CertificateFormat, readCertificateHeader } from './certificate-header.ts'
import { RequestRefused } from './errors.ts'
import type { Issuers } from './issuers.ts'
import { checkNoOverride, isSpelling, oneHeader, type RawHeaders } from './request-headers.ts'
import { type Otherwise, type Requirement, scopesDemanded } from './requirements.ts'

/** Where a proxy says who calls and what. */
export interface ForwardedBy {
  readonly format: CertificateFormat
  readonly certificateHeader: string
  /** null: in the request line itself. */
  readonly callHeaders: { readonly method: string; readonly uri: string } | null
  /** Where the caller is; null: the proxy does not say. */
  readonly forwardedFor: ForwardedForHeader | null
}

/** A request as it came. */
export interface Asked {
  readonly method: string
  readonly url: string
  readonly rawHeaders: RawHeaders
  /** Of the proxy; undefined: it came over a socket in the file system. */
  readonly remoteAddress?: string | undefined
}

export interface DecideDeps {
  readonly verifier: Pick<AgentVerifier, 'verifyChain'>
  readonly assert: Assert
  readonly assertionHeader: string
  readonly kinds: readonly PrincipalKind[]
  readonly requirements: () => readonly Requirement[]
  /** Calls that no rule is for. */
  readonly otherwise: Otherwise
  /** DER, beside those of the sidecar's own chain. */
  readonly intermediates: () => readonly Uint8Array[]
  readonly issuers: Issuers
  readonly now: () => number
}

export interface Allowed {
  readonly peer: VerifiedPeer
  readonly target: CallTarget
  readonly assertion: string
}

const checkNoAssertion = (headers: RawHeaders, name: string): void => {
  for (let at = 0; at < headers.length; at += 2)
    if (isSpelling(headers[at] as string, name.toLowerCase()))
      throw new RequestRefused('assertion_present', `the request came with ${name}`, {
        hint: 'whoever sent it wanted to be somebody else, or the proxy lets through what clients send',
      })
}

const forwardedTarget = ({ method, url, rawHeaders }: Asked, { callHeaders }: ForwardedBy): CallTarget => {
  if (callHeaders === null) return parseCallTarget(method, url)
  const [wanted, uri] = [oneHeader(rawHeaders, callHeaders.method), oneHeader(rawHeaders, callHeaders.uri)]
  if (wanted === null || uri === null)
    throw new RequestRefused('call_missing', `expected ${callHeaders.method} and ${callHeaders.uri}`)
  return parseCallTarget(wanted, uri)
}

/** What is asked about, for the log; unchecked. */
export const askedAbout = (asked: Asked, { callHeaders }: ForwardedBy): Pick<Asked, 'method' | 'url'> => {
  if (callHeaders === null) return asked
  const first = (name: string): string | undefined => {
    const at = asked.rawHeaders.findIndex((each, i) => i % 2 === 0 && each.toLowerCase() === name.toLowerCase())
    return at < 0 ? undefined : asked.rawHeaders[at + 1]
  }
  return { method: first(callHeaders.method) ?? '', url: first(callHeaders.uri) ?? '' }
}

/** All fields of the name, in their order. */
const fromOf = ({ rawHeaders, remoteAddress }: Asked, { forwardedFor }: ForwardedBy): CallSource => {
  const fields = rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]!.toLowerCase() === forwardedFor)
  const headers = forwardedFor === null || fields.length === 0 ? {} : { [forwardedFor]: fields.join(',') }
  return forwardedSource(forwardedFor, headers, remoteAddress)
}

/** RFC 9440 §2.3; other proxies have no such header, and what comes under its name is nobody's. */
const chainHeader = 'Client-Cert-Chain'

const forwardedChain = ({ rawHeaders }: Asked, { format, certificateHeader }: ForwardedBy): readonly Uint8Array[] => {
  const value = oneHeader(rawHeaders, certificateHeader)
  if (value === null) throw new CallRefused('identity_missing', `no certificate in ${certificateHeader}`)
  return readCertificateHeader(format, value, format === 'rfc9440' ? oneHeader(rawHeaders, chainHeader) : null)
}

/** After a rotation the issuer may be one that nobody has met here. */
const judgeOnceMore = async (judge: () => VerifiedPeer, learn: () => Promise<boolean>): Promise<VerifiedPeer> => {
  try {
    return judge()
  } catch (error) {
    if (!(error instanceof VerifyError) || error.code !== 'issuer_unknown' || !(await learn())) throw error
    return judge()
  }
}

export interface DemandedCall {
  /** null: refused, as the demand says. */
  readonly target: CallTarget | null
  readonly demand: Demand
}

/** A refusal is part of the demand: the verifier refuses then, whoever calls, and reports who it was. @param read what is called */
export const demandOf = (
  { requirements, otherwise, kinds }: Pick<DecideDeps, 'requirements' | 'otherwise' | 'kinds'>,
  read: () => CallTarget,
): DemandedCall => {
  try {
    const target = read()
    return { target, demand: { kinds, scopes: scopesDemanded(requirements(), otherwise, target) } }
  } catch (error) {
    if (!isAgentCaError(error)) throw error
    return { target: null, demand: { refused: error } }
  }
}

/** @throws what the demand says is refused */
export const assertionFor = async (
  { assert, now }: Pick<DecideDeps, 'assert' | 'now'>,
  peer: VerifiedPeer,
  { target, demand }: DemandedCall,
): Promise<Allowed> => {
  if (target === null) throw demand.refused
  return { peer, target, assertion: await assert(peer, target, now()) }
}

/**
 * A request that a proxy asks about.
 * @throws RequestRefused, CallRefused, VerifyError, PkiError: the rule that was broken
 */
export const decideForwarded = async (deps: DecideDeps, by: ForwardedBy, asked: Asked): Promise<Allowed> => {
  const { method: methodHeader = '', uri: uriHeader = '' } = by.callHeaders ?? {}
  // Owned by this call: what can be read of it is of use in the report of a refusal too.
  let chain: readonly Uint8Array[] = []
  let unread: unknown = null
  try {
    chain = forwardedChain(asked, by)
  } catch (error) {
    unread = error
  }
  const call = demandOf(deps, () => {
    checkNoAssertion(asked.rawHeaders, deps.assertionHeader)
    const target = forwardedTarget(asked, by)
    checkNoOverride(asked.rawHeaders, [methodHeader.toLowerCase(), uriHeader.toLowerCase()])
    if (unread !== null) throw unread
    return target
  })
  const { method, url } = askedAbout(asked, by)
  // No leaf, no path: an issuer must not be taken for one.
  const path = (): readonly Uint8Array[] =>
    chain.length === 0 ? [] : [...chain, ...deps.intermediates(), ...deps.issuers.known()]
  const judge = (): VerifiedPeer =>
    deps.verifier.verifyChain(path(), call.demand, { method, url, from: fromOf(asked, by) })
  const peer = await judgeOnceMore(judge, () => deps.issuers.learn(chain[0] as Uint8Array))
  return assertionFor(deps, peer, call)
}

/** What the caller hears; it says nothing about why. Authentication that failed is 401, whatever else 403. */
export const answerOfRefusal = (error: unknown): RefusalAnswer =>
  refusalAnswer(
    error instanceof RequestRefused && error.code !== 'certificate_header_malformed'
      ? new CallRefused('scope_missing', error.message)
      : error,
  )

/** Strangers decide how often this is called: beyond a few a second only their number is told. */
const toldEachSecond = 20

export type TellRefusal = (error: unknown, asked: Pick<Asked, 'method' | 'url'>) => void

export const createTellRefusal = (log: Log, monotonic: () => number): TellRefusal => {
  let second = 0
  let told = 0
  let untold = 0
  return (error, { method, url }) => {
    const now = Math.floor(monotonic() / 1000)
    if (now !== second) {
      if (untold > 0) log.info({ refusals: untold }, 'more refusals')
      second = now
      told = 0
      untold = 0
    }
    if (told++ >= toldEachSecond) {
      untold++
      return
    }
    const rule = ruleOf(error)
    const fields = { rule, reason: messageOf(error), method: method.slice(0, 20), uri: url.slice(0, 200) }
    if (rule === 'internal') log.error(fields, 'a request could not be judged')
    else log.info(fields, 'refused')
  }
}
