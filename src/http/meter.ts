// Counts and times every request, by the pattern of its route: never by its path, which a caller makes up.
import type { ServerResponse } from 'node:http'
import type { Request, RequestHandler, Response } from 'express'
import type { Clock } from '../base/clock.ts'
import type { Metrics } from '../base/metrics.ts'

const adminPrefix = '/v1/admin'

/** `staticPaths`: routes without parameters, known by their path where a request ended before it reached its route. */
const routeOf = (request: Request, staticPaths: ReadonlySet<string>): string => {
  const [path = ''] = request.originalUrl.split('?', 1)
  const pattern = (request.route as { readonly path: unknown } | undefined)?.path
  if (staticPaths.has(path)) return path
  if (!path.startsWith(`${adminPrefix}/`)) return 'none'
  return typeof pattern === 'string' ? adminPrefix + pattern : adminPrefix
}

export const createMeter = (
  deps: { readonly clock: Clock; readonly metrics: Metrics },
  staticPaths: ReadonlySet<string>,
): RequestHandler => {
  // One function for all responses: a closure for each would be the most expensive part of counting.
  function finished(this: ServerResponse): void {
    const { req, statusCode, locals } = this as Response
    const route = routeOf(req, staticPaths)
    const seconds = (deps.clock.monotonic() - (locals.startedAt as number)) / 1000
    deps.metrics.count('agentca_http_requests_total', { route, status: String(statusCode) })
    deps.metrics.observe('agentca_http_request_seconds', seconds, { route })
  }
  return (_request, response, next) => {
    response.locals.startedAt = deps.clock.monotonic()
    response.on('finish', finished)
    next()
  }
}
