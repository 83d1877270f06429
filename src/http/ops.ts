// The ops listener's handler: is the process alive, can it do its work, what does it measure. Loopback only, plain `node:http`, and no
// Express: probes must not depend on more than they ask about.

import { randomUUID } from 'node:crypto'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Log } from '../base/log.ts'
import { HttpError } from './errors.ts'
import { jitteredSeconds, problemOf } from './problem.ts'

export interface Check {
  readonly name: string
  readonly ok: boolean
  readonly detail: string
}

export interface OpsDeps {
  readonly log: Log
  /** Everything that must hold before traffic should come here. */
  readonly checks: () => readonly Check[]
  /** Prometheus text format. */
  readonly renderMetrics: () => Promise<string>
}

const answer = (response: ServerResponse, status: number, text: string): void => {
  response.statusCode = status
  response.setHeader('Content-Type', 'text/plain; version=0.0.4; charset=utf-8')
  response.setHeader('Cache-Control', 'no-store')
  response.end(text)
}

/** As on every other listener; probes read the status, people the rest. @returns the request's id, under which the log has more */
const refuse = (response: ServerResponse, error: unknown): string => {
  const requestId = randomUUID().replaceAll('-', '')
  const problem = problemOf(error, requestId)
  const text = JSON.stringify(problem)
  response.writeHead(problem.status, {
    'Content-Type': 'application/problem+json',
    'Content-Length': Buffer.byteLength(text),
    'Cache-Control': 'no-store',
    'X-Request-Id': requestId,
  })
  response.end(text)
  return requestId
}

const line = ({ name, ok, detail }: Check): string =>
  `${ok ? '[+]' : '[-]'} ${name} ${ok ? 'ok' : 'failed'}: ${detail}\n`

const answerReady = (checks: readonly Check[], verbose: boolean, response: ServerResponse): void => {
  const failed = checks.filter(check => !check.ok)
  const shown = verbose ? checks : failed
  const verdict = failed.length === 0 ? 'ready\n' : 'not ready\n'
  if (failed.length > 0) response.setHeader('Retry-After', jitteredSeconds(Math.random))
  answer(response, failed.length === 0 ? 200 : 503, shown.map(line).join('') + verdict)
}

const route = async (deps: OpsDeps, request: IncomingMessage, response: ServerResponse): Promise<void> => {
  const [path, query = ''] = (request.url ?? '/').split('?', 2)
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('Allow', 'GET, HEAD')
    refuse(response, new HttpError('method_not_allowed', 'expected GET, HEAD'))
    return
  }
  switch (path) {
    case '/livez':
      return answer(response, 200, 'ok\n')
    case '/readyz':
      return answerReady(deps.checks(), new URLSearchParams(query).has('verbose'), response)
    case '/metrics':
      return answer(response, 200, await deps.renderMetrics())
    default:
      refuse(response, new HttpError('route_not_found', 'expected /livez, /readyz, /readyz?verbose or /metrics'))
  }
}

export const createOpsHandler =
  (deps: OpsDeps): RequestListener =>
  (request, response) => {
    route(deps, request, response).catch(error => {
      const requestId = refuse(response, error)
      deps.log.error({ err: error, path: request.url, requestId }, 'an ops request failed')
    })
  }
