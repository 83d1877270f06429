// Calls to peers under this identity: one pool of connections per generation and peer, all of them replaced when the identity is
// renewed. Calls under way finish on the old connections; no new call starts there, and no TLS session is ever resumed, because a
// resumed one would still show the old certificate.
import { Agent, type RequestInit, type Response, fetch as undiciFetch } from 'undici'
import { isAgentCaError } from '../base/errors.ts'
import { parseSpiffeId, type SpiffeId } from '../pki/spiffe.ts'
import { type Credential, tlsMaterialOf } from './credential.ts'
import { AgentError } from './errors.ts'
import { checkIsPeer } from './server-identity.ts'

/** As of `fetch`, and whom the answer must come from. */
export interface PeerRequestInit extends Omit<RequestInit, 'dispatcher'> {
  /** SPIFFE ID of the server. Its certificate must lead to this identity's trust bundle and name exactly this. */
  readonly peer: string
}

const parsePeer = (peer: unknown): SpiffeId => {
  try {
    if (typeof peer === 'string') return parseSpiffeId(peer)
  } catch (error) {
    if (!isAgentCaError(error)) throw error
    throw AgentError.of('option_invalid', `peer: ${error.message}`, { cause: error })
  }
  throw AgentError.of('option_missing', 'a call needs the SPIFFE ID of its peer', {
    hint: "fetch(url, { peer: 'spiffe://TRUST-DOMAIN/service/NAME' })",
  })
}

/** The reason that undici wrapped into "fetch failed". */
const unwrapped = (error: unknown): unknown => {
  for (let at: unknown = error; at instanceof Error; at = at.cause) if (at instanceof AgentError) return at
  return error
}

export interface PeerConnections {
  fetch(url: string | URL, init: PeerRequestInit): Promise<Response>
  /** No further calls; those under way finish, then all connections close, and it resolves. */
  retire(): Promise<void>
  /** Ends calls under way too. */
  destroy(): Promise<void>
}

/** The connections of one generation. */
export const createPeerConnections = (credential: Credential): PeerConnections => {
  const material = tlsMaterialOf(credential)
  const agents = new Map<SpiffeId, Agent>()
  let [starting, retired] = [0, false]

  const agentFor = (peer: SpiffeId): Agent => {
    let agent = agents.get(peer)
    if (agent === undefined) {
      agent = new Agent({
        allowH2: false,
        connect: {
          ...material,
          minVersion: 'TLSv1.3',
          maxCachedSessions: 0,
          rejectUnauthorized: true,
          checkServerIdentity: checkIsPeer(peer),
        },
      })
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
    retire: () => {
      retired = true
      closeWhenIdle()
      return closed.promise
    },
    destroy: async () => {
      await Promise.allSettled([...agents.values()].map(agent => agent.destroy()))
    },
  }
}
