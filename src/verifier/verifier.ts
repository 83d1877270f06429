// `agentVerifier()`: everything a backend needs to know who calls, and to stop a caller at once. It owns the state, the feed, the
// connections of the servers it made or was attached to, and the rotation of their certificate.
import { constants } from 'node:crypto'
import type { RequestListener } from 'node:http'
import { createSecureServer, type Http2SecureServer, type SecureServerOptions } from 'node:http2'
import { createServer, type Server as HttpsServer } from 'node:https'
import type { TLSSocket, Server as TlsServer } from 'node:tls'
import { systemTiming, type Timing } from '../agent/backoff.ts'
import { tlsMaterialOf } from '../agent/credential.ts'
import { lendCalls } from '../agent/identity.ts'
import { silentLog } from '../base/log.ts'
import { CallRefused, type VerifiedPeer } from '../verify/decision.ts'
import type { FeedEvent } from '../verify/feed-event.ts'
import type { Freshness } from '../verify/freshness.ts'
import type { PeerState } from '../verify/verify-peer.ts'
import { createCallJudge, type JudgedRequest } from './call-judge.ts'
import { createConditions } from './conditions.ts'
import { createConnections } from './connections.ts'
import { reportDecisions } from './decision-report.ts'
import { startFeedClient } from './feed-client.ts'
import { followTrust } from './followed-trust.ts'
import { stripBefore } from './forwarded.ts'
import { createGrpc, type Grpc } from './grpc.ts'
import { type Call, type CallRequest, createJudging, type Demand, type JudgementHooks, sourceOf } from './judgement.ts'
import { createKeeper } from './keeper.ts'
import { createMiddleware, type Middleware } from './middleware.ts'
import { type AgentVerifierOptions, readVerifierOptions } from './options.ts'
import { callInThisThread, type Outside, type OutsideDeps } from './outside/calls.ts'
import { callInThread } from './outside/thread.ts'
import { createProofs } from './proof.ts'
import { startPublishedStatePolling } from './published-state.ts'
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

/** @throws AgentCaError `option_invalid`; `directory_in_use` where another process keeps its state in `stateDirectory`, `state_unwritable` */
export const agentVerifier = async (
  options: AgentVerifierOptions,
  { timing, outside = callInThisThread }: VerifierSurroundings = { timing: systemTiming, outside: callInThread },
): Promise<AgentVerifier> => {
  const settings = readVerifierOptions(options)
  const { identity, log = silentLog, onRefused } = options
  const { clock } = timing
  // Given back where what follows throws; else when the verifier is disposed of.
  await using locks = new AsyncDisposableStack()
  if (options.stateDirectory !== undefined) locks.use(await lockStateDirectory(options.stateDirectory))
  const keeper = createKeeper({ clock, log, policy: settings, directory: options.stateDirectory ?? null })

  const calling = outside({ identity, timing, log })
  const caller = { ...identity, fetch: calling.fetch }
  const takeBack = calling.callCa === null ? () => {} : lendCalls(identity, calling.callCa)
  const trust = followTrust({ identity, log, kept: keeper.bundlePem() })
  const connections = createConnections(trust.current)
  const proofs = createProofs(trust.current)
  const judging = createJudging(clock)
  const conditions =
    options.conditions === true
      ? await createConditions({
          identity: caller,
          timing,
          now: keeper.now,
          log,
          directory: options.stateDirectory ?? null,
          // Calls that are being answered are asked the new ones.
          changed: () => calls.cutAll(),
        })
      : null
  judging.addCondition(
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
  const report =
    options.report === 'nothing' ? null : reportDecisions({ verifier: judging, identity: caller, log }, timing)
  if (onRefused !== undefined)
    judging.observe(({ rule, peer }) => {
      if (rule !== null) onRefused({ rule, peer: peer?.spiffeId ?? null })
    })

  const hearPolicies = (): void => conditions?.heard(keeper.state.policies())
  // What was known when this ended the last time; an older version did not keep it.
  if (keeper.state.policies() !== null) hearPolicies()

  const calls = createCallJudge({ settings, clock, keeper, connections, proofs, judging, log })
  const waiting = new Set<() => void>()
  const changed = (): void => {
    calls.cutAll()
    if (keeper.position() === null) return
    for (const ready of waiting) ready()
    waiting.clear()
  }
  let heardPem = keeper.bundlePem()
  const take = (event: FeedEvent, asked: number) => {
    const applied = keeper.take(event, asked)
    if (applied === 'applied' && (event.type === 'policy' || event.type === 'snapshot')) hearPolicies()
    const bundlePem = keeper.bundlePem()
    if (applied === 'applied' && bundlePem !== null && bundlePem !== heardPem) {
      heardPem = bundlePem
      if (trust.heard(bundlePem)) anchorsChanged()
    }
    if (applied === 'applied' && event.type !== 'heartbeat') changed()
    return applied
  }
  const feed = startFeedClient({
    identity: caller,
    log,
    subscriber: options.subscriber ?? identity.current().facts.instance,
    maxStalenessSeconds: Math.ceil(settings.maxStalenessMs / 1000),
    position: keeper.position,
    take,
    timing,
  })
  const published = startPublishedStatePolling({
    identity,
    fetch: calling.fetchPublic,
    keeper,
    timing,
    log,
    statusUrl: settings.statusUrl,
    isLive: () => keeper.freshness().rung === 'live',
    changed: () => {
      hearPolicies()
      changed()
    },
  })
  const timers = [
    setInterval(calls.cutAll, sweepMs),
    setInterval(() => void keeper.save(), saveMs),
    setInterval(keeper.expire, expireMs),
  ].map(timer => timer.unref())

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
  const showOurs = (): void => {
    for (const server of servers) server.setSecureContext(tlsOptions())
  }
  const anchorsChanged = (): void => {
    proofs.forget()
    calls.reprove()
    showOurs()
  }
  const unfollow = identity.onChange(() => {
    if (trust.renewed()) anchorsChanged()
    else showOurs()
  })
  const attach = (server: TlsServer): void => {
    servers.add(server)
    stripBefore(server, calls.isFromProxy)
    server.on('secureConnection', (socket: TLSSocket) => connections.opened(socket, clock.monotonic(), keeper.now()))
    server.once('close', () => servers.delete(server))
  }
  const attached = <S extends HttpsServer | Http2SecureServer>(server: S): S => {
    attach(server)
    return server
  }

  const held = locks.move()
  return {
    ...createMiddleware(calls.verifyRequest, calls.signalOf),
    ...createGrpc({
      tlsOptions,
      attach,
      find: connections.between,
      verify: calls.verifyOver,
    }),
    createServer: listener => attached(createServer(tlsOptions(), listener)),
    createSecureServer: listener =>
      attached(createSecureServer({ ...tlsOptions(), allowHTTP1: true }, listener as never)),
    attach,
    tlsOptions,
    verifyRequest: calls.verifyRequest,
    verifyChain: calls.verifyChain,
    peerState: () => ({ trust: trust.current(), revocation: keeper.state, freshness: keeper.freshness() }),
    observe: judging.observe,
    addCondition: judging.addCondition,
    ready: async () => {
      if (keeper.position() === null) await new Promise<void>(resolve => waiting.add(resolve))
      await conditions?.ready()
    },
    status: () => {
      const position = keeper.position()
      return {
        freshness: keeper.freshness(),
        position: position === null ? null : `${position.epoch}.${position.n}`,
        connected: feed.connected,
        entries: keeper.state.size,
        connections: connections.size,
        ended: calls.ended,
      }
    },
    [Symbol.asyncDispose]: async () => {
      for (const timer of timers) clearInterval(timer)
      unfollow()
      takeBack()
      calls.close()
      await Promise.all([feed.close(), published.close(), conditions?.close(), report?.[Symbol.asyncDispose]()])
      await Promise.all([calling[Symbol.asyncDispose](), keeper.save()])
      await held[Symbol.asyncDispose]()
    },
  }
}
