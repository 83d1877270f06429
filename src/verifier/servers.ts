// The TLS servers of a verifier: what they show, kept up with the identity and the anchors; their connections; and what is put around every
// one of their requests. Who may call is decided elsewhere.
import { constants } from 'node:crypto'
import type { IncomingMessage, RequestListener } from 'node:http'
import { createSecureServer, type Http2SecureServer, type SecureServerOptions } from 'node:http2'
import { createServer, type Server as HttpsServer } from 'node:https'
import type { TLSSocket, Server as TlsServer } from 'node:tls'
import { type Credential, tlsMaterialOf } from '../agent/credential.ts'
import type { Clock } from '../base/clock.ts'
import type { Connections } from './connections.ts'
import type { FollowedTrust } from './followed-trust.ts'
import { stripBefore } from './forwarded.ts'
import type { Keeper } from './keeper.ts'

export interface ServersDeps {
  readonly identity: { current(): Credential }
  readonly trust: Pick<FollowedTrust, 'bundlePem'>
  readonly clock: Pick<Clock, 'monotonic'>
  readonly keeper: Pick<Keeper, 'now'>
  readonly connections: Pick<Connections, 'opened'>
  readonly isFromProxy: (socket: IncomingMessage['socket']) => boolean
}

export interface OurServers {
  createServer(listener: RequestListener): HttpsServer
  createSecureServer(listener: (request: never, response: never) => void): Http2SecureServer
  attach(server: TlsServer): void
  tlsOptions(): SecureServerOptions
}

export interface Servers {
  readonly ours: OurServers
  /** Identity or anchors are others now: the next handshakes are made with them. */
  renew(): void
}

export const createServers = (deps: ServersDeps): Servers => {
  const { identity, trust, clock, keeper, connections } = deps
  // Owned by this closure.
  const servers = new Set<TlsServer>()
  const tlsOptions = (): SecureServerOptions => ({
    ...tlsMaterialOf(identity.current()),
    ca: trust.bundlePem(),
    minVersion: 'TLSv1.3',
    // No tickets, and no listener that could resume by id: every connection is a handshake in which the key is proved.
    secureOptions: constants.SSL_OP_NO_TICKET,
    requestCert: true,
    // OpenSSL's verdict is about a handshake; ours is about each request.
    rejectUnauthorized: false,
  })
  const attach = (server: TlsServer): void => {
    servers.add(server)
    stripBefore(server, deps.isFromProxy)
    server.on('secureConnection', (socket: TLSSocket) => connections.opened(socket, clock.monotonic(), keeper.now()))
    server.once('close', () => servers.delete(server))
  }
  const attached = <S extends HttpsServer | Http2SecureServer>(server: S): S => {
    attach(server)
    return server
  }
  return {
    ours: {
      createServer: listener => attached(createServer(tlsOptions(), listener)),
      createSecureServer: listener =>
        attached(createSecureServer({ ...tlsOptions(), allowHTTP1: true }, listener as never)),
      attach,
      tlsOptions,
    },
    renew: () => {
      for (const server of servers) server.setSecureContext(tlsOptions())
    },
  }
}
