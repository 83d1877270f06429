// Who calls, and whether they may, for every way in which a call comes: over a connection, through a proxy at its other end, with a chain.
// And which connections have to be cut. The rules are decision.ts; hooks are judgement.ts; what is known is keeper.ts.
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Clock } from '../base/clock.ts'
import { CallRefused, checkDemand, decideCall, type Peer, type VerifiedPeer } from '../verify/decision.ts'
import type { PrincipalKind } from '../verify/feed-event.ts'
import { type Connection, type Connections, peerOf } from './connections.ts'
import { readForwardedChain } from './forwarded.ts'
import type { CallRequest, Demand, Judging } from './judgement.ts'
import type { Keeper } from './keeper.ts'
import type { VerifierSettings } from './options.ts'
import type { Proofs } from './proof.ts'
import { createWatchedCallers } from './watched-callers.ts'

export type JudgedRequest = Pick<IncomingMessage, 'socket'> & CallRequest & { readonly upgrade?: boolean }

export interface CallJudge {
  /**
   * @param lasting for a connection that carries no other call from now on: it is cut once this is not met any more. An upgraded one has to
   *   go on to meet `demand` @throws CallRefused, VerifyError: the rule that was broken
   */
  verifyRequest(request: JudgedRequest, demand?: Demand, lasting?: () => Demand): VerifiedPeer
  /** @throws as verifyRequest */
  verifyOver(connection: Connection | null, request: CallRequest, demand: Demand): VerifiedPeer
  /** @throws as verifyRequest; PkiError for bytes that are no certificate */
  verifyChain(chain: readonly Uint8Array[], demand?: Demand, request?: CallRequest): VerifiedPeer
  /** Aborts when the caller of a request that was let in may not call any more, whether or not its connection is still there. */
  signalOf(request: IncomingMessage): AbortSignal
  /** Whether a trusted proxy is at the other end. */
  isFromProxy(socket: Socket): boolean
  /** Cuts what may not call any more. */
  cutAll(): void
  /** What connections prove to those whose anchors have changed. */
  reprove(): void
  /** Refuses everybody from now on. */
  close(): void
}

export interface CallJudgeDeps {
  readonly settings: Pick<VerifierSettings, 'kinds' | 'trustedProxies' | 'maxConnectionAgeMs'>
  readonly clock: Pick<Clock, 'monotonic'>
  readonly keeper: Pick<Keeper, 'state' | 'freshness' | 'now' | 'version'>
  readonly connections: Connections
  readonly proofs: Proofs
  readonly judging: Judging
}

/** Ends of certificates and of what vouches for the state are noticed so late at most. */
const standingMs = 50
const none: readonly string[] = []
const noDemand: Demand = {}

export const createCallJudge = (deps: CallJudgeDeps): CallJudge => {
  const { clock, keeper, connections, judging } = deps
  const deciding = createDeciding(deps)
  const { decide, callerOf, isTrustedProxy, close, isClosed } = deciding

  /** A decision of a moment ago on the same connection holds as long as nothing else is known: most requests come in a row. */
  const standingOf = (connection: Connection | null): VerifiedPeer | null => {
    const standing = connection?.standing
    if (standing == null || standing.version !== keeper.version() || isClosed()) return null
    return clock.monotonic() < standing.until ? standing.verified : null
  }
  const judgeRequest = (connection: Connection | null, request: JudgedRequest, demand: Demand): VerifiedPeer => {
    const known = standingOf(connection)
    if (known !== null)
      return judging.judge(
        { demand, request },
        () => known,
        (_, { roles = none, scopes = none }) => {
          if (roles !== none || scopes !== none) checkDemand(known, { roles, scopes })
          return known
        },
      )
    const version = keeper.version()
    return judging.judge(
      { demand, request },
      () => callerOf(connection, request.headers),
      (peer, wanted) => {
        const verified = decide(peer, wanted)
        // Not of those who come through a proxy: on its connection the next one is somebody else.
        if (connection !== null && 'peer' in connection.proof && connection.proof.peer === peer)
          connection.standing = { verified, version, until: clock.monotonic() + standingMs }
        return verified
      },
    )
  }

  const verifyRequest: CallJudge['verifyRequest'] = (request, demand = noDemand, lasting) => {
    const connection = connections.of(request.socket as Socket)
    const peer = judgeRequest(connection, request, demand)
    // node:http sets it where it gives the connection away: no request will be judged on it after this one.
    const held = lasting ?? (request.upgrade === true ? () => demand : null)
    if (held !== null && connection !== null) connection.lasting = { peer, demand: held }
    return peer
  }

  const cut = createCutting(deps, deciding)
  const watched = createWatchedCallers()
  const cutAll = (): void => {
    watched.judge(peer => void decide(peer, noDemand))
    for (const connection of [...connections.all()]) cut(connection)
  }

  return {
    verifyRequest,
    verifyOver: (connection, request, demand) =>
      judging.judge({ demand, request }, () => callerOf(connection, request.headers), decide),
    verifyChain: (chain, demand = noDemand, request) =>
      judging.judge({ demand, request: request ?? null }, () => deps.proofs.of(chain, keeper.now()).peer, decide),
    signalOf: ({ socket, headers }) => {
      const connection = connections.of(socket)
      return watched.signalOf(callerOf(connection, headers), connection!)
    },
    isFromProxy: socket => {
      const proof = connections.of(socket)?.proof
      return proof !== undefined && 'peer' in proof && isTrustedProxy(proof.peer)
    },
    cutAll,
    reprove: () => connections.reprove(keeper.now(), watched.lose),
    close: () => {
      close()
      // Whoever is connected would be cut by nobody any more.
      cutAll()
    },
  }
}

const createDeciding = ({ settings, keeper, proofs }: CallJudgeDeps) => {
  let closed = false
  const decideAs = (kinds: readonly PrincipalKind[], peer: Peer, { roles = [], scopes = [] }: Demand): VerifiedPeer => {
    if (closed) throw new CallRefused('state_unknown', 'the verifier was disposed of')
    return decideCall({
      peer,
      state: keeper.state,
      freshness: keeper.freshness(),
      now: keeper.now(),
      rules: { kinds, roles, scopes },
    })
  }
  /** Of whatever kind: it is named. */
  const decideProxy = (peer: Peer): VerifiedPeer => decideAs([peer.kind], peer, noDemand)
  const isTrustedProxy = ({ spiffeId }: Peer): boolean => settings.trustedProxies.has(spiffeId)
  /** Whoever calls by a connection, or through a proxy at its other end. */
  const callerOf = (connection: Connection | null, headers: IncomingHttpHeaders = {}): Peer => {
    const now = keeper.now()
    const peer = peerOf(connection, now)
    if (!isTrustedProxy(peer)) return peer
    decideProxy(peer)
    return proofs.of(readForwardedChain(headers), now).peer
  }
  return {
    decide: (peer: Peer, demand: Demand): VerifiedPeer => decideAs(settings.kinds, peer, demand),
    decideProxy,
    isTrustedProxy,
    callerOf,
    isClosed: () => closed,
    close: () => {
      closed = true
    },
  }
}

/** A connection that never proved anything is not cut: its requests hear why. */
const createCutting =
  ({ settings, clock }: CallJudgeDeps, { decide, decideProxy, isTrustedProxy }: ReturnType<typeof createDeciding>) =>
  (connection: Connection): void => {
    const { proof, socket, openedAt, lasting } = connection
    if ('refused' in proof) return
    try {
      if (clock.monotonic() - openedAt > settings.maxConnectionAgeMs) throw new Error('the connection is too old')
      if (isTrustedProxy(proof.peer)) decideProxy(proof.peer)
      else decide(proof.peer, noDemand)
      if (lasting !== null) decide(lasting.peer, lasting.demand())
    } catch {
      socket.destroy()
    }
  }
