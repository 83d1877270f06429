// The caller's certificate behind a proxy that terminates TLS (RFC 9440): `Client-Cert` and `Client-Cert-Chain`, believed only from a
// peer that came over mTLS and is named; from everybody else they are taken off before a handler sees them, whatever a server behind
// this one might take for the same name included. Who may send them is decided in verifier.ts.
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import type { Server as TlsServer } from 'node:tls'
import { fromBase64 } from '../base/bytes.ts'
import { CallRefused } from '../verify/decision.ts'
import { pairAnswer } from './answers.ts'

const certificateField = 'client-cert'
const chainField = 'client-cert-chain'

/** RFC 9440 §2.2: nobody needs more, and each is parsed. */
const maxChain = 8

const refuse = (what: string): CallRefused =>
  new CallRefused('forwarded_malformed', `expected one certificate as RFC 9440 has it, got ${what}`, {
    hint: 'the proxy must set Client-Cert itself, once, and take off whatever its own callers sent',
  })

/**
 * RFC 8941 §3.3.5, in the one form that its writers produce: canonical base64, no parameters. Fields that came twice are joined by a
 * comma, which is in no byte sequence.
 */
const byteSequence = (text: string): Uint8Array => {
  const inner = text.length > 2 && text.startsWith(':') && text.endsWith(':') ? text.slice(1, -1) : ''
  const bytes = inner === '' ? null : fromBase64(inner)
  if (bytes === null) throw refuse('something else than one byte sequence')
  return bytes
}

const single = (headers: IncomingHttpHeaders, name: string): string | null => {
  const value = headers[name]
  if (value === undefined) return null
  if (typeof value !== 'string') throw refuse(`${name} more than once`)
  return value
}

/**
 * The chain that a proxy forwards, leaf first.
 * @throws CallRefused `identity_missing` when it forwards none: its caller showed no certificate; `forwarded_malformed`
 */
export const readForwardedChain = (headers: IncomingHttpHeaders): readonly Uint8Array[] => {
  const leaf = single(headers, certificateField)
  const rest = single(headers, chainField)
  if (leaf === null) {
    if (rest !== null) throw refuse('a chain without its certificate')
    throw new CallRefused('identity_missing', 'the proxy forwards no certificate')
  }
  const chain = rest === null ? [] : rest.split(',', maxChain + 1).map(each => byteSequence(each.trim()))
  if (chain.length > maxChain) throw refuse(`a chain of more than ${maxChain}`)
  return [byteSequence(leaf.trim()), ...chain]
}

/** How a header's name reaches those who put it into an environment or an identifier: `_` and `.` for `-`, any case. */
const plainName = (name: string): string => name.toLowerCase().replace(/[_.]/g, '-')

const isForwarding = (name: string): boolean => {
  // The name of every header of every request comes by here.
  if (name.length !== certificateField.length && name.length !== chainField.length) return false
  const plain = plainName(name)
  return plain === certificateField || plain === chainField
}
const isCanonical = (name: string): boolean => {
  const lower = name.toLowerCase()
  return lower === certificateField || lower === chainField
}

const isStripped = (name: string, keepCanonical: boolean): boolean =>
  isForwarding(name) && !(keepCanonical && isCanonical(name))

type HeaderObject = { [name: string]: unknown }

const stripObject = (headers: HeaderObject, keepCanonical: boolean): void => {
  for (const name of Object.keys(headers)) if (isStripped(name, keepCanonical)) delete headers[name]
}

const hasStripped = (raw: readonly string[], keepCanonical: boolean): boolean => {
  for (let i = 0; i < raw.length; i += 2) if (isStripped(raw[i] as string, keepCanonical)) return true
  return false
}
const stripRaw = (raw: string[], keepCanonical: boolean): void => {
  for (let i = raw.length - 2; i >= 0; i -= 2) if (isStripped(raw[i] as string, keepCanonical)) raw.splice(i, 2)
}

/** Takes off what only a trusted proxy may say. @param isFromProxy asked where there is such a thing: its own canonical fields stay */
export const stripForwarded = (
  request: Pick<IncomingMessage, 'rawHeaders' | 'headers' | 'headersDistinct'>,
  isFromProxy: () => boolean,
): void => {
  if (!hasStripped(request.rawHeaders, false)) return
  const fromProxy = isFromProxy()
  // Both are made from the raw ones when they are first asked for: before those are fewer. Http2's requests have no distinct ones.
  const { headers, headersDistinct } = request
  stripObject(headers, fromProxy)
  if (headersDistinct !== undefined) stripObject(headersDistinct, fromProxy)
  stripRaw(request.rawHeaders, fromProxy)
}

/** Of requests that nobody answers by a response. */
const bareEvents: ReadonlySet<unknown> = new Set(['upgrade', 'connect'])
/** With a response beside the request. */
const answeredEvents: ReadonlySet<unknown> = new Set(['request', 'checkContinue', 'checkExpectation'])

type Emit = (event: string | symbol, ...args: unknown[]) => boolean

/**
 * Before every listener of a server, those that never ask the verifier included; and what answers a request is paired with it. Around `emit`, because a listener of our own for
 * `upgrade` or `checkContinue` would tell node:http that somebody answers them.
 */
export const stripBefore = (server: TlsServer, isProxy: (socket: IncomingMessage['socket']) => boolean): void => {
  const emit = server.emit as Emit
  const stripRequest = (request: IncomingMessage): void => stripForwarded(request, () => isProxy(request.socket))
  const stripStream = ({ session }: ServerHttp2Stream, headers: HeaderObject, raw: unknown): void => {
    const fromProxy = session !== undefined && isProxy(session.socket)
    stripObject(headers, fromProxy)
    if (Array.isArray(raw)) stripRaw(raw, fromProxy)
  }
  server.emit = ((event, ...args) => {
    // What nearly all of them are comes before everything that has to be looked up.
    if (event === 'request' || answeredEvents.has(event)) {
      stripRequest(args[0] as IncomingMessage)
      pairAnswer(args[0] as IncomingMessage, args[1] as ServerResponse)
    } else if (bareEvents.has(event)) stripRequest(args[0] as IncomingMessage)
    else if (event === 'stream') stripStream(args[0] as ServerHttp2Stream, args[1] as HeaderObject, args[3])
    return emit.call(server, event, ...args)
  }) as Emit as typeof server.emit
}
