// The start of an identity: what is stored, if it lives; what has expired made whole again; otherwise a new one. And what keeping it
// alive needs, put together from the same options.
import { silentLog } from '../base/log.ts'
import { principalOf } from '../pki/spiffe.ts'
import { isService } from './answer.ts'
import { defaultPatienceSeconds, type Timing, untilAnswered } from './backoff.ts'
import type { Credential } from './credential.ts'
import { readCredentialDirectory } from './credential-directory.ts'
import { enrol, evidenceHash } from './enrol.ts'
import { AgentError } from './errors.ts'
import { freshLifetime, storedLifetime } from './lifetime.ts'
import { type Kept, type RenewalLoopDeps, restore } from './renewal-loop.ts'
import type { RequestDeps } from './request-identity.ts'
import { type AgentIdentityOptions, joinSettings, readToken, type Settings } from './settings.ts'
import type { CredentialStore } from './store.ts'
import { readRoots } from './trust-anchors.ts'

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
export interface Parts {
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

export const loopDeps = (parts: Parts, store: CredentialStore, credential: Credential): RenewalLoopDeps => {
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

/** For the one renewer of a store. @throws AgentError */
export const obtain = async (parts: Parts, store: CredentialStore): Promise<Kept> => {
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

/** Another process renews here: its credential, as soon as there is one. @throws AgentError `reason` when patience has run out */
export const awaitFirst = async (parts: Parts, directory: string, reason: AgentError): Promise<Kept> => {
  const { timing, signal } = parts
  const deadline = timing.clock.monotonic() + patienceOf(parts).patienceSeconds * 1000
  for (;;) {
    const credential = await readCredentialDirectory(directory)
    if (credential !== null) {
      checkService(credential, parts.options.service)
      return { credential, lifetime: storedLifetime(credential, timing) }
    }
    if (reason.code !== 'directory_in_use' || timing.clock.monotonic() >= deadline) throw reason
    await timing.wait(500, signal)
  }
}
