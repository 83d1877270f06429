// Callers whose handlers want to hear when they may not call so any more. A session may outlive the answer and the connection it was opened
// with, and whoever is revoked may well hang up before the news is here: the signal is the caller's and the demand's, not the connection's.
import type { Peer } from '../verify/decision.ts'
import type { Connection } from './connections.ts'
import type { Demand } from './judgement.ts'

interface Watched {
  /** By the certificate that ends last of those it called with. */
  peer: Peer
  readonly demand: Demand
  /** The last one it called over. */
  over: Connection
  readonly controller: AbortController
}

export interface WatchedCallers {
  /** One for all calls of the same caller with the same roles and scopes demanded, so that a listener added twice is there once. */
  signalOf(peer: Peer, demand: Demand, over: Connection): AbortSignal
  /** Aborts the signals of those for whom this throws, with what it throws. Whoever's last certificate ended is one of them. */
  judge(decide: (peer: Peer, demand: Demand) => void): void
  /** Aborts the signals of those who came over this connection last. */
  lose(over: Connection, reason: unknown): void
}

const none: readonly string[] = []
/** Roles and scopes are of routes, so there are few. Conditions are of single calls, and none of a caller's. */
const keyOf = ({ spiffeId }: Peer, { roles = none, scopes = none }: Demand): string =>
  roles.length === 0 && scopes.length === 0 ? spiffeId : JSON.stringify([spiffeId, roles, scopes])

export const createWatchedCallers = (): WatchedCallers => {
  const callers = new Map<string, Watched>()
  const abort = (key: string, { controller }: Watched, reason: unknown): void => {
    callers.delete(key)
    controller.abort(reason)
  }
  return {
    signalOf: (peer, { roles = none, scopes = none }, over) => {
      const key = keyOf(peer, { roles, scopes })
      const known = callers.get(key)
      const watched = known ?? { peer, demand: { roles, scopes }, over, controller: new AbortController() }
      if (peer.notAfter > watched.peer.notAfter) watched.peer = peer
      watched.over = over
      if (known === undefined) callers.set(key, watched)
      return watched.controller.signal
    },
    judge: decide => {
      for (const [key, watched] of [...callers])
        try {
          decide(watched.peer, watched.demand)
        } catch (error) {
          abort(key, watched, error)
        }
    },
    lose: (over, reason) => {
      for (const [key, watched] of [...callers]) if (watched.over === over) abort(key, watched, reason)
    },
  }
}
