// OCSP over HTTP (RFC 6960 appendix A, RFC 5019 §6): POST and GET, with the headers that let caches hold an answer to a GET.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { OcspReply, OcspSource } from '../ca/status-answers.ts'
import { decodeOcspPath, encodeOcspError, maxOcspRequestBytes } from '../pki/ocsp.ts'
import { newRequestId, problems, sendProblem } from './problem.ts'
import { type Body, bodyOf, endWith, type Representation, represent, sendRepresentation } from './representation.ts'
import { fieldOf } from './request-field.ts'

export interface OcspEndpointDeps {
  readonly clock: Clock
  readonly log: Log
  readonly ocsp: OcspSource
}

export interface OcspEndpoint {
  /** @param text the last part of the path, as it stood in the URL, query included */
  get(request: IncomingMessage, response: ServerResponse, text: string): void
  post(request: IncomingMessage, response: ServerResponse): void
}

const responseType = 'application/ocsp-response'
/** An answer is good for hours; a proxy that kept it so long would keep it past a revocation. */
const maxAgeSeconds = 300

const requestType = 'application/ocsp-request'
const isOcspRequest = (type: string | undefined): boolean =>
  type === requestType || type?.split(';', 1)[0]?.trim().toLowerCase() === requestType

const withoutQuery = (text: string): string => {
  const at = text.indexOf('?')
  return at < 0 ? text : text.slice(0, at)
}

/** One answer, ready to be sent: as the answer to a GET that caches may hold, and as any other. */
interface Prepared {
  readonly reply: OcspReply
  /** null: not to be cached. */
  readonly cacheable: Representation | null
  readonly headers: string[]
  readonly body: Body
}

const prepare = (reply: OcspReply, now: number): Prepared => {
  const { der, validity } = reply
  return {
    reply,
    cacheable:
      validity === null
        ? null
        : {
            ...represent(
              {
                type: responseType,
                bytes: der,
                tag: validity.sha1Hex,
                lastModified: validity.thisUpdate,
                goodUntil: validity.nextUpdate,
                maxAgeSeconds,
                directives: 'public, no-transform, must-revalidate',
                expires: true,
              },
              now,
              null,
            ),
            // Two answers to one question may be of the same second, one of them from before a revocation.
            dated: false,
          },
    headers: ['Content-Type', responseType, 'Content-Length', String(der.length), 'Cache-Control', 'no-store'],
    body: bodyOf(der),
  }
}

/** Questions that are known by their text, and how long they may be: any size would let strangers fill the memory. */
const maxAsked = 10_000
const maxAskedText = 400

/**
 * What was answered to which text: to read a question again costs more than to answer it. Whether an answer may still be given is
 * asked of the responder each time.
 */
const createAsked = (ocsp: Pick<OcspSource, 'again'>) => {
  const asked = new Map<string, Prepared>()
  return {
    find: (text: string): Prepared | null => {
      const prepared = asked.get(text)
      return prepared !== undefined && ocsp.again(prepared.reply) ? prepared : null
    },
    keep: (text: string, prepared: Prepared): void => {
      if (text.length > maxAskedText) return
      if (asked.size >= maxAsked) asked.clear()
      asked.set(text, prepared)
    },
  }
}
type Asked = ReturnType<typeof createAsked>

type Send = (request: IncomingMessage, response: ServerResponse, prepared: Prepared) => void

/** One question on its way to its answer. */
interface Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly asked: Asked
  /** The question as it came. */
  readonly text: string
  readonly send: Send
}

const sendPlain: Send = (request, response, { headers, body }) => {
  response.writeHead(200, headers)
  endWith(request, response, body)
}

const nothing = Buffer.alloc(0)
const malformed = prepare({ der: encodeOcspError('malformedRequest'), validity: null }, 0)

export const createOcspEndpoint = ({ clock, log, ocsp }: OcspEndpointDeps): OcspEndpoint => {
  // The responder hands out the same object as long as an answer is good: so do we.
  const known = new WeakMap<OcspReply, Prepared>()
  const preparedOf = (reply: OcspReply): Prepared => {
    let prepared = known.get(reply)
    if (prepared === undefined) {
      prepared = prepare(reply, clock.now())
      known.set(reply, prepared)
    }
    return prepared
  }
  const sendCacheable: Send = (request, response, prepared) => {
    if (prepared.cacheable === null) sendPlain(request, response, prepared)
    else sendRepresentation(request, response, prepared.cacheable, clock.now())
  }
  const fail = (request: IncomingMessage, response: ServerResponse, error: unknown): void => {
    const requestId = newRequestId()
    log.error({ requestId, reason: messageOf(error) }, 'an OCSP request was not answered')
    if (!response.headersSent) sendProblem(request, response, problems.internal, requestId)
  }
  const respond = (exchange: Exchange, question: Uint8Array): void => {
    const { request, response, asked, text, send } = exchange
    try {
      const reply = ocsp.respond(question)
      if (reply instanceof Promise) {
        reply.then(later => send(request, response, preparedOf(later))).catch(error => fail(request, response, error))
        return
      }
      const prepared = preparedOf(reply)
      asked.keep(text, prepared)
      send(request, response, prepared)
    } catch (error) {
      fail(request, response, error)
    }
  }
  const askedByPath = createAsked(ocsp)
  const askedByBody = createAsked(ocsp)

  return {
    get: (request, response, text) => {
      const known = askedByPath.find(text)
      if (known !== null) {
        sendCacheable(request, response, known)
        return
      }
      let question: Uint8Array
      try {
        // A copy: what is decoded may be a part of something larger.
        question = decodeOcspPath(withoutQuery(text)).slice()
      } catch {
        sendPlain(request, response, malformed)
        return
      }
      respond({ request, response, asked: askedByPath, text, send: sendCacheable }, question)
    },
    post: (request, response) => {
      if (!isOcspRequest(fieldOf(request, 'content-type'))) {
        sendProblem(request, response, problems.notOcsp)
        return
      }
      // Nearly always one part: nothing is gathered then.
      let whole: Buffer = nothing
      const take = (part: Buffer): void => {
        if (whole.length + part.length <= maxOcspRequestBytes) {
          whole = whole.length === 0 ? part : Buffer.concat([whole, part])
          return
        }
        request.off('data', take).off('end', answer)
        sendProblem(request, response, problems.tooLarge)
      }
      const answer = (): void => {
        const question = whole
        const text = question.toString('latin1')
        const known = askedByBody.find(text)
        if (known !== null) sendPlain(request, response, known)
        else respond({ request, response, asked: askedByBody, text, send: sendPlain }, question)
      }
      request.on('data', take).on('end', answer)
    },
  }
}
