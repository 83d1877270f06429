// Callers whose handlers want to hear when they may not call any more. A session may outlive the connection it was opened on, and whoever is
// revoked may well hang up before the news is here: the signal is the caller's, not the connection's.
import type { Peer } from '../verify/decision.ts'
import type { Connection } from './connections.ts'

interface Watched {
  /** By the certificate that ends last of those it called with. */
  peer: Peer
  /** The last one it called over. */
  over: Connection
  readonly controller: AbortController
}

export interface WatchedCallers {
  /** One for all calls of the same caller, so that a listener added twice is there once. */
  signalOf(peer: Peer, over: Connection): AbortSignal
  /** Aborts the signals of those for whom this throws, with what it throws. Whoever's last certificate ended is one of them. */
  judge(decide: (peer: Peer) => void): void
  /** Aborts the signals of those who came over this connection last. */
  lose(over: Connection, reason: unknown): void
}

export const createWatchedCallers = (): WatchedCallers => {
  const callers = new Map<string, Watched>()
  const abort = ({ peer, controller }: Watched, reason: unknown): void => {
    callers.delete(peer.spiffeId)
    controller.abort(reason)
  }
  return {
    signalOf: (peer, over) => {
      const known = callers.get(peer.spiffeId)
      const watched = known ?? { peer, over, controller: new AbortController() }
      if (peer.notAfter > watched.peer.notAfter) watched.peer = peer
      watched.over = over
      if (known === undefined) callers.set(peer.spiffeId, watched)
      return watched.controller.signal
    },
    judge: decide => {
      for (const watched of [...callers.values()])
        try {
          decide(watched.peer)
        } catch (error) {
          abort(watched, error)
        }
    },
    lose: (over, reason) => {
      for (const watched of [...callers.values()]) if (watched.over === over) abort(watched, reason)
    },
  }
}
