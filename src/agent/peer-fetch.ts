// HTTP/1.1 calls to peers under one generation of an identity: one pool of connections a peer. When the identity is renewed all of them
// are replaced: calls under way finish on the old connections, no new call starts there, and no TLS session is ever resumed, because
// a resumed one would still show the old certificate.
import { Agent, type Dispatcher, type RequestInit, type Response, fetch as undiciFetch } from 'undici'
import type { SpiffeId } from '../pki/spiffe.ts'
import type { Credential } from './credential.ts'
import { AgentError } from './errors.ts'
import { createPeerTls, type PeerTlsOptions, type PeerTrust, parsePeer } from './peer-proof.ts'

/** As of `fetch`, and whom the answer must come from. */
export interface PeerRequestInit extends Omit<RequestInit, 'dispatcher'> {
  /** SPIFFE ID of the server. Its certificate must lead to this identity's trust bundle and name exactly this. */
  readonly peer: string
}

/** The reason that undici wrapped into "fetch failed". */
const unwrapped = (error: unknown): unknown => {
  for (let at: unknown = error; at instanceof Error; at = at.cause) if (at instanceof AgentError) return at
  return error
}

export interface PeerConnections {
  /** What `tls.connect` takes under this generation. */
  tls(peer: SpiffeId): PeerTlsOptions
  fetch(url: string | URL, init: PeerRequestInit): Promise<Response>
  dispatch(peer: SpiffeId, options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean
  /** No further calls; those under way finish, then all connections close, and it resolves. */
  retire(): Promise<void>
  /** Ends calls under way too. @param reason that they hear */
  destroy(reason: Error | null): Promise<void>
}

/** The connections of one generation. @param now the wall clock, for the validity of peers' certificates */
export const createPeerConnections = (credential: Credential, trust: PeerTrust, now: () => number): PeerConnections => {
  const tls = createPeerTls(credential, trust, now)
  const agents = new Map<SpiffeId, Agent>()
  let [starting, retired] = [0, false]

  const agentFor = (peer: SpiffeId): Agent => {
    let agent = agents.get(peer)
    if (agent === undefined) {
      agent = new Agent({ allowH2: false, connect: { ...tls(peer), maxCachedSessions: 0 } })
      agents.set(peer, agent)
    }
    return agent
  }

  const closed = Promise.withResolvers<void>()
  // undici's close waits for the calls that it knows of: one that is about to reach it must not find it closed.
  const closeWhenIdle = (): void => {
    if (retired && starting === 0)
      Promise.allSettled([...agents.values()].map(agent => agent.close())).then(() => closed.resolve())
  }

  return {
    tls,
    fetch: async (url, { peer, ...init }) => {
      const id = parsePeer(peer)
      if (!URL.canParse(url) || new URL(url).protocol !== 'https:')
        throw AgentError.of('option_invalid', `expected an https URL, got ${url}`)
      starting++
      try {
        return await undiciFetch(url, { ...init, dispatcher: agentFor(id) })
      } catch (error) {
        throw unwrapped(error)
      } finally {
        starting--
        closeWhenIdle()
      }
    },
    dispatch: (peer, options, handler) => {
      const { origin } = options
      if (!URL.canParse(String(origin)) || new URL(String(origin)).protocol !== 'https:')
        throw AgentError.of('option_invalid', `expected an https URL, got ${origin}`)
      return agentFor(peer).dispatch(options, handler)
    },
    retire: () => {
      retired = true
      closeWhenIdle()
      return closed.promise
    },
    destroy: async reason => {
      await Promise.allSettled([...agents.values()].map(agent => agent.destroy(reason)))
    },
  }
}
