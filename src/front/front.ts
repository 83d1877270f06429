// One front: a TLS server whose requests go to the core, the hot ones as calls and all others as streams. What the core tells it, it
// does: listen, swap the key, end in good order.
import { randomBytes } from 'node:crypto'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { networkOf } from '../audit/sampler.ts'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { HttpError } from '../http/errors.ts'
import type { LimitRates } from '../http/limits.ts'
import { problemOf, retryAfterSeconds } from '../http/problem.ts'
import { type SeenPeer, shownCertificates, shownLeaf, sourceOf } from '../http/seen-peer.ts'
import { type Credentials, createTlsServer, type TlsServer } from '../http/tls-server.ts'
import { type Answer, type CoreChannel, type CorePlace, openCoreChannel } from './core-channel.ts'
import { createPossessionCheck, enrolPath, isHot, readBody } from './hot.ts'
import type { FromCore } from './protocol.ts'
import { createStream, type Stream } from './streams.ts'

/** What a front is told when it starts. */
export interface StartFacts {
  readonly address: { readonly host: string; readonly port: number; readonly reusePort: boolean }
  readonly credentials: Credentials
  readonly maxConnections: number
  readonly rates: LimitRates
}

export interface FrontDeps {
  readonly place: CorePlace
  readonly clock: Clock
  readonly log: Log
  /** Called once: nothing is left to do. */
  readonly onEnd: (reason: string, orderly: boolean) => void
}

/** What a front knows of one connection of a caller; made with its first request. */
interface Known {
  readonly source: string
  /** Whom the limit on signature checks counts. */
  readonly counted: string | object
  readonly leaf: Uint8Array | null
  readonly resumed: boolean
  /** As the channel knows it: with the leaf alone, or with all that was shown. */
  opened: { readonly number: number; readonly whole: boolean } | null
  stream: Stream | null
}

const sendUnavailable = (response: ServerResponse): void => {
  const requestId = randomBytes(16).toString('hex')
  const problem = problemOf(new HttpError('overloaded', 'the service cannot take this request now'), requestId)
  response.setHeader('X-Request-Id', requestId)
  response.setHeader('Content-Type', 'application/problem+json')
  response.setHeader('Cache-Control', 'no-store')
  response.setHeader('Retry-After', retryAfterSeconds(problem, Math.random) ?? 1)
  response.statusCode = problem.status
  response.end(JSON.stringify(problem))
}

const send = (response: ServerResponse, { status, headers, body }: Answer): void => {
  response.statusCode = status
  for (let i = 0; i < headers.length; i += 2) response.setHeader(headers[i]!, headers[i + 1]!)
  // As text it goes out in one piece with the head; as bytes it would be a write, and a TLS record, of its own.
  response.end(Buffer.from(body.buffer, body.byteOffset, body.length).toString('utf8'))
}

const createHandler = (channel: CoreChannel, { place, clock }: FrontDeps, rates: LimitRates): RequestListener => {
  const check = createPossessionCheck(clock, rates)
  // Dies with its socket.
  const connections = new WeakMap<Socket, Known>()

  const knownOf = (socket: Socket): Known => {
    const found = connections.get(socket)
    if (found !== undefined) return found
    const leaf = shownLeaf(socket)
    const source = sourceOf(socket)
    const resumed = socket instanceof TLSSocket && socket.isSessionReused()
    const counted = leaf === null ? networkOf(source) : socket
    const known: Known = { source, counted, leaf, resumed, opened: null, stream: null }
    connections.set(socket, known)
    socket.once('close', () => {
      if (known.opened !== null) channel.shut(known.opened.number)
      known.stream?.close()
    })
    return known
  }

  const seenOf = ({ source, resumed, leaf }: Known, socket: Socket, whole: boolean): SeenPeer => {
    if (leaf === null) return { source, resumed, chain: [] }
    return { source, resumed, chain: whole ? shownCertificates(socket as TLSSocket) : [leaf] }
  }

  /** Only evidence is ever more than the leaf. */
  const openedFor = (known: Known, socket: Socket, path: string): number => {
    const whole = known.leaf !== null && path === enrolPath
    if (known.opened !== null && (known.opened.whole || !whole)) return known.opened.number
    if (known.opened !== null) channel.shut(known.opened.number)
    known.opened = { number: channel.open(seenOf(known, socket, whole)), whole }
    return known.opened.number
  }

  const pass = (request: IncomingMessage, response: ServerResponse, begun: readonly Buffer[]): void => {
    const { socket } = request
    const known = knownOf(socket)
    known.stream ??= createStream(place, seenOf(known, socket, true))
    known.stream.pass(request, response, begun, () => sendUnavailable(response))
  }

  const call = (request: IncomingMessage, response: ServerResponse, body: Buffer): void => {
    const { socket, url: path = '' } = request
    const known = knownOf(socket)
    const connection = openedFor(known, socket, path)
    const asked = channel.call({ connection, path, possession: check(body, known.counted), body }, answer => {
      if (!response.destroyed) send(response, answer)
    })
    if (!asked) sendUnavailable(response)
  }

  return (request, response) => {
    if (!isHot(request)) return pass(request, response, [])
    readBody(request, (chunks, isWhole) => {
      if (!isWhole) return pass(request, response, chunks)
      call(request, response, chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks))
    })
  }
}

export interface Front {
  /** Takes no new connections, answers what it has taken, then ends. */
  drain(graceMs: number): void
}

export const startFront = (deps: FrontDeps): Front => {
  const { log, onEnd } = deps
  // As soon as it is made: a key may be told before it listens.
  let server: TlsServer | null = null
  let listens = false
  let draining = false

  const drain = (graceMs: number): void => {
    if (draining) return
    draining = true
    void (listens && server !== null ? server.close(graceMs) : Promise.resolve()).then(() => {
      channel.end()
      onEnd('drained', true)
    })
  }

  const start = async ({ address, credentials, maxConnections, rates }: StartFacts): Promise<void> => {
    try {
      server = createTlsServer({ credentials, handler: createHandler(channel, deps, rates), maxConnections })
      const port = await server.listen(address)
      listens = true
      channel.tell({ t: 'listening', port })
      log.info({ host: address.host, port }, 'the front listens')
    } catch (error) {
      const { code = 'unknown', message } = error as NodeJS.ErrnoException
      channel.tell({ t: 'failed', code, message })
    }
  }

  const setCredentials = (credentials: Credentials): void => {
    try {
      server?.setCredentials(credentials)
    } catch (error) {
      log.error({ reason: messageOf(error) }, 'the key that the core told does not fit: the one before stays')
    }
  }

  const onMessage = (message: FromCore, body: Uint8Array): void => {
    const facts = (): unknown => JSON.parse(Buffer.from(body).toString('utf8'))
    if (message.t === 'start') void start(facts() as StartFacts)
    else if (message.t === 'credentials') setCredentials(facts() as Credentials)
    else if (message.t === 'drain') drain(message.graceMs)
    else if (message.t === 'ping')
      channel.tell({ t: 'pong', connections: server?.connections() ?? 0, rssBytes: process.memoryUsage.rss() })
  }

  const channel = openCoreChannel(deps.place, {
    onMessage,
    onEnd: reason => {
      if (!draining) onEnd(reason, false)
    },
  })
  return { drain }
}
