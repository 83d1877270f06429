// `agentca-verify serve`: identity, verifier, the listener and the kept lists, put together; and what ends them in order.
import { createHash } from 'node:crypto'
import type { Server as HttpServer } from 'node:http'
import type { Server } from 'node:net'
import { systemTiming } from '../../agent/backoff.ts'
import { type AgentIdentity, agentIdentity } from '../../agent/identity.ts'
import { messageOf } from '../../base/errors.ts'
import type { Log } from '../../base/log.ts'
import { type Certificate, parseCertificate } from '../../pki/certificate.ts'
import { parseOnePem } from '../../pki/pem.ts'
import type { PrincipalKind } from '../../verify/feed-event.ts'
import { type AgentVerifier, agentVerifier } from '../verifier.ts'
import { createAssert } from './assertion.ts'
import { openAssertionKey } from './assertion-key.ts'
import { createChangeHook } from './change-hook.ts'
import { keepCrlFile } from './crl-files.ts'
import { createTellRefusal } from './decide.ts'
import { usage } from './errors.ts'
import { createLocalForwardAuth, createRemoteForwardAuth } from './forward-auth.ts'
import { createHttpProxy } from './http-proxy.ts'
import { createIssuers } from './issuers.ts'
import { listenAt, placeText } from './listen.ts'
import type { GivenOptions } from './options.ts'
import { type CallSettings, type Reread, readServeSettings, type ServeSettings } from './serve-options.ts'
import { createStderrLog } from './stderr-log.ts'
import { createTcpProxy } from './tcp-proxy.ts'

export interface ServeIo {
  readonly cwd: string
  readonly out: (text: string) => void
  readonly err: (text: string) => void
  /** Resolves when the process is asked to end. */
  readonly ending: Promise<unknown>
  /** When files are to be read again. */
  readonly onReload: (listener: () => void) => void
}

const rereadingOn =
  (io: ServeIo, log: () => Log): Reread =>
  read => {
    let value = read()
    io.onReload(() => {
      try {
        value = read()
      } catch (error) {
        log().error({ reason: messageOf(error) }, 'a file cannot be read again; what was read before holds')
      }
    })
    return () => value
  }

interface Listening {
  readonly server: Server
  /** What speaks HTTP on its connections; null: nothing does. */
  readonly http: Pick<HttpServer, 'closeIdleConnections' | 'closeAllConnections'> | null
}

const serverOf = async (
  calls: CallSettings,
  verifier: AgentVerifier,
  identity: AgentIdentity,
  log: Log,
): Promise<Listening> => {
  const { serving, kinds, requirements, otherwise, intermediates, assertionHeader } = calls
  const { clock } = systemTiming
  const tell = createTellRefusal(log, clock.monotonic)
  if (serving.mode === 'tcp') {
    const scopes = () => [...new Set(requirements().map(({ scope }) => scope))].filter(scope => scope !== '*')
    return { server: createTcpProxy({ verifier, upstream: serving.upstream, kinds, scopes, tell, log }), http: null }
  }
  const issuer = (): string => identity.current().spiffeId
  const assert = await createAssert({
    privateKey: await openAssertionKey(calls.stateDirectory, calls.publicKeyPath),
    audience: calls.audience ?? issuer(),
    lifetimeSeconds: calls.assertionSeconds,
    issuer,
  })
  const deciding = {
    assert,
    assertionHeader,
    kinds,
    requirements,
    otherwise,
    now: clock.now,
    tell,
  }
  if (serving.mode === 'http') {
    const server = createHttpProxy({ ...deciding, verifier, upstream: serving.upstream, log })
    return { server, http: server }
  }
  const own = (): Certificate => parseCertificate(parseOnePem(identity.current().certificatePem, 'CERTIFICATE'))
  const issuers = createIssuers({ own, monotonic: clock.monotonic, log })
  const deps = { ...deciding, verifier, by: serving.by, intermediates, issuers }
  if (serving.proxies !== null) return createRemoteForwardAuth(deps, serving.proxies)
  const server = createLocalForwardAuth(deps)
  return { server, http: server }
}

/** A service's rules for TCP are one list: there is no method and no path to tell them apart. */
const checkTcpRules = (calls: CallSettings): void => {
  if (calls.serving.mode !== 'tcp') return
  if (calls.requirements().some(({ method, path }) => method !== '*' || path !== '/'))
    throw usage('--mode tcp reads no calls: a rule must be for all of them', "--require '* /=orders:use'")
  if (calls.otherwise === 'refuse' && calls.requirements().length === 0)
    throw usage('--otherwise refuse without a rule refuses everybody', "--require '* /=orders:use'")
}

/** Stable over restarts, and its own where several sidecars share an identity: the CA keeps one stream for each name. */
const subscriberOf = (identity: AgentIdentity, stateDirectory: string): string =>
  `${identity.current().facts.instance}-${createHash('sha256').update(stateDirectory).digest('hex').slice(0, 8)}`

/** Proxies that ask are services, whoever may call. */
const kindsOf = ({ kinds, serving }: CallSettings): readonly PrincipalKind[] =>
  serving.mode === 'forward-auth' && serving.proxies !== null ? [...new Set([...kinds, 'service' as const])] : kinds

const drainMs = 3000

/** Requests under way end; connections without one, and those that only pass through, do not hold the process up. */
const endServer = ({ server, http }: Listening): Promise<void> =>
  new Promise(resolve => {
    server.close(() => resolve())
    http?.closeIdleConnections()
    setTimeout(() => {
      http?.closeAllConnections()
      resolve()
    }, drainMs).unref()
  })

interface Opened {
  readonly listening: string | null
  readonly known: Promise<unknown>
}

const openCalls = async (
  calls: CallSettings | null,
  identity: AgentIdentity,
  log: Log,
  ends: AsyncDisposableStack,
): Promise<Opened> => {
  if (calls === null) return { listening: null, known: Promise.resolve() }
  const { onStale, maxStaleness, stateDirectory, statusUrl } = calls
  const verifier = ends.use(
    await agentVerifier({
      identity,
      onStale,
      maxStaleness,
      stateDirectory,
      subscriber: subscriberOf(identity, stateDirectory),
      ...(statusUrl === null ? {} : { statusUrl }),
      kinds: kindsOf(calls),
      log,
    }),
  )
  const listening = await serverOf(calls, verifier, identity, log)
  const place = await listenAt(listening.server, calls.listen, calls.socketMode)
  ends.defer(() => endServer(listening))
  return { listening: placeText(place), known: verifier.ready() }
}

const openLists = async (
  lists: ServeSettings['lists'],
  identity: AgentIdentity,
  log: Log,
  ends: AsyncDisposableStack,
): Promise<Promise<unknown>> => {
  if (lists === null) return Promise.resolve()
  const hook = lists.onChange === null ? null : ends.use(createChangeHook(lists.onChange, systemTiming, log))
  const changed = (): void => hook?.changed()
  const kept = ends.use(await keepCrlFile({ identity, path: lists.file, timing: systemTiming, log, changed }))
  return kept.ready()
}

/** Until the process is asked to end. @throws SidecarError, AgentError, AgentCaError */
export const serve = async (given: GivenOptions, io: ServeIo): Promise<void> => {
  const log = createStderrLog(io.err, given.has('debug'))
  const settings = readServeSettings(
    given,
    io.cwd,
    rereadingOn(io, () => log),
  )
  if (settings.calls !== null) checkTcpRules(settings.calls)
  await using ends = new AsyncDisposableStack()
  const identity = ends.use(await agentIdentity({ ...settings.identity, log }))
  const opened = await openCalls(settings.calls, identity, log, ends)
  const listed = await openLists(settings.lists, identity, log, ends)
  if (opened.listening !== null)
    log.info({ listen: opened.listening }, 'listening; until the first state everybody is refused')
  const ready = Promise.all([opened.known, listed]).then(() => {
    const facts = {
      listen: opened.listening,
      crlFile: settings.lists?.file ?? null,
      spiffeId: identity.current().spiffeId,
    }
    io.out(`${JSON.stringify({ ready: true, ...facts, pid: process.pid })}\n`)
  })
  await Promise.race([io.ending, ready.then(() => io.ending)])
  log.info({}, 'ending')
}
