// Requests that are no hot ones, passed on as HTTP/1.1 both ways over a connection to the core that belongs to one connection of a
// caller, and ends with it: a stream stays open, and whoever hangs up, here or there, is hung up on.
import {
  Agent,
  type ClientRequestArgs,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http'
import type { Duplex } from 'node:stream'
import { encodeFrame } from '../base/frames.ts'
import { maxDiscardedBytes } from '../http/body.ts'
import type { SeenPeer } from '../http/seen-peer.ts'
import { connectToCore } from './connect.ts'
import { type CorePlace, helloOf } from './core-channel.ts'
import { encodeSeen } from './protocol.ts'

/** What speaks of one connection and not of the request or the answer: each side makes its own. `Expect` was answered here. */
const ofOneConnection: ReadonlySet<string> = new Set([
  ...['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'expect'],
])

const passedOn = (raw: readonly string[]): string[] => {
  const kept: string[] = []
  for (let i = 0; i < raw.length; i += 2)
    if (!ofOneConnection.has(raw[i]!.toLowerCase())) kept.push(raw[i]!, raw[i + 1]!)
  return kept
}

const withoutBody: ReadonlySet<string> = new Set(['GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE'])

/** As the caller sent them, but for the way the body is framed, which says as much as it did there. */
const requestHeaders = ({ method = '', headers, rawHeaders }: IncomingMessage): string[] => {
  const kept = passedOn(rawHeaders)
  if (headers['transfer-encoding'] !== undefined) kept.push('Transfer-Encoding', 'chunked')
  else if (headers['content-length'] === undefined && !withoutBody.has(method)) kept.push('Content-Length', '0')
  return kept
}

/** One for each connection of a caller. */
class ToCore extends Agent {
  readonly #socket: string
  readonly #hello: Uint8Array
  #ended = false

  constructor(place: CorePlace, seen: SeenPeer) {
    super({ keepAlive: true, maxSockets: 1 })
    this.#socket = place.socket
    const { header, body } = encodeSeen(seen)
    this.#hello = encodeFrame({ ...helloOf(place), for: 'stream', ...header }, body)
  }

  override createConnection(_options: ClientRequestArgs, callback: (error: Error | null, socket: Duplex) => void) {
    connectToCore(this.#socket).then(
      socket => {
        // The caller went away meanwhile: nobody would close it.
        if (this.#ended) {
          socket.destroy()
          callback(new Error('the caller is gone'), socket)
          return
        }
        callback(null, socket)
        // Before the request, which goes out after this turn; by then a failure has somebody who hears of it.
        socket.write(this.#hello)
      },
      error => callback(error, undefined as never),
    )
    return undefined
  }

  override destroy(): void {
    this.#ended = true
    super.destroy()
  }
}

export interface Stream {
  /**
   * @param begun what was read of the body already
   * @param onFailure the core could not be asked, and nothing was answered yet
   */
  pass(request: IncomingMessage, response: ServerResponse, begun: readonly Buffer[], onFailure: () => void): void
  close(): void
}

const answerWith = (answer: IncomingMessage, response: ServerResponse): void => {
  const headers = passedOn(answer.rawHeaders)
  if (answer.headers.connection === 'close') headers.push('Connection', 'close')
  response.sendDate = false
  // What ends with its connection there does so here: event streams, whose frames go out as they are.
  response.useChunkedEncodingByDefault = answer.headers['transfer-encoding'] !== undefined
  response.writeHead(answer.statusCode ?? 502, answer.statusMessage ?? '', headers)
  if (answer.headers['content-length'] === undefined) response.flushHeaders()
  answer.pipe(response)
  answer.once('close', () => {
    if (!answer.complete) response.destroy()
  })
}

export const createStream = (place: CorePlace, seen: SeenPeer): Stream => {
  const agent = new ToCore(place, seen)
  return {
    pass: (request, response, begun, onFailure) => {
      const { method, url: path } = request
      const asked = httpRequest({ agent, method, path, headers: requestHeaders(request) })
      asked.once('response', answer => answerWith(answer, response))
      asked.on('error', () => {
        // What was answered stays answered: the core need not read a body to the end for that.
        if (!response.headersSent && !response.destroyed) onFailure()
        else if (!response.writableEnded) response.destroy()
      })
      response.once('close', () => {
        if (!response.writableFinished) asked.destroy()
      })
      request.once('close', () => {
        if (!request.complete) asked.destroy()
      })
      if (Number(request.headers['content-length'] ?? 0) > maxDiscardedBytes) {
        // Refused by its head; a core that hangs up in the middle of it could not be heard any more.
        response.once('close', () => asked.destroy())
        asked.flushHeaders()
        return
      }
      for (const chunk of begun) asked.write(chunk)
      request.pipe(asked)
    },
    close: () => agent.destroy(),
  }
}
