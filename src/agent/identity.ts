// An identity for as long as a process needs one: found in its directory or enrolled, kept alive in the background, handed out as
// the present generation, and gone with its process's `await using`.
import type { Response } from 'undici'
import { messageOf } from '../base/errors.ts'
import { type Log, silentLog } from '../base/log.ts'
import { systemTiming, type Timing } from './backoff.ts'
import type { Credential } from './credential.ts'
import { type CredentialDirectory, presentGeneration } from './credential-directory.ts'
import { fetchCrls } from './crl-fetch.ts'
import { AgentError } from './errors.ts'
import { followDirectory } from './following.ts'
import { storedLifetime } from './lifetime.ts'
import { loopDeps, obtainIdentity, type Parts } from './obtain.ts'
import { createPeerConnections, type PeerConnections, type PeerRequestInit } from './peer-fetch.ts'
import { healthy, type Kept, keepAlive, type RenewalStatus } from './renewal-loop.ts'
import { type AgentIdentityOptions, readSettings } from './settings.ts'
import type { CredentialStore } from './store.ts'

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

/** What a test replaces. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly timing: Timing
}

const systemSurroundings: Surroundings = { env: process.env, timing: systemTiming }

/** The present generation with its connections. Only `apply` and `report` change it. */
const createPresent = (first: Kept, log: Log) => {
  let kept = first
  let status: RenewalStatus = healthy
  let connections = createPeerConnections(first.credential)
  const retired = new Set<PeerConnections>()
  const listeners = new Set<(credential: Credential) => void>()

  return {
    kept: (): Kept => kept,
    status: (): RenewalStatus => status,
    connections: (): PeerConnections => connections,
    listeners,
    apply: (next: Kept): void => {
      const old = connections
      kept = next
      connections = createPeerConnections(next.credential)
      retired.add(old)
      old.retire().then(() => retired.delete(old))
      for (const listener of listeners)
        try {
          listener(next.credential)
        } catch (error) {
          log.error({ err: error }, 'a listener for changes of the identity failed')
        }
    },
    report: (next: RenewalStatus): void => {
      status = next
    },
    destroy: async (): Promise<void> => {
      await Promise.all([connections, ...retired].map(each => each.destroy()))
    },
  }
}

type Present = ReturnType<typeof createPresent>

/** After each renewal; programs that check revocation by these files would rather have none than an old one. */
const refreshCrls = async (parts: Parts, directory: CredentialDirectory, credential: Credential): Promise<void> => {
  const log = parts.options.log ?? silentLog
  try {
    const pem = await fetchCrls(credential, parts.timing.clock.now(), parts.signal)
    if (pem !== null) await directory.saveCrls(pem)
  } catch (error) {
    if (!parts.signal.aborted) log.warn({ err: error }, 'crl.pem stays as it is')
  }
}

/** Follows where another process renews, renews where none does; gives back what it holds when it ends. */
const live = async (parts: Parts, present: Present, obtained: CredentialStore | null): Promise<void> => {
  const { settings, timing, signal } = parts
  let store = obtained
  let refreshing = Promise.resolve()
  try {
    if (store === null) {
      const directory = settings.dir as string
      present.report({ ...healthy, state: 'following' })
      const apply = (credential: Credential) =>
        present.apply({ credential, lifetime: storedLifetime(credential, timing) })
      store = await followDirectory(timing, directory, await presentGeneration(directory), apply, signal)
      present.report(healthy)
    }
    const directory = isDirectory(store) ? store : null
    const refresh = ({ credential }: Kept): void => {
      if (directory !== null) refreshing = refreshing.then(() => refreshCrls(parts, directory, credential))
    }
    const apply = (kept: Kept): void => {
      present.apply(kept)
      refresh(kept)
    }
    const kept = present.kept()
    refresh(kept)
    await keepAlive(loopDeps(parts, store, kept.credential), kept, apply, present.report, signal)
  } finally {
    await refreshing
    if (store !== null && isDirectory(store)) await store[Symbol.asyncDispose]()
  }
}

const isDirectory = (store: CredentialStore): store is CredentialDirectory => Symbol.asyncDispose in store

const expired = ({ credential }: Kept, { lastError }: RenewalStatus): AgentError =>
  AgentError.of('identity_expired', `the certificate ended at ${credential.facts.notAfter}`, {
    ...(lastError === null ? {} : { cause: lastError }),
    ...(lastError?.hint === undefined ? {} : { hint: lastError.hint }),
  })

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
  const parts: Parts = { options, settings, timing, signal: ending.signal }
  const { kept, store } = await obtainIdentity({ ...parts, signal: options.signal ?? ending.signal })
  const present = createPresent(kept, log)
  const running = live(parts, present, store).catch(error => {
    if (!ending.signal.aborted) log.error({ err: error }, `the identity is no longer renewed: ${messageOf(error)}`)
  })
  const secondsUntil = (at: number): number => Math.max(0, (at - timing.clock.monotonic()) / 1000)

  return {
    current: () => present.kept().credential,
    status: () => ({
      ...present.status(),
      expiresInSeconds: secondsUntil(present.kept().lifetime.expiresAt),
      renewInSeconds: secondsUntil(present.kept().lifetime.renewAt),
    }),
    onChange: listener => {
      present.listeners.add(listener)
      return () => {
        present.listeners.delete(listener)
      }
    },
    fetch: async (url, init) => {
      if (ending.signal.aborted) throw AgentError.of('identity_closed', 'this identity was disposed of')
      if (secondsUntil(present.kept().lifetime.expiresAt) === 0) throw expired(present.kept(), present.status())
      return present.connections().fetch(url, init)
    },
    [Symbol.asyncDispose]: async () => {
      ending.abort()
      await running
      await present.destroy()
    },
  }
}
