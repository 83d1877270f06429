// The endpoint that proxies ask before they let a request through (nginx auth_request, Traefik, Caddy, HAProxy, Envoy's ext_authz over HTTP):
// 200 with an assertion, or 401 or 403. Over a unix socket the file's mode says who may ask; over TCP a proxy proves by mTLS to be one
// of those that are named.
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https'
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

/** Escaped PEM of a chain passes Node's 16 KiB; a handshake that takes longer is none. */
export const serverLimits = { maxHeaderSize: 65_536, handshakeTimeout: 10_000 } as const

const askedOf = ({ method = '', url = '', rawHeaders }: IncomingMessage) => ({ method, url, rawHeaders })

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

/** @param proxies SPIFFE IDs, exactly */
export const createRemoteForwardAuth = (deps: ForwardAuthDeps, proxies: readonly string[]): HttpsServer => {
  const admit = (request: IncomingMessage): void => {
    const { spiffeId } = deps.verifier.verifyRequest(request)
    if (!proxies.includes(spiffeId)) throw new RequestRefused('proxy_not_accepted', `${spiffeId} is no named proxy`)
  }
  const server = createHttpsServer({ ...deps.verifier.tlsOptions(), ...serverLimits }, listener(deps, admit))
  deps.verifier.attach(server)
  return server
}
