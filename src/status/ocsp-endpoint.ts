// OCSP over HTTP (RFC 6960 appendix A, RFC 5019 §6): POST and GET, with the headers that let caches hold an answer to a GET.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { OcspReply, OcspSource } from '../ca/status-answers.ts'
import { decodeOcspPath, encodeOcspError, maxOcspRequestBytes } from '../pki/ocsp.ts'
import { problems, sendProblem } from './problem.ts'
import { type Representation, represent, sendRepresentation } from './representation.ts'

export interface OcspEndpointDeps {
  readonly clock: Clock
  readonly log: Log
  readonly ocsp: OcspSource
}

export interface OcspEndpoint {
  /** @param text the last part of the path, as it stood in the URL */
  get(request: IncomingMessage, response: ServerResponse, text: string): void
  post(request: IncomingMessage, response: ServerResponse): void
}

const responseType = 'application/ocsp-response'
/** An answer is good for hours; a proxy that kept it so long would keep it past a revocation. */
const maxAgeSeconds = 300

const malformed: OcspReply = { der: encodeOcspError('malformedRequest'), validity: null }

const isOcspRequest = ({ headers }: IncomingMessage): boolean =>
  headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase() === 'application/ocsp-request'

const sendUncached = (request: IncomingMessage, response: ServerResponse, { der }: OcspReply): void => {
  const length = String(der.length)
  response.writeHead(200, ['Content-Type', responseType, 'Content-Length', length, 'Cache-Control', 'no-store'])
  response.end(request.method === 'HEAD' ? undefined : der)
}

export const createOcspEndpoint = ({ clock, log, ocsp }: OcspEndpointDeps): OcspEndpoint => {
  // The responder hands out the same object as long as an answer is good: so do its headers.
  const representations = new WeakMap<OcspReply, Representation>()
  const representationOf = (
    reply: OcspReply,
    { thisUpdate, nextUpdate, sha1Hex }: NonNullable<OcspReply['validity']>,
  ): Representation => {
    const found = representations.get(reply)
    if (found !== undefined) return found
    const made = represent(
      {
        type: responseType,
        bytes: reply.der,
        tag: sha1Hex,
        lastModified: thisUpdate,
        goodUntil: nextUpdate,
        maxAgeSeconds,
        directives: 'public, no-transform, must-revalidate',
        expires: true,
      },
      clock.now(),
      null,
    )
    // Two answers to one question may be of the same second, one of them from before a revocation.
    const undated = { ...made, dated: false }
    representations.set(reply, undated)
    return undated
  }

  const sendCacheable = (request: IncomingMessage, response: ServerResponse, reply: OcspReply): void => {
    if (reply.validity === null) sendUncached(request, response, reply)
    else sendRepresentation(request, response, representationOf(reply, reply.validity), clock.now())
  }

  const respond = (
    request: IncomingMessage,
    response: ServerResponse,
    send: typeof sendUncached,
    bytes: Uint8Array,
  ): void => {
    const reply = ocsp.respond(bytes)
    if (!(reply instanceof Promise)) {
      send(request, response, reply)
      return
    }
    reply
      .then(later => send(request, response, later))
      .catch(error => {
        log.error({ reason: messageOf(error) }, 'an OCSP request was not answered')
        if (!response.headersSent) sendProblem(request, response, problems.internal)
      })
  }

  return {
    get: (request, response, text) => {
      let bytes: Uint8Array
      try {
        bytes = decodeOcspPath(text)
      } catch {
        sendUncached(request, response, malformed)
        return
      }
      respond(request, response, sendCacheable, bytes)
    },
    post: (request, response) => {
      if (!isOcspRequest(request)) {
        sendProblem(request, response, problems.notOcsp)
        return
      }
      const parts: Buffer[] = []
      let size = 0
      const take = (part: Buffer): void => {
        size += part.length
        if (size <= maxOcspRequestBytes) {
          parts.push(part)
          return
        }
        request.off('data', take).off('end', answer)
        sendProblem(request, response, problems.tooLarge)
      }
      const answer = (): void => {
        try {
          respond(request, response, sendUncached, parts.length === 1 ? parts[0]! : Buffer.concat(parts))
        } catch (error) {
          log.error({ reason: messageOf(error) }, 'an OCSP request was not answered')
          if (!response.headersSent) sendProblem(request, response, problems.internal)
        }
      }
      request.on('data', take).on('end', answer)
    },
  }
}
