// Fronts: processes before the core that end TLS, parse HTTP and check the signatures of certification requests (architecture.md,
// Processes). What they and the core say to each other is in this file: shapes and their checks, no sockets.
//
// Every front is started by the core (supervisor.ts) and connects to its unix socket, proves by a secret from its standard input that it
// is the one that was started, and is told where to listen and with which key (start). It holds no file, no ledger, no signer, no state
// that another front needs; without the core it ends, and the core starts another when one ends.
//
// A caller's request takes one of two ways, and the front refuses nothing by itself on either:
//   calls    what a fleet asks all day (hot.ts): one frame each way over the front's one connection, batched. What does not change is
//            said once for each caller's connection: address, certificate (open). The signature of the certification request inside is
//            checked here, where there are more cores: the core believes "checked" and checks again whatever came without it.
//   streams  everything else, and whatever is not quite a hot request: a connection of its own to the core for each caller's connection
//            that needs one, begun by one frame that says who is at the other end (hello), then HTTP/1.1 both ways (streams.ts). There is
//            no header for who calls, so there is none to forge.
// The core serves both by the application that it has without fronts, so that limits, one-time tokens, lineage, request ids, audit and
// metrics are what they are without.
import { concatBytes } from '../base/bytes.ts'
import type { Frame } from '../base/frames.ts'
import type { SeenPeer } from '../http/seen-peer.ts'

export const protocolVersion = 1

/** Whether the front saw that the certification request in a body is signed by its key. */
export type Possession = 'checked' | 'unchecked'

interface SeenHeader {
  readonly source: string
  readonly resumed: boolean
  /** Of each certificate in the body: DER, leaf first. */
  readonly lengths: readonly number[]
}

export type FromFront =
  | { readonly t: 'hello'; readonly version: number; readonly secret: string; readonly for: 'calls' }
  | ({ readonly t: 'hello'; readonly version: number; readonly secret: string; readonly for: 'stream' } & SeenHeader)
  | { readonly t: 'listening'; readonly port: number }
  | { readonly t: 'failed'; readonly code: string; readonly message: string }
  | ({ readonly t: 'open'; readonly connection: number } & SeenHeader)
  | { readonly t: 'shut'; readonly connection: number }
  | {
      readonly t: 'call'
      readonly id: number
      readonly connection: number
      readonly path: string
      readonly possession: Possession
    }
  | { readonly t: 'pong'; readonly connections: number; readonly rssBytes: number }

export type FromCore =
  /** The body is StartFacts, JSON. */
  | { readonly t: 'start' }
  /** The body is Credentials, JSON. */
  | { readonly t: 'credentials' }
  | {
      readonly t: 'answer'
      readonly id: number
      readonly status: number
      /** Names and values in turns. */
      readonly headers: readonly string[]
    }
  | { readonly t: 'drain'; readonly graceMs: number }
  | { readonly t: 'ping' }

/** TLS lets a client send 100 kB of certificates. */
const maxChainBytes = 131_072
export const maxCallBytes = 65_536
/** Identities, and lists of faults. */
const maxAnswerBytes = 1_048_576
/** Key, certificates, and the names of CAs. */
const maxFactsBytes = 1_048_576

/** A path, a header's value: far below what a request may have. */
const maxText = 4_096
const maxCertificates = 16

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
const isText = (value: unknown): value is string => typeof value === 'string' && value.length <= maxText

const seenOf = ({ source, resumed, lengths }: Frame['header']): SeenHeader | null => {
  if (!isText(source) || typeof resumed !== 'boolean') return null
  if (!Array.isArray(lengths) || lengths.length > maxCertificates || !lengths.every(isCount)) return null
  return { source, resumed, lengths }
}

const helloOf = (header: Frame['header']): FromFront | null => {
  const { version, secret, for: purpose } = header
  if (version !== protocolVersion || !isText(secret)) return null
  const common = { t: 'hello', version: protocolVersion, secret } as const
  if (purpose === 'calls') return { ...common, for: 'calls' }
  const seen = purpose === 'stream' ? seenOf(header) : null
  return seen === null ? null : { ...common, for: 'stream', ...seen }
}

/** @returns null when the header is none of this protocol */
export const parseFromFront = (header: Frame['header']): FromFront | null => {
  const { t, id, connection, path, possession, port, code, message, connections, rssBytes } = header
  switch (t) {
    case 'hello':
      return helloOf(header)
    case 'call':
      if (!isCount(id) || !isCount(connection) || !isText(path)) return null
      return { t, id, connection, path, possession: possession === 'checked' ? 'checked' : 'unchecked' }
    case 'open': {
      const seen = seenOf(header)
      return !isCount(connection) || seen === null ? null : { t, connection, ...seen }
    }
    case 'shut':
      return isCount(connection) ? { t, connection } : null
    case 'listening':
      return isCount(port) ? { t, port } : null
    case 'failed':
      return isText(code) && isText(message) ? { t, code, message } : null
    case 'pong':
      return isCount(connections) && isCount(rssBytes) ? { t, connections, rssBytes } : null
    default:
      return null
  }
}

export const fromFrontLimit = ({ t }: Frame['header']): number =>
  t === 'call' ? maxCallBytes : t === 'open' || t === 'hello' ? maxChainBytes : 0

/** @returns null when the header is none of this protocol */
export const parseFromCore = (header: Frame['header']): FromCore | null => {
  const { t, id, status, headers, graceMs } = header
  switch (t) {
    case 'start':
    case 'credentials':
    case 'ping':
      return { t }
    case 'drain':
      return isCount(graceMs) ? { t, graceMs } : null
    case 'answer':
      if (!isCount(id) || !isCount(status) || !Array.isArray(headers)) return null
      return headers.every(each => typeof each === 'string') ? { t, id, status, headers } : null
    default:
      return null
  }
}

export const fromCoreLimit = ({ t }: Frame['header']): number =>
  t === 'answer' ? maxAnswerBytes : t === 'start' || t === 'credentials' ? maxFactsBytes : 0

/** A front's part of a header, and the body that goes with it. */
export const encodeSeen = ({ source, resumed, chain }: SeenPeer): { header: SeenHeader; body: Uint8Array } => ({
  header: { source, resumed, lengths: chain.map(der => der.length) },
  body: concatBytes(chain),
})

/** @returns null when the lengths are not those of the body */
export const decodeSeen = ({ source, resumed, lengths }: SeenHeader, body: Uint8Array): SeenPeer | null => {
  if (lengths.reduce((sum, length) => sum + length, 0) !== body.length) return null
  let at = 0
  // Copies: a frame's bytes lie in what was read from the socket, and a connection may live for long.
  const chain = lengths.map(length => {
    at += length
    return body.slice(at - length, at)
  })
  return { source, resumed, chain }
}
