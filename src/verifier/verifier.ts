// `agentVerifier()`: everything a backend needs to know who calls, and to stop a caller at once. It owns the state, the feed, the
// connections of the servers it made or was attached to, and the rotation of their certificate. Here they are put together.
import type { RequestListener } from 'node:http'
import type { Http2SecureServer, SecureServerOptions } from 'node:http2'
import type { Server as HttpsServer } from 'node:https'
import type { Server as TlsServer } from 'node:tls'
import { systemTiming, type Timing } from '../agent/backoff.ts'
import { lendCalls } from '../agent/identity.ts'
import { silentLog } from '../base/log.ts'
import { CallRefused, type VerifiedPeer } from '../verify/decision.ts'
import { encodePosition } from '../verify/feed-event.ts'
import type { Freshness } from '../verify/freshness.ts'
import type { PeerState } from '../verify/verify-peer.ts'
import { type CallJudge, createCallJudge, type JudgedRequest } from './call-judge.ts'
import { type Conditions, type ConditionsDeps, createConditions } from './conditions.ts'
import { type Connections, createConnections } from './connections.ts'
import { reportDecisions } from './decision-report.ts'
import { followTrust } from './followed-trust.ts'
import { createGrpc, type Grpc } from './grpc.ts'
import {
  type Call,
  type CallRequest,
  createJudging,
  type Demand,
  type JudgementHooks,
  type Judging,
  sourceOf,
} from './judgement.ts'
import { createKeeper, type Keeper } from './keeper.ts'
import { createMiddleware, type Middleware } from './middleware.ts'
import { type News, startNews } from './news.ts'
import { type AgentVerifierOptions, readVerifierOptions } from './options.ts'
import { callInThisThread, type Outside, type OutsideDeps } from './outside/calls.ts'
import { callInThread } from './outside/thread.ts'
import { createProofs } from './proof.ts'
import { createServers } from './servers.ts'
import { lockStateDirectory } from './state-lock.ts'

export interface VerifierStatus {
  readonly freshness: Freshness
  /** Of the feed; null before the first state. */
  readonly position: string | null
  readonly connected: boolean
  /** Serials known to be revoked or held. */
  readonly entries: number
  readonly connections: number
  /** Since it was made: answers that were ended while their connections went on, and connections that were cut. */
  readonly ended: { readonly answers: number; readonly connections: number }
}

/** Once it is disposed of it refuses every call, cuts its connections, and says so to the CA: close the servers first. */
export interface AgentVerifier extends AsyncDisposable, Middleware, JudgementHooks, Grpc {
  /** An HTTPS server that asks for client certificates, rotates its own, and whose connections are cut. */
  createServer(listener: RequestListener): HttpsServer
  /** The same for HTTP/2, with HTTP/1.1 for those who speak nothing else. */
  createSecureServer(listener: (request: never, response: never) => void): Http2SecureServer
  /** For a TLS server made elsewhere with `tlsOptions()`. */
  attach(server: TlsServer): void
  tlsOptions(): SecureServerOptions
  /**
   * Judges one request, now. What answers it is ended as soon as its caller does not meet the demand any more: an upgraded connection, an
   * answer over HTTP/1.1 with its connection, a stream of HTTP/2 alone. For a bare `stream` give it along.
   * @param lasting what it has to meet from now on instead. Where it is not known what answers it (no request of these servers), that is
   *   the whole connection, which must carry nothing else
   * @throws CallRefused, VerifyError: the rule that was broken
   */
  verifyRequest(request: JudgedRequest, demand?: Demand, lasting?: () => Demand): VerifiedPeer
  /**
   * Judges a call whose certificate did not come by a handshake of this process. Whoever hands it over must know that its holder proved
   * the key. @param chain DER, leaf first @throws as verifyRequest; PkiError for bytes that are no certificate
   */
  verifyChain(chain: readonly Uint8Array[], demand?: Demand, request?: CallRequest & Pick<Call, 'from'>): VerifiedPeer
  /** What it judges by at this moment, for `verifyPeer`. */
  peerState(): PeerState
  /** Resolves once there is a verified state. */
  ready(): Promise<void>
  status(): VerifierStatus
}

const sweepMs = 1000
const saveMs = 5000
const expireMs = 600_000

/** What a test replaces. */
export interface VerifierSurroundings {
  readonly timing: Timing
  /** How the CA is called; default: by the identity itself, in this thread. */
  readonly outside?: (deps: OutsideDeps) => Outside
}

/** What nothing but time asks for. @returns the function that ends it */
const keepUp = (calls: CallJudge, keeper: Keeper): (() => void) => {
  const timers = [
    setInterval(calls.cutAll, sweepMs),
    setInterval(() => void keeper.save(), saveMs),
    setInterval(keeper.expire, expireMs),
  ].map(timer => timer.unref())
  return () => {
    for (const timer of timers) clearInterval(timer)
  }
}

/** Policies are asked last, and only of calls whose demand is conditional. @param asking null: none are evaluated here */
const askConditions = async (judging: Judging, asking: ConditionsDeps | null): Promise<Conditions | null> => {
  const conditions = asking === null ? null : await createConditions(asking)
  judging.decideConditional(
    (peer, call) => {
      const { conditional } = call.demand
      if (conditional === undefined) return
      if (conditions === null)
        throw new CallRefused('condition_failed', 'this verifier evaluates no policies', { hint: 'conditions: true' })
      conditions.check(peer, conditional, sourceOf(call))
    },
    (peer, { demand: { conditional } }) => {
      if (conditional !== undefined) conditions?.checkAgain(peer, conditional)
    },
  )
  return conditions
}

const tellRefusals = (judging: Judging, { onRefused }: AgentVerifierOptions): void => {
  if (onRefused === undefined) return
  judging.observe(({ rule, peer }) => {
    if (rule !== null) onRefused({ rule, peer: peer?.spiffeId ?? null })
  }, 'refusals')
}

/** @throws AgentCaError `option_invalid`; `directory_in_use` where another process keeps its state in `stateDirectory`, `state_unwritable` */
export const agentVerifier = async (
  options: AgentVerifierOptions,
  { timing, outside = callInThisThread }: VerifierSurroundings = { timing: systemTiming, outside: callInThread },
): Promise<AgentVerifier> => {
  const settings = readVerifierOptions(options)
  const { identity, log = silentLog, stateDirectory: directory = null } = options
  const { clock } = timing
  // Given back where what follows throws; else when the verifier is disposed of.
  await using locks = new AsyncDisposableStack()
  if (directory !== null) locks.use(await lockStateDirectory(directory))
  const keeper = createKeeper({ clock, log, policy: settings, directory })

  const calling = outside({ identity, timing, log })
  const caller = { ...identity, fetch: calling.fetch }
  const takeBack = calling.callCa === null ? () => {} : lendCalls(identity, calling.callCa)
  const trust = followTrust({ identity, log, kept: keeper.bundlePem() })
  const connections = createConnections(trust.current, ({ spiffeId }) => settings.trustedProxies.has(spiffeId))
  const proofs = createProofs(trust.current)
  const judging = createJudging(clock)
  const calls = createCallJudge({ settings, clock, keeper, connections, proofs, judging, log })
  // Calls that are being answered are asked the new ones.
  const asking = { identity: caller, timing, now: keeper.now, log, directory, changed: calls.cutAll }
  const conditions = await askConditions(judging, options.conditions === true ? asking : null)
  const report =
    options.report === 'nothing' ? null : reportDecisions({ verifier: judging, identity: caller, log }, timing)
  tellRefusals(judging, options)

  const policiesHeard = (): void => conditions?.heard(keeper.state.policies())
  // What was known when this ended the last time; an older version did not keep it.
  if (keeper.state.policies() !== null) policiesHeard()

  const servers = createServers({ identity, trust, clock, keeper, connections, isFromProxy: calls.isFromProxy })
  const anchorsChanged = (): void => {
    proofs.forget()
    calls.reprove()
    servers.renew()
  }
  const news = startNews({
    identity: caller,
    calling,
    keeper,
    trust,
    settings,
    subscriber: options.subscriber ?? identity.current().facts.instance,
    timing,
    log,
    policiesHeard,
    anchorsChanged,
    changed: calls.cutAll,
  })
  const unfollow = identity.onChange(() => (trust.renewed() ? anchorsChanged() : servers.renew()))
  const rest = keepUp(calls, keeper)

  const held = locks.move()
  return {
    ...createMiddleware(calls.verifyRequest, calls.signalOf),
    ...createGrpc({ ...servers.ours, find: connections.between, verify: calls.verifyOver }),
    ...servers.ours,
    verifyRequest: calls.verifyRequest,
    verifyChain: calls.verifyChain,
    peerState: () => ({ trust: trust.current(), revocation: keeper.state, freshness: keeper.freshness() }),
    observe: judging.observe,
    addCondition: judging.addCondition,
    ready: async () => {
      await news.ready()
      await conditions?.ready()
    },
    status: () => statusOf({ keeper, news, connections, calls }),
    [Symbol.asyncDispose]: async () => {
      rest()
      unfollow()
      takeBack()
      calls.close()
      await Promise.all([news.close(), conditions?.close(), report?.[Symbol.asyncDispose]()])
      await Promise.all([calling[Symbol.asyncDispose](), keeper.save()])
      await held[Symbol.asyncDispose]()
    },
  }
}

const statusOf = ({
  keeper,
  news,
  connections,
  calls,
}: {
  readonly keeper: Keeper
  readonly news: News
  readonly connections: Connections
  readonly calls: CallJudge
}): VerifierStatus => {
  const position = keeper.position()
  return {
    freshness: keeper.freshness(),
    position: position === null ? null : encodePosition(position),
    connected: news.connected,
    entries: keeper.state.size,
    connections: connections.size,
    ended: calls.ended,
  }
}
