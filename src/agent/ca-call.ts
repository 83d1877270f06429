// One call to the CA over a connection of its own: TLS 1.3, trust anchors given, no resumption, nothing sent before the server is
// known. Renewals are half a life apart, so there is nothing worth keeping open. What comes back is JSON, or an AgentError.
import { Client } from 'undici'
import { type ErrorFacts, messageOf } from '../base/errors.ts'
import { type SpiffeId, trustDomainOf } from '../pki/spiffe.ts'
import { AgentError } from './errors.ts'
import { type CheckServerIdentity, checkIsCa } from './server-identity.ts'

/** A hundred roots are about 100 KiB. */
const maxAnswerBytes = 1_048_576
/** Longer than the CA waits for its HSM, so that its answer, not our impatience, ends the call. */
const callDeadlineMs = 20_000

export interface CaTarget {
  /** As configured: `https://host:port`, perhaps with a path in front of the API's. */
  readonly url: string
  /** PEM of the only trust anchors. */
  readonly roots: string
  /** null before the first enrolment. */
  readonly trustDomain: string | null
  /** The certificate to show; null where evidence or a proof stands in for it. */
  readonly client: { readonly key: string; readonly cert: string } | null
}

export interface CaAnswer {
  readonly value: unknown
  /** The trust domain that the CA's own certificate named. */
  readonly trustDomain: string | null
}

/** @throws AgentError `option_invalid` */
export const endpointOf = (url: string, path: string): URL => {
  const base = URL.canParse(url) ? new URL(url) : null
  if (base === null || base.protocol !== 'https:' || base.search !== '' || base.hash !== '' || base.username !== '')
    throw AgentError.of('option_invalid', `the URL of the CA must be https://HOST[:PORT], got ${url}`, {
      hint: 'give the URL that agentca serve prints as "api"',
    })
  return new URL(base.pathname.replace(/\/+$/, '') + path, base)
}

/**
 * The CA knows itself by its public URL; an agent may reach it by another name, through a tunnel or inside a cluster. The name comes
 * over a connection that was verified to end at the CA, and a proof is of use for this one request only.
 * @returns the audience that a refused proof should have had, for this path of the API; null: it was refused for something else
 */
export const namedAudience = (error: unknown, path: string): string | null => {
  if (!(error instanceof AgentError) || error.code !== 'jws_wrong_audience') return null
  const { audience } = error.facts
  if (typeof audience !== 'string' || !/^https:\/\/[!-~]+$/.test(audience)) return null
  return audience.endsWith(path) && (path !== '' || !/^https:\/\/[^/]*\//.test(audience)) ? audience : null
}

const networkCode = /^(E[A-Z0-9]+|EAI_[A-Z]+|UND_ERR_[A-Z_]+)$/

/** The innermost error that has a code: Node and undici wrap. */
const causeOf = (error: unknown): { readonly code: string; readonly message: string } => {
  let found = { code: '', message: messageOf(error) }
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    const first: unknown = at instanceof AggregateError ? (at.errors[0] ?? at) : at
    const code = (first as NodeJS.ErrnoException).code
    if (typeof code === 'string') found = { code, message: messageOf(first) }
  }
  return found
}

const clockFaults: ReadonlySet<string> = new Set(['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID'])

const failed = (origin: string, error: unknown): AgentError => {
  if (error instanceof AgentError) return error
  const name = error instanceof Error ? error.name : ''
  const { code, message } = causeOf(error)
  // EPROTO is OpenSSL's own complaint: whoever answers does not speak TLS 1.3 as a CA does.
  if (name === 'TimeoutError' || (networkCode.test(code) && code !== 'EPROTO'))
    return AgentError.of('ca_unreachable', `no answer from ${origin}: ${message}`, {
      hint: 'is the CA running, and is the URL right? Asking again is safe',
      facts: { reason: code === '' ? name : code },
      cause: error,
    })
  return AgentError.of('ca_not_verified', `${origin} did not prove to be the CA: ${message}`, {
    hint: clockFaults.has(code)
      ? "check this machine's clock, then the CA's own certificate (agentca doctor)"
      : 'check the URL and the trust anchors (--ca-file, --ca-fingerprint): agentca bundle show',
    facts: { reason: code },
    cause: error,
  })
}

const readLimited = async (body: AsyncIterable<Uint8Array>): Promise<string> => {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let [text, size] = ['', 0]
  for await (const part of body) {
    size += part.length
    if (size > maxAnswerBytes) throw AgentError.of('answer_malformed', `an answer of more than ${maxAnswerBytes} bytes`)
    text += decoder.decode(part, { stream: true })
  }
  return text + decoder.decode()
}

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Plain values only: what an error carries goes into logs. */
const factsOf = (facts: unknown): ErrorFacts => {
  if (typeof facts !== 'object' || facts === null) return {}
  const plain = Object.entries(facts).filter(([, value]) => ['string', 'number', 'boolean'].includes(typeof value))
  return Object.fromEntries(plain) as ErrorFacts
}

/** The CA's problem document (RFC 9457), or what a proxy in between said. */
export const refusalOf = (status: number, text: string, retryAfter: string | undefined): AgentError => {
  const problem = parseJson(text) as Readonly<Record<string, unknown>> | undefined
  const member = (name: string): string | undefined => {
    const value = problem?.[name]
    return typeof value === 'string' && value.length <= 2000 ? value : undefined
  }
  const seconds = retryAfter !== undefined && /^\d{1,6}$/.test(retryAfter) ? Number(retryAfter) : undefined
  const [code, hint, requestId] = [member('code'), member('hint'), member('requestId')]
  const options = {
    status,
    facts: factsOf(problem?.facts),
    ...(hint === undefined ? {} : { hint }),
    ...(requestId === undefined ? {} : { requestId }),
    ...(seconds === undefined ? {} : { retryAfterSeconds: seconds }),
  }
  if (code === undefined)
    return AgentError.of('answer_malformed', `status ${status} without a problem document: is this the CA?`, options)
  return AgentError.fromCa(code, member('detail') ?? member('title') ?? code, options)
}

export interface CaRequest {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly body?: unknown
  readonly signal: AbortSignal
}

const roundTrip = async (
  target: Pick<CaTarget, 'url' | 'client'>,
  request: CaRequest,
  verification:
    | { readonly ca: string; readonly rejectUnauthorized: true; readonly checkServerIdentity: CheckServerIdentity }
    | { readonly rejectUnauthorized: false },
): Promise<string> => {
  const url = endpointOf(target.url, request.path)
  const client = new Client(url.origin, {
    allowH2: false,
    connect: { minVersion: 'TLSv1.3', maxCachedSessions: 0, ...verification, ...target.client },
  })
  try {
    const { statusCode, headers, body } = await client.request({
      method: request.method,
      path: url.pathname,
      headers: {
        accept: 'application/json, application/problem+json',
        ...(request.body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      body: request.body === undefined ? null : JSON.stringify(request.body),
      signal: AbortSignal.any([AbortSignal.timeout(callDeadlineMs), request.signal]),
    })
    const text = await readLimited(body)
    const retryAfter = headers['retry-after']
    if (statusCode >= 300) throw refusalOf(statusCode, text, typeof retryAfter === 'string' ? retryAfter : undefined)
    return text
  } catch (error) {
    request.signal.throwIfAborted()
    throw failed(url.origin, error)
  } finally {
    await client.destroy()
  }
}

/**
 * @throws the signal's reason when aborted
 * @throws AgentError `ca_unreachable` (ask again), `ca_not_verified` (nothing was sent), `answer_malformed`, or the CA's own code
 */
export const callCa = async (target: CaTarget, request: CaRequest): Promise<CaAnswer> => {
  let ca: SpiffeId | null = null
  const checkServerIdentity = checkIsCa(target.trustDomain, id => {
    ca = id
  })
  const text = await roundTrip(target, request, { ca: target.roots, rejectUnauthorized: true, checkServerIdentity })
  const value = parseJson(text)
  if (value === undefined) throw AgentError.of('answer_malformed', 'the CA answered with something that is not JSON')
  return { value, trustDomain: ca === null ? null : trustDomainOf(ca) }
}

/**
 * The roots that whoever answers at this URL claims. Carries no secret and believes nothing: the caller compares with what it knows.
 * @returns PEM, as yet worthless
 */
export const fetchClaimedRoots = (url: string, signal: AbortSignal): Promise<string> =>
  roundTrip({ url, client: null }, { method: 'GET', path: '/v1/bundle', signal }, { rejectUnauthorized: false })
