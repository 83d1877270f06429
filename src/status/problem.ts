// The refusals of the status listener: problem documents (RFC 9457) of the few kinds there are, made ahead but for the request's id.
import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'

export interface StatusProblem {
  readonly status: number
  readonly headers: readonly string[]
  /** JSON up to the request's id, and what follows it. */
  readonly text: readonly [before: string, after: string]
}

const idDigits = 32

const problem = (status: number, code: string, title: string, detail: string, more: readonly string[] = []) => {
  const document = { type: `urn:agentca:problem:${code}`, title, status, detail, code }
  const text = [`${JSON.stringify(document).slice(0, -1)},"requestId":"`, '"}'] as const
  const length = Buffer.byteLength(text[0]) + idDigits + text[1].length
  const headers = ['Content-Type', 'application/problem+json', 'Content-Length', String(length)]
  return { status, headers: [...headers, 'Cache-Control', 'no-store', ...more], text }
}

const close = ['Connection', 'close']
const notAllowed = (allow: string): StatusProblem =>
  problem(405, 'method_not_allowed', 'Method not allowed', `expected ${allow}`, ['Allow', allow])

export const problems = {
  pathMalformed: problem(400, 'body_malformed', 'The request cannot be read', 'the path cannot be read'),
  notFound: problem(404, 'route_not_found', 'Not found', 'there is nothing at this path'),
  onlyReads: notAllowed('GET, HEAD'),
  onlyPosts: notAllowed('POST'),
  /** What still comes of the body is not read. */
  tooLarge: problem(413, 'body_too_large', 'Too large', 'the body is larger than any question', close),
  notOcsp: problem(
    415,
    'content_type_not_supported',
    'Content type not supported',
    'expected a body of application/ocsp-request',
    close,
  ),
  internal: problem(500, 'internal', 'Internal error', 'internal error; the request id finds it in the log'),
} as const satisfies Record<string, StatusProblem>

/** Lower-case hex, as long as on the API. */
export const newRequestId = (): string => randomUUID().replaceAll('-', '')

export const sendProblem = (
  request: IncomingMessage,
  response: ServerResponse,
  what: StatusProblem,
  requestId = newRequestId(),
): void => {
  const [before, after] = what.text
  response.writeHead(what.status, [...what.headers, 'X-Request-Id', requestId])
  response.end(request.method === 'HEAD' ? undefined : before + requestId + after)
}
