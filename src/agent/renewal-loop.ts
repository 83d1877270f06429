// Keeps one identity alive: waits on the monotonic clock, renews, recovers what has expired, and goes on asking, each refusal at its
// own pace. The present certificate serves as long as it lives, whatever the loop meets.
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { calmPace, idleUntil, type Pace, slowPace, waitAfter } from './backoff.ts'
import type { Credential } from './credential.ts'
import { AgentError, isTransient } from './errors.ts'
import { freshLifetime, type Lifetime } from './lifetime.ts'
import { type RenewalDeps, recover, renew } from './renew.ts'

export type RenewalState =
  /** The last attempt succeeded, or none was due yet. */
  | 'ok'
  /** The CA cannot be reached or cannot answer. */
  | 'retrying'
  /** On hold at the CA: an operator releases it, and nothing is lost. */
  | 'held'
  /** The lineage is locked: an operator has to find out who holds its key, then unlock it. */
  | 'locked'
  /** Refused for another reason that asking again does not change. */
  | 'refused'
  /** Another process renews in this directory; this one reads. */
  | 'following'

export interface RenewalStatus {
  readonly state: RenewalState
  /** Of the attempts since the last success. */
  readonly lastError: AgentError | null
  readonly failures: number
}

export const healthy: RenewalStatus = { state: 'ok', lastError: null, failures: 0 }

const stateOfCode: Readonly<Record<string, RenewalState>> = {
  registration_held: 'held',
  certificate_held: 'held',
  instance_locked: 'locked',
  lineage_conflict: 'locked',
}

const stateAfter = (error: AgentError): RenewalState =>
  error.origin === 'agent' || isTransient(error) ? 'retrying' : (stateOfCode[error.code] ?? 'refused')

const paceOf = (state: RenewalState): Pace => (state === 'retrying' ? calmPace : slowPace)

/** No certificate to show, and the last key is not accepted either: only fresh evidence helps. */
const beyondRecovery: ReadonlySet<string> = new Set([
  'recovery_not_allowed',
  'recovery_limit_reached',
  'certificate_unknown',
  'certificate_revoked',
  'instance_revoked',
])

const isBeyondRecovery = (error: unknown): boolean => error instanceof AgentError && beyondRecovery.has(error.code)

export interface RenewalLoopDeps extends RenewalDeps {
  readonly log: Log
  /** Enrols again, if there is evidence that this credential did not come from; null when there is none. */
  readonly enrolAgain: (credential: Credential) => Promise<Credential | null>
}

/** Makes an expired or locked identity whole again. Never by renewal: an older certificate would lock the lineage (again). */
export const restore = async (deps: RenewalLoopDeps, credential: Credential): Promise<Credential> => {
  try {
    return await recover(deps, credential)
  } catch (error) {
    const again = isBeyondRecovery(error) ? await deps.enrolAgain(credential) : null
    if (again === null) throw error
    return again
  }
}

const asAgentError = (error: unknown): AgentError =>
  error instanceof AgentError
    ? error
    : AgentError.of('answer_malformed', `the attempt failed: ${messageOf(error)}`, { cause: error })

export interface Kept {
  readonly credential: Credential
  readonly lifetime: Lifetime
}

/**
 * Runs until aborted.
 * @param first what is kept alive
 * @param apply is told of every next generation, already stored
 * @param report is told of every change of the status
 */
export const keepAlive = async (
  deps: RenewalLoopDeps,
  first: Kept,
  apply: (kept: Kept) => void,
  report: (status: RenewalStatus) => void,
  signal: AbortSignal,
): Promise<void> => {
  const { timing, log } = deps
  let { credential, lifetime } = first
  let status = healthy
  // Once the lineage was locked, renewing from this credential may lock it again after somebody unlocked it: whether its key is still
  // the last one only recovery finds out without harm.
  let lineage: 'whole' | 'in doubt' = 'whole'

  const attempt = async (): Promise<Credential> => {
    if (lineage === 'in doubt' || timing.clock.monotonic() >= lifetime.expiresAt) return restore(deps, credential)
    try {
      return await renew(deps, credential)
    } catch (error) {
      if (error instanceof AgentError && error.code === 'certificate_expired') return restore(deps, credential)
      const again = isBeyondRecovery(error) ? await deps.enrolAgain(credential) : null
      if (again === null) throw error
      return again
    }
  }

  const nextAttempt = (): number => {
    const { state, failures, lastError } = status
    if (lastError === null) return lifetime.renewAt
    const now = timing.clock.monotonic()
    const wait = waitAfter(paceOf(state), failures, lastError.retryAfterSeconds, timing.random)
    // Whatever the pace, a life that ends soon gets a few more attempts; what the CA asked for is still the least.
    const left = lifetime.expiresAt - now
    const least = Math.max(1000, (lastError.retryAfterSeconds ?? 0) * 1000)
    return now + (left > 0 ? Math.min(wait, Math.max(left / 4, least)) : wait)
  }

  for (;;) {
    await idleUntil(timing, nextAttempt(), signal)
    try {
      credential = await attempt()
      lifetime = freshLifetime(credential, timing)
      lineage = 'whole'
      status = healthy
      log.info({ serial: credential.facts.serial, generation: credential.facts.generation }, 'identity renewed')
      apply({ credential, lifetime })
    } catch (thrown) {
      signal.throwIfAborted()
      const error = asAgentError(thrown)
      status = { state: stateAfter(error), lastError: error, failures: status.failures + 1 }
      if (status.state === 'locked') lineage = 'in doubt'
      log.warn({ code: error.code, requestId: error.requestId, state: status.state, hint: error.hint }, error.message)
    }
    report(status)
  }
}
