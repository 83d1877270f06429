// The one function that builds TLS servers (architecture.md, TLS): TLS 1.3 only, nothing resumes, and a client certificate is asked
// for but never judged here, because OpenSSL judges a handshake and we have to judge each request. front.ts does.
import { constants } from 'node:crypto'
import type { RequestListener } from 'node:http'
import { createServer } from 'node:https'
import { createListener, defaultTimeouts, type Listener, ofVersion1, serverOptions, type Timeouts } from './listener.ts'

/** The server's own key and certificates, PEM. */
export interface Credentials {
  readonly key: string
  /** Leaf first, then the intermediates. */
  readonly chain: string
}

export interface TlsServer extends Listener {
  /** For new connections; the present ones keep what they have. @throws when key and certificate do not fit: nothing changes then */
  setCredentials(credentials: Credentials): void
}

export interface TlsServerOptions {
  readonly credentials: Credentials
  readonly handler: RequestListener
  /** PEM of CAs whose names clients get as a hint which certificate to send. Trust does not come from here. */
  readonly clientCas?: readonly string[]
  readonly timeouts?: Timeouts
  readonly maxConnections?: number
}

const handshakeTimeoutMs = 10_000

export const createTlsServer = (options: TlsServerOptions): TlsServer => {
  const context = ({ key, chain }: Credentials) => ({
    key,
    cert: chain,
    // Not left out: Node would load the public web's roots, which have no say about clients.
    ca: [...(options.clientCas ?? [])],
    minVersion: 'TLSv1.3' as const,
    maxVersion: 'TLSv1.3' as const,
    // No tickets; and without a `resumeSession` listener Node finds no session by its id either, so every connection is a full
    // handshake in which the client proves its key.
    secureOptions: constants.SSL_OP_NO_TICKET,
  })
  const server = createServer(
    {
      ...context(options.credentials),
      ...serverOptions(options.timeouts ?? defaultTimeouts),
      handshakeTimeout: handshakeTimeoutMs,
      requestCert: true,
      rejectUnauthorized: false,
      ALPNProtocols: ['http/1.1'],
    },
    ofVersion1(options.handler),
  )
  return {
    ...createListener(server, options.maxConnections),
    setCredentials: credentials => server.setSecureContext(context(credentials)),
  }
}
