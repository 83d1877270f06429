// The sidecar as the proxy itself: an mTLS listener in front of a backend on this machine. Every request is judged, requests on a
// kept-alive connection and WebSocket upgrades too; what says who calls is set here, and whatever a client sent under such names is gone.
// Connections, upgraded ones included, are cut by the verifier.
import {
  Agent,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type RequestOptions,
  request as requestUpstream,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http'
import { createServer, type Server } from 'node:https'
import type { Duplex } from 'node:stream'
import { messageOf } from '../../base/errors.ts'
import type { Log } from '../../base/log.ts'
import type { JudgedRequest } from '../call-judge.ts'
import type { Demand } from '../judgement.ts'
import type { AgentVerifier } from '../verifier.ts'
import { type CallTarget, parseCallTarget } from './call-target.ts'
import { type Allowed, answerOfRefusal, assertionFor, type DecideDeps, demandOf, type TellRefusal } from './decide.ts'
import { handshakeTimeout, serverLimits } from './forward-auth.ts'
import type { Place } from './listen.ts'
import { checkNoOverride, isSpelling, type RawHeaders } from './request-headers.ts'
import { scopesDemanded } from './requirements.ts'

export interface HttpProxyDeps extends Omit<DecideDeps, 'verifier' | 'intermediates' | 'issuers'> {
  readonly verifier: Pick<AgentVerifier, 'verifyRequest' | 'attach' | 'tlsOptions'>
  readonly upstream: Place
  readonly tell: TellRefusal
  readonly log: Log
}

/** RFC 9110 §7.6.1, and what a connection nominates; `Upgrade` is set again for an upgrade. */
const hopByHop = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
] as const

/** Who calls, as backends and frameworks read it from some proxy or other. */
const identityNames = [
  ...['client-cert', 'client-cert-chain', 'x-forwarded-client-cert', 'x-forwarded-tls-client-cert'],
  ...['x-forwarded-tls-client-cert-info', 'x-ssl-cert', 'x-client-cert', 'ssl-client-cert'],
  ...['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-real-ip'],
] as const

const isIdentityHeader = (header: string, assertionHeader: string): boolean =>
  /^agentca[-_.]/i.test(header) ||
  isSpelling(header, assertionHeader.toLowerCase()) ||
  identityNames.some(name => isSpelling(header, name))

/** Not the sender's to take away: without its length a body would be a request of its own to the backend. */
const neverNominated = ['content-length', 'host'] as const

const nominated = (headers: RawHeaders): ReadonlySet<string> => {
  const names = new Set<string>(hopByHop)
  for (let at = 0; at < headers.length; at += 2)
    if ((headers[at] as string).toLowerCase() === 'connection')
      for (const name of (headers[at + 1] as string).split(',')) names.add(name.trim().toLowerCase())
  for (const name of neverNominated) names.delete(name)
  return names
}

/** What of a client's headers goes on, duplicates as they came. */
const passedOn = (headers: RawHeaders, assertionHeader: string): Record<string, string[]> => {
  const dropped = nominated(headers)
  // Clients choose the names: `constructor` and the like must be none that are there already.
  const passed: Record<string, string[]> = Object.create(null)
  for (let at = 0; at < headers.length; at += 2) {
    const name = (headers[at] as string).toLowerCase()
    if (dropped.has(name) || isIdentityHeader(name, assertionHeader)) continue
    passed[name] = [...(passed[name] ?? []), headers[at + 1] as string]
  }
  return passed
}

const upstreamHeaders = (request: IncomingMessage, { peer, assertion }: Allowed, assertionHeader: string) => {
  const { host, ...passed } = passedOn(request.rawHeaders, assertionHeader)
  const headers: OutgoingHttpHeaders = {
    ...passed,
    // Node writes one Host; a second one never got here.
    ...(host === undefined ? {} : { host: host[0] }),
    [assertionHeader]: assertion,
    'Agentca-Spiffe-Id': peer.spiffeId,
    'Agentca-Kind': peer.kind,
    'Agentca-Name': peer.name,
    ...(peer.instance === null ? {} : { 'Agentca-Instance': peer.instance }),
    'Agentca-Serial': peer.serial,
    'Agentca-Roles': peer.roles.join(' '),
    'Agentca-Scopes': peer.scopes.join(' '),
    'X-Forwarded-For': request.socket.remoteAddress ?? '',
    'X-Forwarded-Proto': 'https',
  }
  // A body without a length came in chunks and goes on so.
  if (request.headers['transfer-encoding'] !== undefined) headers['Transfer-Encoding'] = 'chunked'
  return headers
}

const targetOf = (upstream: Place): RequestOptions =>
  'path' in upstream ? { socketPath: upstream.path } : { host: upstream.host, port: upstream.port }

const badGateway = JSON.stringify({
  type: 'urn:agentca:problem:bad_gateway',
  title: 'The backend does not answer',
  status: 502,
})

const answerHeaders = (answer: IncomingMessage): readonly string[] => {
  const dropped = nominated(answer.rawHeaders)
  return answer.rawHeaders.flatMap((name, at) =>
    at % 2 === 0 && !dropped.has(name.toLowerCase()) ? [name, answer.rawHeaders[at + 1] as string] : [],
  )
}

const writeProblem = (response: ServerResponse, status: number, body: string): void => {
  if (response.headersSent) {
    response.destroy()
    return
  }
  response.writeHead(status, { 'Content-Type': 'application/problem+json', 'Content-Length': Buffer.byteLength(body) })
  response.end(body)
}

/** @throws what refuses the call */
const decide = async (deps: HttpProxyDeps, request: JudgedRequest & IncomingMessage): Promise<Allowed> => {
  const target = (): CallTarget => {
    checkNoOverride(request.rawHeaders, [])
    return parseCallTarget(request.method ?? '', request.url ?? '')
  }
  const call = demandOf(deps, target)
  // By the rules as they are read again later, too.
  const lasting = (): Demand => ({ scopes: scopesDemanded(deps.requirements(), deps.otherwise, target()) })
  const peer = deps.verifier.verifyRequest(request, call.demand, lasting)
  return assertionFor(deps, peer, call)
}

/** RFC 9112 §6.3: whether one is announced. */
const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined

/** RFC 9110 §9.2.2: the only ones that may be sent again over another connection when the one that was kept turns out to be closed. */
const isRepeatable = (request: IncomingMessage): boolean =>
  ['GET', 'HEAD', 'OPTIONS'].includes(request.method ?? '') && !hasBody(request)

/** Connections to the backend are kept for such requests alone: any other that met a closing one would be lost. */
const kept = new Agent({ keepAlive: true, maxFreeSockets: 64 })

const forward = (deps: HttpProxyDeps, allowed: Allowed, request: IncomingMessage, response: ServerResponse): void => {
  const repeatable = isRepeatable(request)
  const onward = requestUpstream({
    ...targetOf(deps.upstream),
    agent: repeatable ? kept : false,
    method: allowed.target.method,
    path: allowed.target.uri,
    headers: upstreamHeaders(request, allowed, deps.assertionHeader),
  })
  onward.once('response', answer => {
    response.writeHead(answer.statusCode ?? 502, answer.statusMessage, answerHeaders(answer) as string[])
    // Event streams: the headers alone are news.
    response.flushHeaders()
    answer.pipe(response)
    // An answer that breaks off must not look whole.
    answer.once('error', () => response.destroy())
  })
  onward.once('error', error => {
    if (repeatable && onward.reusedSocket && !response.headersSent && !response.destroyed) {
      forward(deps, allowed, request, response)
      return
    }
    if (!response.destroyed) deps.log.warn({ reason: messageOf(error) }, 'the backend does not answer')
    writeProblem(response, 502, badGateway)
  })
  // The caller has gone or was cut.
  response.once('close', () => {
    if (!response.writableFinished) onward.destroy()
  })
  if (hasBody(request)) request.pipe(onward)
  else {
    request.resume()
    onward.end()
  }
}

const endWithProblem = (socket: Duplex, status: number, body: string): void => {
  const lines = ['Content-Type: application/problem+json', `Content-Length: ${Buffer.byteLength(body)}`]
  const head = [`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, ...lines, 'Connection: close']
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}

const refuseUpgrade = (deps: HttpProxyDeps, request: IncomingMessage, socket: Duplex, error: unknown): void => {
  deps.tell(error, { method: request.method ?? '', url: request.url ?? '' })
  const { status, body } = answerOfRefusal(error)
  endWithProblem(socket, status, body)
}

/**
 * WebSocket alone (RFC 6455 §4.1). Over another protocol, `h2c` above all, a client would make calls that nobody decides on, and say itself
 * who it is.
 */
const isWebSocket = ({ headers }: Pick<IncomingMessage, 'headers'>): boolean =>
  headers.upgrade?.toLowerCase() === 'websocket'

const headLines = ({ statusCode, statusMessage }: IncomingMessage, headers: readonly string[]): string => {
  const lines = [`HTTP/1.1 ${statusCode} ${statusMessage}`]
  for (let at = 0; at < headers.length; at += 2) lines.push(`${headers[at]}: ${headers[at + 1]}`)
  return `${lines.join('\r\n')}\r\n\r\n`
}

/** Either end takes the other along, whichever way it ends. */
export const joined = (one: Duplex, other: Duplex): void => {
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    from.pipe(to)
    from.once('error', () => to.destroy())
    from.once('close', () => to.destroy())
  }
}

const upgrade = (
  deps: HttpProxyDeps,
  allowed: Allowed,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): void => {
  const onward = requestUpstream({
    ...targetOf(deps.upstream),
    agent: false,
    method: allowed.target.method,
    path: allowed.target.uri,
    headers: {
      ...upstreamHeaders(request, allowed, deps.assertionHeader),
      Connection: 'Upgrade',
      Upgrade: 'websocket',
    },
  })
  onward.once('upgrade', (answer, upstream, first) => {
    if (!isWebSocket(answer)) {
      upstream.destroy()
      deps.log.warn(
        { upgrade: answer.headers.upgrade ?? null },
        'the backend changes to another protocol than WebSocket',
      )
      endWithProblem(socket, 502, badGateway)
      return
    }
    socket.write(headLines(answer, answer.rawHeaders))
    if (first.length > 0) socket.write(first)
    if (head.length > 0) upstream.write(head)
    joined(socket, upstream)
  })
  // A backend that upgrades nothing: its answer ends the connection.
  onward.once('response', answer => {
    socket.write(headLines(answer, [...answerHeaders(answer), 'Connection', 'close']))
    answer.pipe(socket)
  })
  onward.once('error', () => socket.destroy())
  socket.once('close', () => onward.destroy())
  onward.end()
}

/** A call that could not be passed on ends alone: what is thrown here would end the process, and every other call with it. */
const notPassedOn = ({ log }: HttpProxyDeps, error: unknown, answer: (status: number, body: string) => void): void => {
  log.error({ reason: messageOf(error) }, 'a call could not be passed on')
  answer(502, badGateway)
}

export const createHttpProxy = (deps: HttpProxyDeps): Server => {
  // An upload may take its time; who sends it is known by then.
  const server = createServer(
    {
      ...deps.verifier.tlsOptions(),
      ...serverLimits,
      handshakeTimeout,
      requestTimeout: 0,
      // RFC 9110 §7.8: an upgrade may be ignored; the request is then one like any other.
      shouldUpgradeCallback: request => isWebSocket(request) && !hasBody(request),
    },
    (request, response) => {
      decide(deps, request)
        .then(
          allowed => forward(deps, allowed, request, response),
          error => {
            deps.tell(error, { method: request.method ?? '', url: request.url ?? '' })
            request.resume()
            const { status, body } = answerOfRefusal(error)
            writeProblem(response, status, body)
          },
        )
        .catch(error => notPassedOn(deps, error, (status, body) => writeProblem(response, status, body)))
    },
  )
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy())
    decide(deps, request)
      .then(
        allowed => upgrade(deps, allowed, request, socket, head),
        error => refuseUpgrade(deps, request, socket, error),
      )
      .catch(error => notPassedOn(deps, error, (status, body) => endWithProblem(socket, status, body)))
  })
  deps.verifier.attach(server)
  return server
}
