// Keeps one identity alive: waits on the monotonic clock, renews, recovers what has expired, and goes on asking, each refusal at its
// own pace. The present certificate serves as long as it lives, whatever the loop meets.
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { calmPace, idleUntil, type Pace, slowPace, type Timing, waitAfter } from './backoff.ts'
import type { Credential } from './credential.ts'
import { AgentError, isTransient } from './errors.ts'
import type { Evidence } from './evidence.ts'
import { freshLifetime, type Lifetime } from './lifetime.ts'
import type { Prompts } from './prompts.ts'
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
  /** For good: the CA took this identity back. */
  | 'revoked'
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

/** What the CA says of an identity that it took back. */
export const revocationCodes: ReadonlySet<string> = new Set([
  'certificate_revoked',
  'instance_revoked',
  'registration_retired',
  'registration_ended',
])

const enrolAgainHint = 'find out why (agentca cert show), then enrol again with fresh evidence: agentca token create'

/** A certificate that somebody else's renewal replaced is revoked too; then it is for the lineage to say what happened. */
export const revokedBy = (error: AgentError): AgentError =>
  AgentError.of('revoked', `the CA revoked this identity: ${error.message}`, {
    hint: error.code.startsWith('registration_') && error.hint !== undefined ? error.hint : enrolAgainHint,
    facts: { ...error.facts, reason: error.code },
    cause: error,
    ...(error.requestId === null ? {} : { requestId: error.requestId }),
    ...(error.status === null ? {} : { status: error.status }),
  })

/** How the identity stands after an attempt that failed for this reason. */
export const stateAfter = (error: AgentError): RenewalState =>
  error.code === 'revoked'
    ? 'revoked'
    : error.origin === 'agent' || isTransient(error)
      ? 'retrying'
      : (stateOfCode[error.code] ?? 'refused')

const paceOf = (state: RenewalState): Pace => (state === 'retrying' ? calmPace : slowPace)

/** No certificate to show, and the last key is not accepted either: only fresh evidence helps. */
const beyondRecovery: ReadonlySet<string> = new Set([
  'recovery_not_allowed',
  'recovery_limit_reached',
  'certificate_unknown',
  'certificate_revoked',
  'instance_revoked',
])

export const isBeyondRecovery = (error: unknown): boolean =>
  error instanceof AgentError && beyondRecovery.has(error.code)

export interface RenewalLoopDeps extends RenewalDeps {
  readonly log: Log
  /** Evidence that this credential did not come from; null when there is none. */
  readonly freshEvidence: (credential: Credential) => Promise<Evidence | null>
  /** Enrols again, if there is evidence that this credential did not come from; null when there is none. */
  readonly enrolAgain: (credential: Credential, why: 'lost' | 'revoked') => Promise<Credential | null>
}

const whyOf = (error: unknown): 'lost' | 'revoked' =>
  error instanceof AgentError && revocationCodes.has(error.code) ? 'revoked' : 'lost'

/** By the last key alone, or with fresh evidence beside it where the profile wants that: it stays the same instance. */
const recovered = async (deps: RenewalLoopDeps, credential: Credential): Promise<Credential> => {
  try {
    return await recover(deps, credential)
  } catch (error) {
    if (!(error instanceof AgentError) || error.code !== 'recovery_not_allowed') throw error
    const evidence = await deps.freshEvidence(credential)
    if (evidence === null) throw error
    return recover(deps, credential, evidence)
  }
}

/** Makes an expired or locked identity whole again. Never by renewal: an older certificate would lock the lineage (again). */
export const restore = async (deps: RenewalLoopDeps, credential: Credential): Promise<Credential> => {
  try {
    return await recovered(deps, credential)
  } catch (error) {
    const again = isBeyondRecovery(error) ? await deps.enrolAgain(credential, whyOf(error)) : null
    if (again === null) throw error
    return again
  }
}

const revoked = (error: AgentError): AgentError => (revocationCodes.has(error.code) ? revokedBy(error) : error)

const asAgentError = (error: unknown): AgentError =>
  error instanceof AgentError
    ? error
    : AgentError.of('answer_malformed', `the attempt failed: ${messageOf(error)}`, { cause: error })

export interface Kept {
  readonly credential: Credential
  readonly lifetime: Lifetime
}

export interface Keeping {
  /** What is kept alive. */
  readonly first: Kept
  readonly prompts: Prompts
  /** Is told of every next generation, already stored. */
  readonly apply: (kept: Kept) => void
  /** Is told of every change of the status. */
  readonly report: (status: RenewalStatus) => void
  readonly signal: AbortSignal
}

/** Until a time on the monotonic clock, or until somebody wants an attempt now. */
const idleOrAsked = async (timing: Timing, until: number, { prompts, signal }: Keeping): Promise<void> => {
  try {
    await idleUntil(timing, until, AbortSignal.any([signal, prompts.pending()]))
  } catch (error) {
    if (signal.aborted || !prompts.pending().aborted) throw error
  }
}

/**
 * Runs until aborted, or until the CA has taken the identity back and there is nothing to enrol with again.
 * @returns why it was revoked
 */
export const keepAlive = async (deps: RenewalLoopDeps, keeping: Keeping): Promise<AgentError> => {
  const { timing, log } = deps
  const { first, prompts, apply, report, signal } = keeping
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
      const again = isBeyondRecovery(error) ? await deps.enrolAgain(credential, whyOf(error)) : null
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
    await idleOrAsked(timing, nextAttempt(), keeping)
    const { answer, refuse } = prompts.taken()
    try {
      credential = await attempt()
      lifetime = freshLifetime(credential, timing)
      lineage = 'whole'
      status = healthy
      log.info({ serial: credential.facts.serial, generation: credential.facts.generation }, 'identity renewed')
      apply({ credential, lifetime })
      answer(credential)
    } catch (thrown) {
      refuse(thrown)
      signal.throwIfAborted()
      const error = revoked(asAgentError(thrown))
      status = { state: stateAfter(error), lastError: error, failures: status.failures + 1 }
      if (status.state === 'locked') lineage = 'in doubt'
      log.warn({ code: error.code, requestId: error.requestId, state: status.state, hint: error.hint }, error.message)
    }
    report(status)
    if (status.state === 'revoked' && status.lastError !== null) return status.lastError
  }
}
