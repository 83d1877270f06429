// The status listener: CRLs, OCSP, CA certificates, bundles and the log's checkpoint over plain HTTP, from memory alone. It touches
// neither ledger nor signer, so that it goes on when they do not.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { createOcspEndpoint, type OcspEndpointDeps } from './ocsp-endpoint.ts'
import { newRequestId, problems, sendProblem } from './problem.ts'
import { sendRepresentation } from './representation.ts'
import { pathOf } from './request-path.ts'
import { createResources, type Resource, type ResourcesDeps } from './resources.ts'

export interface StatusDeps extends ResourcesDeps, OcspEndpointDeps {
  readonly log: Log
}

export type StatusHandler = (request: IncomingMessage, response: ServerResponse) => void

const ocspPath = '/ocsp'
const isOcsp = (path: string): boolean => path === ocspPath || path.startsWith(`${ocspPath}/`)
const isRead = ({ method }: IncomingMessage): boolean => method === 'GET' || method === 'HEAD'

export const createStatusHandler = (deps: StatusDeps): StatusHandler => {
  const { clock, log } = deps
  const resources = createResources(deps)
  const ocsp = createOcspEndpoint(deps)

  const sendResource = (request: IncomingMessage, response: ServerResponse, resource: Resource): void => {
    const representation = resource()
    if (representation === null) sendProblem(request, response, problems.notFound)
    else sendRepresentation(request, response, representation, clock.now())
  }

  const sendNamed = (request: IncomingMessage, response: ServerResponse, path: string): void => {
    const resource = resources.find(path)
    if (resource === null) sendProblem(request, response, problems.notFound)
    else if (!isRead(request)) sendProblem(request, response, problems.onlyReads)
    else sendResource(request, response, resource)
  }
  const askOcsp = (request: IncomingMessage, response: ServerResponse, path: string): void => {
    const text = path.slice(ocspPath.length)
    if (text === '') {
      if (request.method === 'POST') ocsp.post(request, response)
      else sendProblem(request, response, problems.onlyPosts)
    } else if (isRead(request)) ocsp.get(request, response, text.slice(1))
    else sendProblem(request, response, problems.onlyReads)
  }
  const route: StatusHandler = (request, response) => {
    const target = request.url ?? ''
    // The base64 of a question is read once only, by pki.
    const path = isOcsp(target) ? target : pathOf(target)
    if (path === null) sendProblem(request, response, problems.pathMalformed)
    else if (isOcsp(path)) askOcsp(request, response, path)
    else sendNamed(request, response, path)
  }

  return (request, response) => {
    try {
      route(request, response)
    } catch (error) {
      const requestId = newRequestId()
      log.error({ requestId, reason: messageOf(error) }, 'a status request was not answered')
      if (!response.headersSent) sendProblem(request, response, problems.internal, requestId)
    }
  }
}

/** Beyond it new connections are dropped: descriptors are left for the API and the ledger. */
const maxConnections = 4096
const headersTimeoutMs = 10_000
/** The largest body has 2 KiB. */
const requestTimeoutMs = 10_000
const keepAliveTimeoutMs = 15_000
/** Nothing read or written: also of a peer that does not take its answer. */
const idleTimeoutMs = 30_000
/** The longest path of an OCSP request, fully escaped, and the rest. */
const maxHeaderBytes = 16_384
const drainPollMs = 50

export interface StatusServer {
  readonly server: Server
  /** Takes no new connections, lets what is being answered end, and cuts what is left after `graceMs`. */
  close(graceMs: number): Promise<void>
}

/** Not listening yet. */
export const createStatusServer = (deps: StatusDeps): StatusServer => {
  const handle = createStatusHandler(deps)
  let closing = false
  const server = createServer(
    {
      headersTimeout: headersTimeoutMs,
      requestTimeout: requestTimeoutMs,
      keepAliveTimeout: keepAliveTimeoutMs,
      connectionsCheckingInterval: 5000,
      maxHeaderSize: maxHeaderBytes,
      noDelay: true,
      // A request without a body has no stream events then, which nothing here waits for: a third of what such a request costs.
      optimizeEmptyRequests: true,
    },
    (request, response) => {
      if (closing) response.shouldKeepAlive = false
      // Node's parser also takes HTTP/0.9, and versions that have no such form: a proxy in front would read them in another way.
      if (request.httpVersionMajor === 1) handle(request, response)
      else
        request.socket.end('HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
    },
  )
  server.maxConnections = maxConnections
  server.timeout = idleTimeoutMs
  return {
    server,
    close: graceMs =>
      new Promise(resolve => {
        closing = true
        const poll = setInterval(() => server.closeIdleConnections(), drainPollMs)
        const cut = setTimeout(() => server.closeAllConnections(), graceMs)
        server.close(() => {
          clearInterval(poll)
          clearTimeout(cut)
          resolve()
        })
      }),
  }
}
