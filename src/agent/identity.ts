// An identity for as long as a process needs one: found in its directory or enrolled, kept alive in the background, handed out as
// the present generation, and gone with its process's `await using`.
import type { Response } from 'undici'
import { messageOf } from '../base/errors.ts'
import { silentLog } from '../base/log.ts'
import { principalOf } from '../pki/spiffe.ts'
import { isService } from './answer.ts'
import { defaultPatienceSeconds, systemTiming, type Timing, untilAnswered } from './backoff.ts'
import type { Credential } from './credential.ts'
import { type CredentialDirectory, presentGeneration, readCredentialDirectory } from './credential-directory.ts'
import { enrol, evidenceHash } from './enrol.ts'
import { AgentError } from './errors.ts'
import { followDirectory, tryOpen } from './following.ts'
import { freshLifetime, storedLifetime } from './lifetime.ts'
import { createPeerConnections, type PeerConnections, type PeerRequestInit } from './peer-fetch.ts'
import { healthy, type Kept, keepAlive, type RenewalLoopDeps, type RenewalStatus, restore } from './renewal-loop.ts'
import type { RequestDeps } from './request-identity.ts'
import { type AgentIdentityOptions, joinSettings, readSettings, readToken, type Settings } from './settings.ts'
import { type CredentialStore, createMemoryStore } from './store.ts'
import { readRoots } from './trust-anchors.ts'

export interface IdentityStatus extends RenewalStatus {
  /** Seconds on the monotonic clock; 0 once expired. */
  readonly expiresInSeconds: number
  readonly renewInSeconds: number
}

export interface AgentIdentity extends AsyncDisposable {
  /** The present generation; the last one when it has expired (`status` tells). */
  current(): Credential
  status(): IdentityStatus
  /** Calls back with every next generation. @returns the function that ends it */
  onChange(listener: (credential: Credential) => void): () => void
  /**
   * `fetch` under this identity.
   * @throws AgentError `peer_not_verified`, `identity_expired`, `identity_closed`, `option_missing`; what fetch throws
   */
  fetch(url: string | URL, init: PeerRequestInit): Promise<Response>
}

interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly timing: Timing
}

/** A directory may hold somebody else's identity: what was enrolled is checked before it is stored. */
const checkService = (credential: Credential, service: string | undefined): void => {
  if (service === undefined || isService(principalOf(credential.spiffeId), service)) return
  throw AgentError.of(
    'identity_unexpected',
    `expected the identity of service ${service}, got ${credential.spiffeId}`,
    {
      hint: 'give it a directory of its own (dir, AGENTCA_DIR)',
    },
  )
}

/** Everything one identity works with, put together from its options. */
interface Parts {
  readonly options: AgentIdentityOptions
  readonly settings: Settings
  readonly timing: Timing
  readonly signal: AbortSignal
}

const patienceOf = ({ options, signal }: Parts) => ({
  patienceSeconds: options.patienceSeconds ?? defaultPatienceSeconds,
  signal,
  onRetry: (error: AgentError, waitMs: number) =>
    (options.log ?? silentLog).warn({ code: error.code, waitMs: Math.round(waitMs) }, error.message),
})

const requestDeps = ({ options, timing, signal }: Parts, store: CredentialStore): RequestDeps => ({
  timing,
  signal,
  store,
  keyAlgorithm: options.keyAlgorithm ?? 'P-256',
})

const loopDeps = (parts: Parts, store: CredentialStore, credential: Credential): RenewalLoopDeps => {
  const { options, settings } = parts
  const deps = requestDeps(parts, store)
  return {
    ...deps,
    log: options.log ?? silentLog,
    url: settings.url ?? credential.url,
    recoveryRoots: async bundlePem => {
      const { anchors } = settings
      if (anchors === null || !('caFile' in anchors)) return bundlePem
      return bundlePem + (await readRoots(anchors.caFile).catch(() => ''))
    },
    enrolAgain: async present => {
      const { url, anchors, tokenFile } = settings
      if (anchors === null || tokenFile === null) return null
      const token = await readToken(tokenFile).catch(() => null)
      // The token that this identity came from is used up: showing it with another key would only raise an alarm.
      if (token === null || evidenceHash(token) === present.enrolledWith) return null
      return enrol(deps, { url: url ?? present.url, anchors, token, service: options.service ?? null })
    },
  }
}

/** What is stored, if it lives; what has expired is made whole again; otherwise a new one. */
const obtain = async (parts: Parts, store: CredentialStore): Promise<Kept> => {
  const { options, settings, timing } = parts
  const stored = await store.load()
  if (stored !== null) {
    checkService(stored, options.service)
    const lifetime = storedLifetime(stored, timing)
    if (lifetime.expiresAt > timing.clock.monotonic()) return { credential: stored, lifetime }
    const deps = loopDeps(parts, store, stored)
    const credential = await untilAnswered(timing, patienceOf(parts), () => restore(deps, stored))
    return { credential, lifetime: freshLifetime(credential, timing) }
  }
  const { url, anchors, tokenFile } = joinSettings(settings)
  const token = await readToken(tokenFile)
  const credential = await untilAnswered(timing, patienceOf(parts), () =>
    enrol(requestDeps(parts, store), { url, anchors, token, service: options.service ?? null }),
  )
  return { credential, lifetime: freshLifetime(credential, timing) }
}

/** Another process renews here: its credential, as soon as there is one. */
const awaitFirst = async (parts: Parts, directory: string, reason: AgentError): Promise<Kept> => {
  const { timing, signal } = parts
  const deadline = timing.clock.monotonic() + patienceOf(parts).patienceSeconds * 1000
  for (;;) {
    const credential = await readCredentialDirectory(directory)
    if (credential !== null) {
      checkService(credential, parts.options.service)
      return { credential, lifetime: storedLifetime(credential, timing) }
    }
    if (reason.code !== 'directory_in_use' || timing.clock.monotonic() >= deadline) throw reason
    await timing.pause(500, signal)
  }
}

/** What changes during an identity's life. Owned by the closure of agentIdentity; only `apply` and `report` write. */
interface Live {
  kept: Kept
  status: RenewalStatus
  connections: PeerConnections
}

const systemSurroundings: Surroundings = { env: process.env, timing: systemTiming }

/**
 * The identity that the options, the environment and the credential directory lead to, in this order, or a new one.
 * @throws AgentError `option_missing` with a list of what was looked for, and everything enrolment throws
 */
export const agentIdentity = async (
  options: AgentIdentityOptions = {},
  surroundings: Surroundings = systemSurroundings,
): Promise<AgentIdentity> => {
  const { timing } = surroundings
  const log = options.log ?? silentLog
  const ending = new AbortController()
  const settings = readSettings(options, surroundings.env)
  const parts: Parts = { options, settings, timing, signal: ending.signal }
  const starting = { ...parts, signal: options.signal ?? ending.signal }
  let opened = settings.dir === null ? createMemoryStore() : await tryOpen(settings.dir)
  const release = async () => {
    if (Symbol.asyncDispose in opened) await (opened as CredentialDirectory)[Symbol.asyncDispose]()
  }
  const first = await (opened instanceof AgentError
    ? awaitFirst(starting, settings.dir as string, opened)
    : obtain(starting, opened)
  ).catch(async error => {
    await release()
    throw error
  })

  const live: Live = { kept: first, status: healthy, connections: createPeerConnections(first.credential) }
  const retired = new Set<PeerConnections>()
  const listeners = new Set<(credential: Credential) => void>()

  const apply = (kept: Kept): void => {
    const old = live.connections
    live.kept = kept
    live.connections = createPeerConnections(kept.credential)
    retired.add(old)
    old.retire().then(() => retired.delete(old))
    for (const listener of listeners)
      try {
        listener(kept.credential)
      } catch (error) {
        log.error({ err: error }, 'a listener for changes of the identity failed')
      }
  }
  const report = (status: RenewalStatus): void => {
    live.status = status
  }

  const run = async (): Promise<void> => {
    if (opened instanceof AgentError) {
      const directory = settings.dir as string
      report({ ...healthy, state: 'following' })
      const follow = (credential: Credential) => apply({ credential, lifetime: storedLifetime(credential, timing) })
      opened = await followDirectory(timing, directory, await presentGeneration(directory), follow, ending.signal)
      report(healthy)
    }
    await keepAlive(loopDeps(parts, opened, live.kept.credential), live.kept, apply, report, ending.signal)
  }
  const running = run().catch(error => {
    if (!ending.signal.aborted) log.error({ err: error }, `the identity is no longer renewed: ${messageOf(error)}`)
  })
  const secondsUntil = (at: number): number => Math.max(0, (at - timing.clock.monotonic()) / 1000)

  return {
    current: () => live.kept.credential,
    status: () => ({
      ...live.status,
      expiresInSeconds: secondsUntil(live.kept.lifetime.expiresAt),
      renewInSeconds: secondsUntil(live.kept.lifetime.renewAt),
    }),
    onChange: listener => {
      listeners.add(listener)
      return () => {
        listeners.delete(listener)
      }
    },
    fetch: async (url, init) => {
      if (ending.signal.aborted) throw AgentError.of('identity_closed', 'this identity was disposed of')
      const { lastError } = live.status
      if (secondsUntil(live.kept.lifetime.expiresAt) === 0)
        throw AgentError.of('identity_expired', `the certificate ended at ${live.kept.credential.facts.notAfter}`, {
          ...(lastError === null ? {} : { cause: lastError }),
          ...(lastError?.hint === undefined ? {} : { hint: lastError.hint }),
        })
      return live.connections.fetch(url, init)
    },
    [Symbol.asyncDispose]: async () => {
      ending.abort()
      await running
      await Promise.all([live.connections, ...retired].map(connections => connections.destroy()))
      await release()
    },
  }
}
