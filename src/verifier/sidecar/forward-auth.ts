// The endpoint that proxies ask before they let a request through (nginx auth_request, Traefik, Caddy, HAProxy, Envoy's ext_authz over HTTP):
// 200 with an assertion, or 401 or 403. Over a unix socket the file's mode says who may ask; over TCP a proxy proves by mTLS to be one
// of those that are named.
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls'
import type { AgentVerifier } from '../verifier.ts'
import {
  answerOfRefusal,
  askedAbout,
  type DecideDeps,
  decideForwarded,
  type ForwardedBy,
  type TellRefusal,
} from './decide.ts'
import { RequestRefused } from './errors.ts'

export interface ForwardAuthDeps extends DecideDeps {
  readonly verifier: Pick<AgentVerifier, 'verifyChain' | 'verifyRequest' | 'attach' | 'tlsOptions'>
  readonly by: ForwardedBy
  readonly tell: TellRefusal
}

/** Escaped PEM of a chain passes Node's 16 KiB. */
export const serverLimits = { maxHeaderSize: 65_536 } as const
/** One that takes longer is none. */
export const handshakeTimeout = 10_000

const askedOf = ({ method = '', url = '', rawHeaders, socket }: IncomingMessage) => ({
  method,
  url,
  rawHeaders,
  remoteAddress: socket.remoteAddress,
})

const answer = async (deps: ForwardAuthDeps, request: IncomingMessage, response: ServerResponse): Promise<void> => {
  response.setHeader('Cache-Control', 'no-store')
  try {
    const { assertion } = await decideForwarded(deps, deps.by, askedOf(request))
    // Envoy takes nothing but 200 for a yes.
    response.writeHead(200, { [deps.assertionHeader]: assertion, 'Content-Length': 0 }).end()
  } catch (error) {
    deps.tell(error, askedAbout(askedOf(request), deps.by))
    const { status, contentType, body } = answerOfRefusal(error)
    response.writeHead(status, { 'Content-Type': contentType, 'Content-Length': Buffer.byteLength(body) }).end(body)
  }
}

/** Proxies may send the body along (Caddy, Traefik, Envoy); nobody reads it. */
const listener =
  (deps: ForwardAuthDeps, admit: (request: IncomingMessage) => void): RequestListener =>
  (request, response) => {
    request.resume()
    try {
      admit(request)
    } catch (error) {
      deps.tell(error, askedAbout(askedOf(request), deps.by))
      const { status, contentType, body } = answerOfRefusal(error)
      response.writeHead(status, { 'Content-Type': contentType }).end(body)
      return
    }
    void answer(deps, request, response)
  }

/** For a unix socket: whoever may connect may ask. */
export const createLocalForwardAuth = (deps: ForwardAuthDeps): Server =>
  createServer(
    serverLimits,
    listener(deps, () => {}),
  )

/** Long enough to be told no. */
const strangerMs = 5000

export interface RemoteForwardAuth {
  readonly server: TlsServer
  readonly http: { closeIdleConnections(): void; closeAllConnections(): void }
}

/**
 * TLS and HTTP apart: on a server of its own the verifier takes off the header that RFC 9440 gives to proxies, which here is the question.
 * @param proxies SPIFFE IDs, exactly
 */
export const createRemoteForwardAuth = (deps: ForwardAuthDeps, proxies: readonly string[]): RemoteForwardAuth => {
  const admit = ({ socket }: Pick<IncomingMessage, 'socket'>): void => {
    const { spiffeId } = deps.verifier.verifyRequest({ socket })
    if (!proxies.includes(spiffeId)) throw new RequestRefused('proxy_not_accepted', `${spiffeId} is no named proxy`)
  }
  const http = createServer(serverLimits, listener(deps, admit))
  const server = createTlsServer({ ...deps.verifier.tlsOptions(), handshakeTimeout, ALPNProtocols: ['http/1.1'] })
  deps.verifier.attach(server)
  // Owned by this closure: a server for HTTP that does not listen itself knows none of its connections.
  const open = new Set<Socket>()
  const busy = new Set<Socket>()
  http.on('request', ({ socket }, response) => {
    busy.add(socket)
    response.once('close', () => busy.delete(socket))
  })
  server.on('secureConnection', socket => {
    open.add(socket)
    socket.on('error', () => socket.destroy())
    socket.once('close', () => open.delete(socket))
    try {
      admit({ socket })
    } catch {
      // Its requests hear no; without one it does not stay.
      setTimeout(() => socket.destroy(), strangerMs).unref()
    }
    http.emit('connection', socket)
  })
  const end = (which: (socket: Socket) => boolean): void => {
    for (const socket of [...open].filter(which)) socket.destroy()
  }
  return {
    server,
    http: { closeIdleConnections: () => end(socket => !busy.has(socket)), closeAllConnections: () => end(() => true) },
  }
}
