// Who calls, and whether they may, for every way in which a call comes: over a connection, through a proxy at its other end, with a chain.
// And which connections have to be cut. The rules are decision.ts; hooks are judgement.ts; what is known is keeper.ts.
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { CallRefused, checkDemand, decideCall, type Peer, type VerifiedPeer } from '../verify/decision.ts'
import type { PrincipalKind } from '../verify/feed-event.ts'
import type { Proof } from '../verify/verify-peer.ts'
import { type Answer, type Answered, answerOf, ofSocket } from './answers.ts'
import { forwardedSource } from './call-source.ts'
import { type Connection, type Connections, peerOf } from './connections.ts'
import { readForwardedChain } from './forwarded.ts'
import type { Call, CallRequest, Demand, Judging } from './judgement.ts'
import type { Keeper } from './keeper.ts'
import type { VerifierSettings } from './options.ts'
import { Pass } from './pass.ts'
import { ruleOf } from './problem.ts'
import type { Proofs } from './proof.ts'
import { createStandingCalls, type StandingCall } from './standing-calls.ts'
import { createWatchedCallers } from './watched-callers.ts'

export type JudgedRequest = Pick<IncomingMessage, 'socket'> & CallRequest & Pick<Answered, 'upgrade' | 'stream'>

export interface CallJudge {
  /**
   * What answers it is ended once `demand` is not met any more.
   * @param lasting what it has to meet instead from now on. Where it is not known what answers it (no request of these servers, no
   *   `stream`), that is the whole connection, which must carry no other call @throws CallRefused, VerifyError: the rule that was broken
   */
  verifyRequest(request: JudgedRequest, demand?: Demand, lasting?: () => Demand): VerifiedPeer
  /** @param answer is ended once `demand` is not met any more @throws as verifyRequest */
  verifyOver(connection: Connection | null, request: CallRequest, demand: Demand, answer: Answer): VerifiedPeer
  /** @throws as verifyRequest; PkiError for bytes that are no certificate */
  verifyChain(chain: readonly Uint8Array[], demand?: Demand, request?: CallRequest & Pick<Call, 'from'>): VerifiedPeer
  /**
   * Aborts when the caller of a request that was let in may not call any more or does not meet the demand any more, whether or not its
   * connection is still there. What is conditional of the demand counts for as long as the request is being answered.
   */
  signalOf(request: IncomingMessage, peer: Peer, demand: Demand): AbortSignal
  /** Whether a trusted proxy is at the other end. */
  isFromProxy(socket: Socket): boolean
  /** Cuts what may not call any more, and ends answers whose calls would be refused now. */
  cutAll(): void
  /** Answers that were ended so while their connections went on, and connections that were cut. */
  readonly ended: { readonly answers: number; readonly connections: number }
  /** What connections prove to those whose anchors have changed. */
  reprove(): void
  /** Refuses everybody from now on. */
  close(): void
}

export interface CallJudgeDeps {
  readonly settings: Pick<VerifierSettings, 'kinds' | 'trustedProxies' | 'forwardedFor' | 'maxConnectionAgeMs'>
  readonly clock: Pick<Clock, 'monotonic'>
  readonly keeper: Pick<Keeper, 'state' | 'freshness' | 'trustedForMs' | 'now' | 'version'>
  readonly connections: Connections
  readonly proofs: Proofs
  readonly judging: Judging
  readonly log: Log
}

/** A clock that is stepped is noticed so late at most; every other end that is known of is an end of what was decided too. */
const passMs = 500
const none: readonly string[] = []
const noDemand: Demand = {}

export const createCallJudge = (deps: CallJudgeDeps): CallJudge => {
  const { clock, keeper, connections, judging } = deps
  const deciding = createDeciding(deps)
  const { decide, callerOf, close } = deciding

  /** Both only grow: with another sum something is known that was not, or others hang on judgements. */
  const version = (): number => keeper.version() + judging.version()
  const isFromProxy = (connection: Connection | null): boolean => connection?.isFromProxy === true
  const callOf = (connection: Connection | null, request: CallRequest, demand: Demand): Call =>
    isFromProxy(connection)
      ? {
          demand,
          request,
          from: forwardedSource(deps.settings.forwardedFor, request.headers ?? {}, request.socket?.remoteAddress),
        }
      : { demand, request }

  const judgeBy = (
    pass: Pass | null,
    connection: Connection | null,
    call: Call,
    headers: IncomingHttpHeaders | undefined,
  ): VerifiedPeer => {
    const known = pass?.verified
    if (known !== undefined)
      return judging.judge(
        call,
        () => known,
        (_, { roles = none, scopes = none }) => {
          if (roles !== none || scopes !== none) checkDemand(known, { roles, scopes })
          return known
        },
      )
    const before = version()
    return judging.judge(
      call,
      () => callerOf(connection, headers),
      (peer, wanted) => {
        const verified = decide(peer, wanted)
        // Not of those who come through a proxy: on its connection the next one is somebody else.
        if (connection !== null && 'peer' in connection.proof && connection.proof.peer === peer)
          connection.pass = new Pass(verified, before, clock.monotonic() + holdsForMs(connection.proof, keeper))
        return verified
      },
    )
  }

  const stand = createStanding(deciding)
  const verifyRequest: CallJudge['verifyRequest'] = (request, demand = noDemand, lasting) => {
    const connection = connections.of(request.socket as Socket)
    const at = clock.monotonic()
    const last = connection?.pass ?? null
    const pass = last !== null && last.version === version() && at < last.until ? last : null
    if (pass !== null && lasting === undefined && pass.isLast(request, demand) && judging.repeat(pass.counted, at)) {
      if (pass.isDemanding) stand(connection!, pass.verified, { demand, request }, null, answerOf(request))
      return pass.verified
    }
    const call = callOf(connection, request, demand)
    const peer = judgeBy(pass, connection, call, request.headers)
    connection?.pass?.remember(request, demand, judging.counted())
    if (connection !== null) stand(connection, peer, call, lasting ?? null, answerOf(request))
    return peer
  }

  const watched = createWatchedCallers()
  const cutting = createCutting(deps, deciding)
  const cutAll = (): void => {
    watched.judge((peer, demand) => void decide(peer, demand))
    for (const connection of [...connections.all()]) cutting.cut(connection)
  }

  return {
    verifyRequest,
    verifyOver: (connection, request, demand, answer) => {
      const call = callOf(connection, request, demand)
      const peer = judging.judge(call, () => callerOf(connection, request.headers), decide)
      if (connection !== null) stand(connection, peer, call, null, answer)
      return peer
    },
    verifyChain: (chain, demand = noDemand, request) =>
      judging.judge(
        request?.from === undefined ? { demand, request: request ?? null } : { demand, request, from: request.from },
        () => deps.proofs.of(chain, keeper.now()).peer,
        decide,
      ),
    signalOf: (request, peer, demand) => {
      const connection = connections.of(request.socket)
      try {
        decide(peer, demand)
      } catch (reason) {
        // Between the judgement and the question.
        return AbortSignal.abort(reason)
      }
      const ofCaller = watched.signalOf(peer, demand, connection!)
      const ofCall = demand.conditional === undefined ? null : (connection?.calls?.signalOf(request) ?? null)
      return ofCall === null ? ofCaller : AbortSignal.any([ofCaller, ofCall])
    },
    isFromProxy: socket => isFromProxy(connections.of(socket)),
    cutAll,
    get ended() {
      return cutting.ended()
    },
    reprove: () => connections.reprove(keeper.now(), watched.lose),
    close: () => {
      close()
      for (const connection of connections.all()) connection.pass = null
      // Whoever is connected would be cut by nobody any more.
      cutAll()
    },
  }
}

/** RFC 5280 §4.1.2.5: the second that a certificate ends in is included. */
const holdsForMs = (
  { path: { notAfter, currentUntil } }: Proof,
  { now, trustedForMs }: Pick<Keeper, 'now' | 'trustedForMs'>,
): number => Math.min(passMs, notAfter + 1000 - now(), currentUntil - now(), trustedForMs())

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
    close: () => {
      closed = true
    },
  }
}

/** What the connection itself is cut for needs no watching of its own, and most calls are over at once. */
const createStanding =
  ({ isTrustedProxy }: ReturnType<typeof createDeciding>) =>
  (
    connection: Connection,
    peer: VerifiedPeer,
    call: Call,
    lasting: (() => Demand) | null,
    known: Answer | null,
  ): void => {
    const { roles = none, scopes = none, conditional } = call.demand
    const isDemanding = roles.length > 0 || scopes.length > 0 || conditional !== undefined || lasting !== null
    const isOwn = 'peer' in connection.proof && !isTrustedProxy(connection.proof.peer)
    if (!isDemanding && isOwn) return
    const answer = known ?? (lasting === null ? null : ofSocket(connection.socket))
    if (answer === null) return
    connection.calls ??= createStandingCalls()
    connection.calls.add({ peer, call, lasting, answer })
  }

const createCutting = (
  { settings, clock, judging, log }: CallJudgeDeps,
  { decide, decideProxy, isTrustedProxy }: ReturnType<typeof createDeciding>,
) => {
  let answers = 0
  let cuts = 0
  const stillMay = ({ peer, call, lasting }: StandingCall): void => {
    const now = lasting === null ? call : { ...call, demand: lasting() }
    try {
      judging.again(decide(peer, now.demand), now)
    } catch (error) {
      log.info({ peer: peer.spiffeId, rule: ruleOf(error) }, 'an answer is ended: the call would be refused now')
      throw error
    }
  }
  return {
    ended: () => ({ answers, connections: cuts }),
    /** A connection that never proved anything is not cut: its requests hear why. */
    cut: ({ proof, socket, openedAt, calls }: Connection): void => {
      if ('refused' in proof) return
      try {
        if (clock.monotonic() - openedAt > settings.maxConnectionAgeMs) throw new Error('the connection is too old')
        if (isTrustedProxy(proof.peer)) decideProxy(proof.peer)
        else decide(proof.peer, noDemand)
      } catch {
        cuts++
        socket.destroy()
        return
      }
      if (calls !== null) answers += calls.judge(stillMay)
    },
  }
}
