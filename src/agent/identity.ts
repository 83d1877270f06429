// An identity for as long as a process needs one: found in its directory or enrolled, kept alive in the background, handed out as
// the present generation, and gone with its process's `await using`.
import type { Agent as HttpsAgent } from 'node:https'
import { join } from 'node:path'
import type { Dispatcher, Response } from 'undici'
import { messageOf } from '../base/errors.ts'
import { silentLog } from '../base/log.ts'
import { systemTiming, type Timing } from './backoff.ts'
import { type CaCall, type CaRoute, createCaRoute } from './ca-route.ts'
import type { Credential } from './credential.ts'
import { type CredentialDirectory, presentGeneration } from './credential-directory.ts'
import { type KeptCrls, keepCrls } from './crl-files.ts'
import { AgentError } from './errors.ts'
import { followDirectory } from './following.ts'
import { storedLifetime } from './lifetime.ts'
import { accessOf, loopDeps, obtainIdentity, type Parts } from './obtain.ts'
import { watchOwnState } from './own-state.ts'
import { createPeerClients, type Http2Client, type HttpsAgentOptions, type PeerOptions } from './peer-clients.ts'
import type { PeerRequestInit } from './peer-fetch.ts'
import type { PeerTlsOptions } from './peer-proof.ts'
import { createPresent, type IdentityEvent, type IdentityEvents, type IdentityStatus, type Present } from './present.ts'
import { createPrompts, type Prompts } from './prompts.ts'
import { healthy, keepAlive, revocationCodes, revokedBy, stateAfter } from './renewal-loop.ts'
import { type AgentIdentityOptions, readSettings } from './settings.ts'
import type { CredentialStore } from './store.ts'

export interface AgentIdentity extends AsyncDisposable {
  /** The present generation; the last one when it has expired (`status` tells). */
  current(): Credential
  status(): IdentityStatus
  /** Calls back with every next generation. @returns the function that ends it */
  onChange(listener: (credential: Credential) => void): () => void
  /** @returns the function that ends it */
  on<E extends IdentityEvent>(event: E, listener: (value: IdentityEvents[E]) => void): () => void
  /** Aborts when the identity is revoked or disposed of, with the AgentError that says so: for work that must not outlive it. */
  readonly signal: AbortSignal
  /**
   * Renews now instead of at its time. @returns the next generation
   * @throws AgentError the CA's, or `identity_closed`, `revoked`, `directory_in_use`; the identity goes on as after any failed attempt
   */
  renew(): Promise<Credential>
  /**
   * `fetch` under this identity.
   * @throws AgentError `peer_not_verified`, `identity_expired`, `identity_closed`, `revoked`, `instance_locked`, `option_missing`; what
   * fetch throws
   */
  fetch(url: string | URL, init: PeerRequestInit): Promise<Response>
  /** For any other fetch, and undici's own API: `{ dispatcher }`. */
  dispatcher(options: PeerOptions): Dispatcher
  /** For `https.request` and libraries that take an agent of `node:https`. */
  httpsAgent(options: HttpsAgentOptions): HttpsAgent
  http2(authority: string | URL, options: PeerOptions): Http2Client
  /** For `tls.connect`: read when a connection is made, they are always the present generation's. */
  tlsOptions(options: PeerOptions): PeerTlsOptions
}

const routes = new WeakMap<AgentIdentity['fetch'], CaRoute>()

/** Whether its `fetch` is this file's and nobody's around it: then the same calls may be made from its credential alone. */
export const isCalledByCredential = ({ fetch }: Pick<AgentIdentity, 'fetch'>): boolean => routes.has(fetch)

/**
 * Its own calls (what the CA says of it, renewals) are made by these from now on; where they fail, as before.
 * @returns the function that takes them back
 */
export const lendCalls = ({ fetch }: Pick<AgentIdentity, 'fetch'>, calls: CaCall): (() => void) =>
  routes.get(fetch)?.lend(calls) ?? (() => {})

/** What a test replaces. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly timing: Timing
}

const systemSurroundings: Surroundings = { env: process.env, timing: systemTiming }

const isDirectory = (store: CredentialStore): store is CredentialDirectory => Symbol.asyncDispose in store

/** Until this process is the renewer of its directory. */
const follow = async (parts: Parts, present: Present): Promise<CredentialStore> => {
  const { settings, timing, signal, options } = parts
  const directory = settings.dir as string
  present.report({ ...healthy, state: 'following' })
  const apply = (credential: Credential) => present.apply({ credential, lifetime: storedLifetime(credential, timing) })
  const seen = await presentGeneration(directory)
  const store = await followDirectory(timing, { directory, access: accessOf(options) }, seen, apply, signal)
  present.report(healthy)
  return store
}

/** Follows where another process renews, renews where none does; gives back what it holds when it ends. */
const live = async (parts: Parts, present: Present, prompts: Prompts, obtained: CredentialStore | null) => {
  let store = obtained
  let lists: KeptCrls | null = null
  try {
    store ??= await follow(parts, present)
    if (isDirectory(store)) lists = keepLists(parts, present, store)
    const first = present.kept()
    const { apply, report } = present
    const keeping = { first, prompts, apply, report, signal: parts.signal }
    const error = await keepAlive(loopDeps(parts, store, first.credential), keeping)
    prompts.end(error)
    present.halt(error, 'for good')
  } finally {
    await lists?.ended
    if (store !== null && isDirectory(store)) await store[Symbol.asyncDispose]()
  }
}

/** Lists are fetched again with each generation, and when the CA thinks otherwise of this identity. */
const keepLists = (parts: Parts, present: Present, directory: CredentialDirectory): KeptCrls => {
  const current = (): Credential => present.kept().credential
  const lists = keepCrls(parts, directory, current, () => present.listed(join(directory.path, 'crl.pem')))
  let { state } = present.status()
  present.on('renewed', lists.refresh)
  present.on('status', next => {
    if (next.state !== state) lists.refresh()
    state = next.state
  })
  return lists
}

/** What the CA says of this identity between two renewals. @returns what to tell of a renewal */
const watch = (parts: Parts, present: Present, prompts: Prompts): void => {
  const { options, settings, timing, callCa, signal } = parts
  const log = options.log ?? silentLog
  const end = (error: AgentError): void => {
    log.error({ hint: error.hint }, error.message)
    present.report({ state: 'revoked', lastError: error, failures: 1 })
    present.halt(error, 'for good')
  }
  const own = watchOwnState(
    {
      url: () => settings.url ?? present.kept().credential.url,
      current: () => present.kept().credential,
      callCa,
      timing,
      log,
      revoked: end,
      doubt: refusal => {
        const { state } = present.status()
        if (state === 'ok' || state === 'retrying') prompts.ask().catch(() => {})
        if (state !== 'following' || refusal === null) return
        if (revocationCodes.has(refusal.code)) end(revokedBy(refusal))
        else log.warn({ code: refusal.code, hint: refusal.hint, state: stateAfter(refusal) }, refusal.message)
      },
      good: () => {
        const { state } = present.status()
        if (state === 'held' || state === 'locked') prompts.ask().catch(() => {})
      },
    },
    signal,
  )
  present.on('renewed', own.renewed)
}

const renewedElsewhere = (directory: string): AgentError =>
  AgentError.of('directory_in_use', `another process renews in ${directory}`, {
    hint: `agentca-agent status --dir ${directory} tells which; SIGHUP makes agentca-agent renew now`,
  })

const closed = (): AgentError => AgentError.of('identity_closed', 'this identity was disposed of')

/**
 * The identity that the options, the environment and the credential directory lead to, in this order, or a new one.
 * @throws AgentError `option_missing` with a list of what was looked for, and everything enrolment throws
 */
export const agentIdentity = async (
  options: AgentIdentityOptions = {},
  { env, timing }: Surroundings = systemSurroundings,
): Promise<AgentIdentity> => {
  const log = options.log ?? silentLog
  const ending = new AbortController()
  const settings = readSettings(options, env)
  const route = createCaRoute()
  const parts: Parts = { options, settings, timing, callCa: route.call, signal: ending.signal }
  const { kept, store } = await obtainIdentity({ ...parts, signal: options.signal ?? ending.signal })
  const present = createPresent(kept, timing, log)
  const prompts = createPrompts()
  const clients = createPeerClients(present)
  const lifelong = { ...parts, signal: AbortSignal.any([ending.signal, present.ended]) }
  const running = live(lifelong, present, prompts, store).catch(error => {
    prompts.end(present.ended.aborted ? present.ended.reason : error)
    if (!lifelong.signal.aborted) log.error({ err: error }, `the identity is no longer renewed: ${messageOf(error)}`)
  })
  // The feed is heard over a connection that shows the certificate to the CA itself.
  if (options.watch !== 'none' && options.renewBy !== 'jws') watch(lifelong, present, prompts)

  const fetch: AgentIdentity['fetch'] = async (url, init) => present.connections().fetch(url, init)
  routes.set(fetch, route)

  return {
    current: () => present.kept().credential,
    status: present.status,
    onChange: listener => present.on('renewed', listener),
    on: present.on,
    signal: present.ended,
    renew: async () => {
      if (present.status().state === 'following') throw renewedElsewhere(settings.dir as string)
      return prompts.ask()
    },
    fetch,
    dispatcher: clients.dispatcher,
    httpsAgent: clients.httpsAgent,
    http2: clients.http2,
    tlsOptions: clients.tlsOptions,
    [Symbol.asyncDispose]: async () => {
      ending.abort(closed())
      await running
      clients.close()
      await present.close(closed())
    },
  }
}
