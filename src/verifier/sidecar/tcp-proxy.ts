// The sidecar in front of a backend that speaks anything over TCP: the caller is verified when it connects, and its connection is cut by the
// verifier when it is revoked, held, lacks a scope or its certificate ends. Inside the connection nothing is read.
import { connect } from 'node:net'
import { createServer, type Server } from 'node:tls'
import { messageOf } from '../../base/errors.ts'
import type { Log } from '../../base/log.ts'
import type { PrincipalKind } from '../../verify/feed-event.ts'
import type { AgentVerifier } from '../verifier.ts'
import type { TellRefusal } from './decide.ts'
import { handshakeTimeout } from './forward-auth.ts'
import { joined } from './http-proxy.ts'
import type { Place } from './listen.ts'

export interface TcpProxyDeps {
  readonly verifier: Pick<AgentVerifier, 'verifyRequest' | 'attach' | 'tlsOptions'>
  readonly upstream: Place
  readonly kinds: readonly PrincipalKind[]
  /** Demanded of every connection. */
  readonly scopes: () => readonly string[]
  readonly tell: TellRefusal
  readonly log: Log
}

export const createTcpProxy = (deps: TcpProxyDeps): Server => {
  const server = createServer({ ...deps.verifier.tlsOptions(), handshakeTimeout })
  deps.verifier.attach(server)
  server.on('secureConnection', socket => {
    socket.on('error', () => socket.destroy())
    try {
      const demand = () => ({ kinds: deps.kinds, scopes: deps.scopes() })
      deps.verifier.verifyRequest({ socket } as never, demand(), demand)
    } catch (error) {
      deps.tell(error, { method: 'CONNECT', url: '' })
      socket.destroy()
      return
    }
    const { upstream } = deps
    const onward = 'path' in upstream ? connect(upstream.path) : connect(upstream.port, upstream.host)
    onward.once('error', error => {
      deps.log.warn({ reason: messageOf(error) }, 'the backend does not answer')
      socket.destroy()
    })
    joined(socket, onward)
  })
  return server
}
