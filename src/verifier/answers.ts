// What answers a request, found again by the request, so that it can be ended alone: a response over HTTP/1.1 with its connection, a stream
// of HTTP/2 without it, an upgraded connection. Who may go on is decided in standing-calls.ts.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { constants } from 'node:http2'
import type { Socket } from 'node:net'

export interface Answer {
  isOver(): boolean
  /** At once, so that it cannot be taken for whole. @param reason the rule that is broken now */
  end(reason: unknown): void
}

/** As `node:http2` has it. */
export interface StreamLike {
  readonly closed: boolean
  readonly destroyed: boolean
  close(code: number): void
}

/** What is looked at of a request to find its answer; `IncomingMessage`, `Http2ServerRequest`, and a bare stream with its socket. */
export interface Answered {
  readonly socket: unknown
  readonly upgrade?: boolean
  readonly stream?: StreamLike
}

const response = Symbol('agentca.response')
type Paired = { [response]?: ServerResponse }

/** Before any listener sees the two. */
export const pairAnswer = (request: IncomingMessage, itsResponse: ServerResponse): void => {
  ;(request as Paired)[response] = itsResponse
}

/**
 * Clients take a stream that was cancelled for one that has ended, and half an answer for a whole one: INTERNAL_ERROR is what
 * servers break an answer off with (RFC 9113 §7 has no code for a permission that is gone).
 */
const brokenOff = constants.NGHTTP2_INTERNAL_ERROR

/** The connection goes on with what else is on it. */
const ofStream = (stream: StreamLike): Answer => ({
  isOver: () => stream.closed || stream.destroyed,
  end: () => stream.close(brokenOff),
})
/** HTTP/1.1 has no other way to say that an answer is not whole. */
const ofResponse = (each: ServerResponse): Answer => ({
  isOver: () => each.writableFinished || each.destroyed,
  end: () => each.destroy(),
})

/** A connection that carries nothing but one call as long as it lives. */
export const ofSocket = (socket: Pick<Socket, 'destroyed' | 'destroy'>): Answer => ({
  isOver: () => socket.destroyed,
  end: () => void socket.destroy(),
})

/** null: nobody knows what answers it. */
export const answerOf = (request: Answered): Answer | null => {
  // node:http sets it where it gives the connection away: no request will be judged on it after this one.
  if (request.upgrade === true) return ofSocket(request.socket as Socket)
  if (request.stream !== undefined) return ofStream(request.stream)
  const paired = (request as Paired)[response]
  return paired === undefined ? null : ofResponse(paired)
}
