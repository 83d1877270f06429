// The start of an identity: what is stored, if it lives; what has expired made whole again; otherwise a new one. And what keeping it
// alive needs, put together from the same options.
import { silentLog } from '../base/log.ts'
import { principalOf } from '../pki/spiffe.ts'
import { isService } from './answer.ts'
import { defaultPatienceSeconds, type Timing, untilAnswered } from './backoff.ts'
import type { CaCall } from './ca-route.ts'
import type { Credential } from './credential.ts'
import { readCredentialDirectory } from './credential-directory.ts'
import { enrol } from './enrol.ts'
import { AgentError } from './errors.ts'
import { type Evidence, evidenceHash } from './evidence.ts'
import { tryOpen } from './following.ts'
import type { AskedAccess } from './generation.ts'
import { freshLifetime, storedLifetime } from './lifetime.ts'
import { type Kept, type RenewalLoopDeps, restore } from './renewal-loop.ts'
import type { RequestDeps } from './request-identity.ts'
import { type AgentIdentityOptions, joinSettings, type Settings } from './settings.ts'
import { type CredentialStore, createMemoryStore } from './store.ts'
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
  readonly callCa: CaCall
  readonly signal: AbortSignal
}

export const accessOf = ({ access }: AgentIdentityOptions): AskedAccess => ({
  keyMode: null,
  uid: null,
  gid: null,
  ...access,
})

const patienceOf = ({ options, signal }: Parts) => ({
  patienceSeconds: options.patienceSeconds ?? defaultPatienceSeconds,
  signal,
  onRetry: (error: AgentError, waitMs: number) =>
    (options.log ?? silentLog).warn({ code: error.code, waitMs: Math.round(waitMs) }, error.message),
})

const requestDeps = ({ options, timing, callCa, signal }: Parts, store: CredentialStore): RequestDeps => ({
  timing,
  callCa,
  signal,
  store,
  keyAlgorithm: options.keyAlgorithm ?? 'P-256',
})

export const loopDeps = (parts: Parts, store: CredentialStore, credential: Credential): RenewalLoopDeps => {
  const { options, settings } = parts
  const deps = requestDeps(parts, store)
  // What this identity came from is used up: showing it with another key would only raise an alarm.
  const freshEvidence = async (present: Credential): Promise<Evidence | null> => {
    const shown = (await settings.evidence?.().catch(() => null)) ?? null
    if (shown === null || shown.type === 'x509') return shown
    return evidenceHash(shown.secret) === present.enrolledWith ? null : shown
  }
  return {
    ...deps,
    log: options.log ?? silentLog,
    freshEvidence,
    renewBy: options.renewBy ?? 'tls',
    url: settings.url ?? credential.url,
    recoveryRoots: async bundlePem => {
      const { anchors } = settings
      if (anchors === null || !('caFile' in anchors)) return bundlePem
      return bundlePem + (await readRoots(anchors.caFile).catch(() => ''))
    },
    enrolAgain: async (present, why) => {
      const { url, anchors } = settings
      const shown = anchors === null ? null : await freshEvidence(present)
      if (anchors === null || shown === null) return null
      // A platform renews its JWTs by itself: only a token is somebody's word that a revoked identity may have a successor.
      if (why === 'revoked' && shown.type !== 'token') return null
      return enrol(deps, { url: url ?? present.url, anchors, evidence: shown, service: options.service ?? null })
    },
  }
}

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
  const { url, anchors, evidence } = joinSettings(settings)
  const shown = await evidence()
  const credential = await untilAnswered(timing, patienceOf(parts), () =>
    enrol(requestDeps(parts, store), { url, anchors, evidence: shown, service: options.service ?? null }),
  )
  return { credential, lifetime: freshLifetime(credential, timing) }
}

export interface Obtained {
  readonly kept: Kept
  /** What this process renews in; null where it reads what another one renews. */
  readonly store: CredentialStore | null
}

const obtainOrRelease = async (parts: Parts, store: CredentialStore & AsyncDisposable): Promise<Obtained> => {
  try {
    return { kept: await obtain(parts, store), store }
  } catch (error) {
    await store[Symbol.asyncDispose]()
    throw error
  }
}

/** As its renewer where there is none; else what the renewer wrote, as soon as it is there. */
const obtainFromDirectory = async (parts: Parts, directory: string): Promise<Obtained> => {
  const { options, timing, signal } = parts
  const deadline = timing.clock.monotonic() + patienceOf(parts).patienceSeconds * 1000
  for (;;) {
    const opened = await tryOpen(directory, accessOf(options))
    if (!(opened instanceof AgentError)) return obtainOrRelease(parts, opened)
    const credential = await readCredentialDirectory(directory)
    if (credential !== null) {
      checkService(credential, options.service)
      return { kept: { credential, lifetime: storedLifetime(credential, timing) }, store: null }
    }
    if (opened.code !== 'directory_in_use' || timing.clock.monotonic() >= deadline) throw opened
    // Drawn: two that came at once have both gone away.
    await timing.wait(250 + 500 * timing.random(), signal)
  }
}

/** @throws AgentError */
export const obtainIdentity = async (parts: Parts): Promise<Obtained> => {
  const { dir } = parts.settings
  if (dir !== null) return obtainFromDirectory(parts, dir)
  const store = createMemoryStore()
  return { kept: await obtain(parts, store), store }
}
