// Clients of other makes under this identity: undici's Dispatcher (and with it any fetch), node:https's Agent, HTTP/2, and options for
// whoever calls tls.connect. Each asks for the present generation at every connection, so that none of them notices a renewal: requests
// in flight finish where they are, and connections of an older generation are dropped once they are free.
import type { ClientRequestArgs } from 'node:http'
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type ClientSessionRequestOptions,
  connect as connectHttp2,
  type OutgoingHttpHeaders,
} from 'node:http2'
import { type AgentOptions, Agent as HttpsAgent } from 'node:https'
import type { Duplex } from 'node:stream'
import { Dispatcher } from 'undici'
import type { SpiffeId } from '../pki/spiffe.ts'
import { type PeerTlsOptions, parsePeer } from './peer-proof.ts'
import type { Present } from './present.ts'

/** Whom the answers must come from. */
export interface PeerOptions {
  /** SPIFFE ID of the server. */
  readonly peer: string
}

export interface HttpsAgentOptions extends PeerOptions {
  /** As of `https.Agent`; connections are kept alive unless it says otherwise. */
  readonly agent?: Omit<AgentOptions, keyof PeerTlsOptions | 'maxCachedSessions'>
}

/** One peer over HTTP/2: a session that is replaced when the identity is renewed, ends, or breaks. */
export interface Http2Client extends AsyncDisposable {
  /** As of `ClientHttp2Session`. @throws AgentError why no call may start */
  request(headers?: OutgoingHttpHeaders, options?: ClientSessionRequestOptions): ClientHttp2Stream
}

export interface PeerClients {
  /** For `fetch(url, { dispatcher })`, undici's own or Node's, and for `setGlobalDispatcher`. */
  dispatcher(options: PeerOptions): Dispatcher
  /** For `https.request({ agent })` and every library that takes one. */
  httpsAgent(options: HttpsAgentOptions): HttpsAgent
  http2(authority: string | URL, options: PeerOptions): Http2Client
  /**
   * For `tls.connect`, `https.request` without an agent, and others that copy options when they connect: each time they are read they
   * are the present generation's. A client that keeps TLS sessions must not: a resumed one shows the old certificate.
   */
  tlsOptions(options: PeerOptions): PeerTlsOptions
  /** Ends what has no end of its own. */
  close(): void
}

class PeerDispatcher extends Dispatcher {
  readonly #present: Present
  readonly #peer: SpiffeId

  constructor(present: Present, peer: SpiffeId) {
    super()
    this.#present = present
    this.#peer = peer
  }

  override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    try {
      return this.#present.connections().dispatch(this.#peer, options, handler)
    } catch (error) {
      // As undici's own: what cannot be sent is told to whoever waits for the answer.
      if (handler.onResponseError === undefined) throw error
      handler.onResponseError(null as never, error as Error)
      return true
    }
  }

  // Connections belong to the identity: it ends them.
  override async close(): Promise<void> {}
  override async destroy(): Promise<void> {}
}

type Named = ClientRequestArgs & { agentcaGeneration?: string }

class PeerHttpsAgent extends HttpsAgent {
  readonly #present: Present
  readonly #peer: SpiffeId
  /** Which generation each connection was made under. */
  readonly #made = new WeakMap<Duplex, string>()

  constructor(present: Present, peer: SpiffeId, options: AgentOptions) {
    super({ keepAlive: true, ...options, maxCachedSessions: 0 })
    this.#present = present
    this.#peer = peer
    present.on('renewed', () => this.#dropOld())
    present.on('locked', () => this.destroy())
    present.ended.addEventListener('abort', () => this.destroy(), { once: true })
  }

  #generation(): string {
    return this.#present.kept().credential.facts.serial
  }

  #dropOld(): void {
    for (const sockets of Object.values(this.freeSockets))
      for (const socket of sockets ?? []) if (this.#made.get(socket) !== this.#generation()) socket.destroy()
  }

  // The pool is asked by name when a request comes and when its connection is free again, with the same options: the name says under
  // which generation the request came, so that nobody waits for, or is given, a connection of another one.
  override getName(options?: Named): string {
    if (options === undefined) return super.getName(options)
    // A kept connection would still serve a call that must not start.
    if (options.agentcaGeneration === undefined) this.#present.checkUsable()
    options.agentcaGeneration ??= this.#generation()
    return `${super.getName(options)}:${options.agentcaGeneration}`
  }

  override createConnection(
    options: ClientRequestArgs,
    callback?: (error: Error | null, socket: Duplex) => void,
  ): Duplex | null | undefined {
    const tls = this.#present.connections().tls(this.#peer)
    const socket = super.createConnection({ ...options, ...tls }, callback)
    if (socket) this.#made.set(socket, this.#generation())
    return socket
  }

  // The types say void; Node takes anything false for "do not keep it".
  override keepSocketAlive(socket: Duplex): boolean {
    if (this.#made.get(socket) !== this.#generation()) return false
    return (super.keepSocketAlive(socket) as unknown) !== false
  }
}

const createHttp2Client = (present: Present, authority: string | URL, peer: SpiffeId): Http2Client => {
  let session: { readonly of: string; readonly at: ClientHttp2Session } | null = null
  const open = (of: string): ClientHttp2Session => {
    const at = connectHttp2(authority, { ...present.connections().tls(peer) })
    // Streams hear of it too; without a listener it would end the program.
    at.on('error', () => {})
    at.unref()
    session = { of, at }
    return at
  }
  /** Streams under way finish; the session ends behind the last one. */
  const retire = (): void => {
    session?.at.close()
    session = null
  }
  const forget = present.on('renewed', retire)
  const end = (): void => {
    session?.at.destroy(present.ended.reason)
    session = null
  }
  const halted = present.on('locked', error => {
    session?.at.destroy(error)
    session = null
  })
  present.ended.addEventListener('abort', end, { once: true })
  return {
    request: (headers, options) => {
      present.checkUsable()
      const of = present.kept().credential.facts.serial
      const usable = session !== null && session.of === of && !session.at.closed && !session.at.destroyed
      const at = usable ? (session as { readonly at: ClientHttp2Session }).at : open(of)
      const stream = at.request(headers, options)
      at.ref()
      stream.once('close', () => {
        if (!at.destroyed) at.unref()
      })
      return stream
    },
    [Symbol.asyncDispose]: async () => {
      forget()
      halted()
      present.ended.removeEventListener('abort', end)
      const { at } = session ?? {}
      session = null
      if (at !== undefined && !at.destroyed) await new Promise<void>(resolve => at.close(resolve))
    },
  }
}

export const createPeerClients = (present: Present): PeerClients => {
  const agents = new Set<HttpsAgent>()
  return {
    dispatcher: ({ peer }) => new PeerDispatcher(present, parsePeer(peer)),
    httpsAgent: ({ peer, agent = {} }) => {
      const made = new PeerHttpsAgent(present, parsePeer(peer), agent)
      agents.add(made)
      return made
    },
    http2: (authority, { peer }) => createHttp2Client(present, authority, parsePeer(peer)),
    tlsOptions: ({ peer }) => {
      const id = parsePeer(peer)
      const now = (): PeerTlsOptions => present.connections().tls(id)
      return {
        get key() {
          return now().key
        },
        get cert() {
          return now().cert
        },
        get ca() {
          return now().ca
        },
        get checkServerIdentity() {
          return now().checkServerIdentity
        },
        minVersion: 'TLSv1.3',
        rejectUnauthorized: true,
      }
    },
    close: () => {
      for (const agent of agents) agent.destroy()
    },
  }
}
