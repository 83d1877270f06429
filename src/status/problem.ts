// The refusals of the status listener as finished bytes: problem documents (RFC 9457) of the few kinds there are.
import type { IncomingMessage, ServerResponse } from 'node:http'

export interface StatusProblem {
  readonly status: number
  readonly headers: string[]
  readonly body: Buffer
}

const problem = (status: number, code: string, title: string, more: readonly string[] = []): StatusProblem => {
  const document = { type: `urn:agentca:problem:${code}`, title, status, code }
  const body = Buffer.from(JSON.stringify(document))
  const headers = ['Content-Type', 'application/problem+json', 'Content-Length', String(body.length)]
  return { status, headers: [...headers, 'Cache-Control', 'no-store', ...more], body }
}

const close = ['Connection', 'close']
const notAllowed = (allow: string): StatusProblem =>
  problem(405, 'method_not_allowed', 'Method not allowed', ['Allow', allow])

export const problems = {
  pathMalformed: problem(400, 'body_malformed', 'The request cannot be read'),
  notFound: problem(404, 'route_not_found', 'Not found'),
  onlyReads: notAllowed('GET, HEAD'),
  onlyPosts: notAllowed('POST'),
  /** What still comes of the body is not read. */
  tooLarge: problem(413, 'body_too_large', 'Too large', close),
  notOcsp: problem(415, 'content_type_not_supported', 'Content type not supported', close),
  internal: problem(500, 'internal', 'Internal error'),
} as const satisfies Record<string, StatusProblem>

export const sendProblem = (request: IncomingMessage, response: ServerResponse, what: StatusProblem): void => {
  response.writeHead(what.status, what.headers)
  response.end(request.method === 'HEAD' ? undefined : what.body)
}
