// Request bodies: JSON in UTF-8, unless a route says otherwise, bounded in length and in the time they may take. What a body must contain
// is schema's business.

import type { IncomingMessage } from 'node:http'
import type { RequestHandler } from 'express'
import { SchemaError } from '../schema/errors.ts'
import { HttpError } from './errors.ts'

export const maxBodyBytes = 65_536
/** Of a set of policies, which is many files in one body. */
export const maxPoliciesBodyBytes = 1_572_864
/** What is too long is still read up to here and thrown away: a client that is cut off while it writes never sees the answer. */
export const maxDiscardedBytes = 4_194_304
export const bodyDeadlineMs = 10_000

/** What a body has to be sent as. */
export interface MediaType {
  readonly name: string
  readonly pattern: RegExp
}

const json: MediaType = {
  name: 'application/json',
  pattern: /^application\/json\s*(?:;\s*charset="?utf-8"?\s*)?$/i,
}
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

const tooLarge = (maxBytes: number): HttpError =>
  new HttpError('body_too_large', `a body has at most ${maxBytes} bytes`, { facts: { maxBytes } })

const tooSlow = (): HttpError => new HttpError('request_timeout', 'the body took too long to arrive')

const cutShort = (): HttpError => new HttpError('body_malformed', 'the connection ended within the body')

/** @throws HttpError `body_too_large`, `request_timeout`, `body_malformed` (the connection ended) */
const readBody = (request: IncomingMessage, deadlineMs: number, maxBytes: number): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let length = 0
    const onData = (chunk: Buffer): void => {
      length += chunk.length
      if (length <= maxBytes) chunks.push(chunk)
      else if (length > maxDiscardedBytes) fail(tooLarge(maxBytes))
      else chunks.length = 0
    }
    const onEnd = (): void => {
      stop()
      if (length > maxBytes) reject(tooLarge(maxBytes))
      else resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks, length))
    }
    const onClose = (): void => fail(cutShort())
    const fail = (error: HttpError): void => {
      stop()
      request.pause()
      reject(error)
    }
    const stop = (): void => {
      clearTimeout(timer)
      request.off('data', onData).off('end', onEnd).off('error', onClose).off('close', onClose)
    }
    const timer = setTimeout(() => fail(tooSlow()), deadlineMs)
    request.on('data', onData).on('end', onEnd).on('error', onClose).on('close', onClose)
  })

/**
 * A short body mostly comes with its head: what the parser has read whole when it returns needs no listeners and no time limit.
 * @returns null when there is more to come
 * @throws HttpError `body_too_large`
 */
const readArrived = async (request: IncomingMessage, maxBytes: number): Promise<Buffer | null> => {
  // The parser, which calls the handlers of a request in the middle of its work, ends its turn.
  await undefined
  if (!request.complete) return null
  const bytes: Buffer = request.read() ?? Buffer.alloc(0)
  if (bytes.length > maxBytes) throw tooLarge(maxBytes)
  return bytes
}

const checkHeaders = (request: IncomingMessage, maxBytes: number, expected: MediaType = json): void => {
  const { 'content-type': type, 'content-encoding': encoding, 'content-length': length } = request.headers
  if (type === undefined || !expected.pattern.test(type) || (encoding !== undefined && encoding !== 'identity'))
    throw new HttpError('content_type_not_supported', `expected a body of ${expected.name}, not encoded`, {
      hint: `Content-Type: ${expected.name}`,
    })
  if (length !== undefined && Number(length) > maxDiscardedBytes) throw tooLarge(maxBytes)
}

const parsed = (text: string): unknown => {
  // The one name of a member that schemas leave out without a word, where every other unknown one is refused.
  if (text.includes('__proto__'))
    JSON.parse(text, (name, value) => {
      if (name === '__proto__')
        throw new SchemaError('body', [{ path: name, problem: 'unknown key' }], { code: 'request_invalid' })
      return value
    })
  return JSON.parse(text)
}

/** @throws HttpError `body_malformed`, SchemaError */
export const parseJson = (bytes: Uint8Array): unknown => {
  try {
    return parsed(decoder.decode(bytes))
  } catch (error) {
    if (error instanceof SchemaError) throw error
    // The parser's own message quotes the body, which may hold a token.
    throw new HttpError('body_malformed', 'the body is not JSON in UTF-8')
  }
}

/** Leaves the bytes as they came in `request.body`: a signature is over them, or they are not JSON. */
export const createRawBody =
  (deadlineMs: number = bodyDeadlineMs, maxBytes: number = maxBodyBytes, expected: MediaType = json): RequestHandler =>
  async (request, _response, next) => {
    checkHeaders(request, maxBytes, expected)
    request.body = await readBody(request, deadlineMs, maxBytes)
    next()
  }

/** Fills `request.body`; leaves it undefined where there is no body at all. */
export const createJsonBody =
  (deadlineMs: number = bodyDeadlineMs, maxBytes: number = maxBodyBytes): RequestHandler =>
  async (request, _response, next) => {
    const { 'content-length': length, 'transfer-encoding': encoding } = request.headers
    request.body = undefined
    if ((length !== undefined && length !== '0') || encoding !== undefined) {
      checkHeaders(request, maxBytes)
      request.body = parseJson(
        (await readArrived(request, maxBytes)) ?? (await readBody(request, deadlineMs, maxBytes)),
      )
    }
    next()
  }
