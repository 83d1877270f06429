// Published bytes with the headers they go out with, both made once and sent as they are: a request costs two comparisons and a
// write. Conditional requests by RFC 9110 §13.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Pieces } from '../base/pieces.ts'
import { fieldOf } from './request-field.ts'

export interface Content {
  readonly type: string
  readonly bytes: Uint8Array | Pieces
  /** Without quotes: one tag for these bytes and no others, a hash of them for instance. */
  readonly tag: string
  /** null: not known. Milliseconds since the epoch, as all times here. */
  readonly lastModified: number | null
  /** When the bytes stop being true; null: never by themselves. */
  readonly goodUntil: number | null
  /** At most so long in caches: what they keep, a revocation does not reach. */
  readonly maxAgeSeconds: number
  /** Further cache directives. */
  readonly directives: string
  /** Whether `Expires` says `goodUntil` (RFC 5019 §6.2 wants it; for caches of HTTP/1.1 max-age goes before). */
  readonly expires: boolean
}

export interface Representation {
  readonly content: Content
  readonly body: Body
  readonly etag: string
  readonly lastModified: string | null
  /** Whether that date names exactly these bytes: false when others went out under the same second. */
  readonly dated: boolean
  /** Raw header lists: until `holdUntil`, when the bytes will be true for less than the maximum age. */
  readonly headers: string[]
  readonly notModified: string[]
  readonly holdUntil: number
}

/**
 * A body as node:http sends it fastest: a short one as text, an octet a character, which leaves as one piece with its head (a sixth of
 * what the request costs); a long one as a Buffer, since every other kind of bytes is turned into one, each time.
 */
export type Body = Buffer | string | Pieces

/** What libuv writes from its stack. */
const maxTextBytes = 16_384 - 2_048

export const bodyOf = (bytes: Uint8Array | Pieces): Body => {
  if (!(bytes instanceof Uint8Array)) return bytes
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return buffer.length <= maxTextBytes ? buffer.toString('latin1') : buffer
}

/** Ends the answer; a HEAD gets no body. */
export const endWith = ({ method }: IncomingMessage, response: ServerResponse, body: Body): void => {
  if (method === 'HEAD') response.end()
  else if (typeof body === 'string') response.end(body, 'latin1')
  else if (body instanceof Uint8Array) response.end(body)
  else sendPieces(response, body)
}

/** Each when the last one is on its way: what a slow reader has not taken is not made either. */
const sendPieces = (response: ServerResponse, pieces: Pieces): void => {
  const left = pieces[Symbol.iterator]()
  const more = (): void => {
    while (!response.destroyed) {
      const { done, value } = left.next()
      if (done === true) {
        response.end()
        return
      }
      if (!response.write(value)) {
        response.once('drain', more)
        return
      }
    }
  }
  more()
}

const httpDate = (at: number): string => new Date(at).toUTCString()

const headersOf = (content: Content, now: number) => {
  const left = content.goodUntil === null ? Number.POSITIVE_INFINITY : Math.floor((content.goodUntil - now) / 1000)
  const maxAge = Math.max(0, Math.min(content.maxAgeSeconds, left))
  // RFC 9110 §15.4.5: what a 304 repeats.
  const notModified = ['ETag', `"${content.tag}"`, 'Cache-Control', `max-age=${maxAge}, ${content.directives}`]
  if (content.expires && content.goodUntil !== null) notModified.push('Expires', httpDate(content.goodUntil))
  if (content.lastModified !== null) notModified.push('Last-Modified', httpDate(content.lastModified))
  return {
    notModified,
    headers: ['Content-Type', content.type, 'Content-Length', String(content.bytes.length), ...notModified],
  }
}

/** @param before what went out under the same name until now */
export const represent = (content: Content, now: number, before: Representation | null): Representation => {
  const lastModified = content.lastModified === null ? null : httpDate(content.lastModified)
  return {
    content,
    body: bodyOf(content.bytes),
    etag: `"${content.tag}"`,
    lastModified,
    dated: lastModified !== null && lastModified !== before?.lastModified,
    ...headersOf(content, now),
    holdUntil: content.goodUntil === null ? Number.POSITIVE_INFINITY : content.goodUntil - content.maxAgeSeconds * 1000,
  }
}

/** RFC 9110 §13.1.2, weak comparison. Ours hold no quotes, so that a quoted string of the list is ours or is not. */
const namesEtag = (field: string, etag: string): boolean =>
  field === etag || field.trim() === '*' || (field.match(/"[^"]*"/g)?.includes(etag) ?? false)

/**
 * RFC 9110 §13.1.3, but exact matches only, which it allows for: a date of the client's own clock, or of a second in which we
 * published twice, would hide a revocation until the next list.
 */
const isUnchanged = (request: IncomingMessage, representation: Representation): boolean => {
  const tags = fieldOf(request, 'if-none-match')
  if (tags !== undefined) return namesEtag(tags, representation.etag)
  const since = fieldOf(request, 'if-modified-since')
  return since !== undefined && representation.dated && since === representation.lastModified
}

export const sendRepresentation = (
  request: IncomingMessage,
  response: ServerResponse,
  representation: Representation,
  now: number,
): void => {
  const current = now < representation.holdUntil ? representation : headersOf(representation.content, now)
  if (isUnchanged(request, representation)) {
    response.writeHead(304, current.notModified)
    response.end()
    return
  }
  response.writeHead(200, current.headers)
  endWith(request, response, representation.body)
}
