// The present generation of an identity with its connections, its status, and whoever wants to hear of changes. A generation replaces
// the one before in one step; a halt (revoked, locked) ends calls under way and refuses new ones until another generation comes.
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Timing } from './backoff.ts'
import type { Credential } from './credential.ts'
import { AgentError } from './errors.ts'
import { createPeerConnections, type PeerConnections } from './peer-fetch.ts'
import { createTrustMemory } from './peer-proof.ts'
import { healthy, type Kept, type RenewalStatus } from './renewal-loop.ts'

export interface IdentityStatus extends RenewalStatus {
  /** Seconds on the monotonic clock; 0 once expired. */
  readonly expiresInSeconds: number
  readonly renewInSeconds: number
}

/** What an identity tells of, and what goes with it. */
export interface IdentityEvents {
  /** The next generation, already stored. */
  readonly renewed: Credential
  /** For good: calls under way were ended, none starts. */
  readonly revoked: AgentError
  /** Until an operator unlocks it (the error's hint): calls are refused here too. */
  readonly locked: AgentError
  /** Until an operator releases it; peers refuse meanwhile. */
  readonly held: AgentError
  /** Any change of the status. */
  readonly status: IdentityStatus
  /** `crl.pem` of the credential directory, by its path, has other lists. */
  readonly crls: string
}

export type IdentityEvent = keyof IdentityEvents
type Listener = (value: never) => void

/** Listeners are the program's: one that fails must not keep the others, or the identity, from going on. */
const createListeners = (log: Log) => {
  const listeners = new Map<IdentityEvent, Set<Listener>>()
  return {
    on: <E extends IdentityEvent>(event: E, listener: (value: IdentityEvents[E]) => void): (() => void) => {
      const of = listeners.get(event) ?? new Set()
      listeners.set(event, of)
      of.add(listener as Listener)
      return () => void of.delete(listener as Listener)
    },
    tell: <E extends IdentityEvent>(event: E, value: IdentityEvents[E]): void => {
      for (const listener of [...(listeners.get(event) ?? [])])
        try {
          ;(listener as (value: IdentityEvents[E]) => void)(value)
        } catch (error) {
          log.error({ err: error }, `a listener for '${event}' failed: ${messageOf(error)}`)
        }
    },
  }
}

export interface Present {
  kept(): Kept
  status(): IdentityStatus
  /** The connections of this generation, for a call that starts now. @throws AgentError why none may */
  connections(): PeerConnections
  /** @throws AgentError `identity_closed`, `identity_expired`, `revoked`, `instance_locked` */
  checkUsable(): void
  on<E extends IdentityEvent>(event: E, listener: (value: IdentityEvents[E]) => void): () => void
  /** Aborts with the reason when the identity is revoked or disposed of. */
  readonly ended: AbortSignal
  apply(next: Kept): void
  report(next: RenewalStatus): void
  /** Calls under way end with this error, none starts. @param duration `for good`: whatever comes, it is over */
  /** @param path of the file */
  listed(path: string): void
  halt(error: AgentError, duration: 'for good' | 'until renewed'): void
  /** @param reason that whoever calls afterwards hears */
  close(reason: AgentError): Promise<void>
}

const expired = ({ credential }: Kept, { lastError }: RenewalStatus): AgentError =>
  AgentError.of('identity_expired', `the certificate ended at ${credential.facts.notAfter}`, {
    ...(lastError === null ? {} : { cause: lastError }),
    ...(lastError?.hint === undefined
      ? { hint: 'enrol again with fresh evidence: agentca token create' }
      : { hint: lastError.hint }),
  })

export const createPresent = (first: Kept, timing: Timing, log: Log): Present => {
  const { clock } = timing
  const trustOf = createTrustMemory()
  const connect = (credential: Credential): PeerConnections =>
    createPeerConnections(credential, trustOf(credential), clock.now)
  // Owned by this closure; replaced in one turn of the event loop.
  let kept = first
  let renewal: RenewalStatus = healthy
  let connections = connect(first.credential)
  let halted: AgentError | null = null
  const retired = new Set<PeerConnections>()
  const ended = new AbortController()
  const { on, tell } = createListeners(log)
  const secondsUntil = (at: number): number => Math.max(0, (at - clock.monotonic()) / 1000)

  const status = (): IdentityStatus => ({
    ...renewal,
    expiresInSeconds: secondsUntil(kept.lifetime.expiresAt),
    renewInSeconds: secondsUntil(kept.lifetime.renewAt),
  })
  const destroyAll = async (reason: Error | null): Promise<void> => {
    await Promise.all([connections, ...retired].map(each => each.destroy(reason)))
  }
  const halt: Present['halt'] = (error, duration) => {
    if (ended.signal.aborted) return
    halted = error
    if (duration === 'for good') ended.abort(error)
    destroyAll(error).catch(failure => log.debug({ err: failure }, 'a connection did not end in order'))
    connections = connect(kept.credential)
  }
  const checkUsable = (): void => {
    if (ended.signal.aborted) throw ended.signal.reason
    if (halted !== null) throw halted
    if (secondsUntil(kept.lifetime.expiresAt) === 0) throw expired(kept, renewal)
  }

  return {
    kept: () => kept,
    status,
    connections: () => {
      checkUsable()
      return connections
    },
    checkUsable,
    on,
    ended: ended.signal,
    apply: next => {
      if (ended.signal.aborted) return
      const old = connections
      kept = next
      halted = null
      connections = connect(next.credential)
      retired.add(old)
      old.retire().then(() => retired.delete(old))
      tell('renewed', next.credential)
    },
    report: next => {
      if (ended.signal.aborted && next.state !== 'revoked') return
      const before = renewal
      renewal = next
      const { state, lastError } = next
      if (state !== before.state && lastError !== null) {
        if (state === 'locked') halt(lastError, 'until renewed')
        if (state === 'locked' || state === 'held' || state === 'revoked') tell(state, lastError)
      }
      // Unlocked, perhaps, and refused for another reason: callers hear the present one.
      else if (halted !== null && lastError !== null && !ended.signal.aborted) halted = lastError
      tell('status', status())
    },
    listed: path => tell('crls', path),
    halt,
    close: async reason => {
      if (!ended.signal.aborted) ended.abort(reason)
      await destroyAll(null)
    },
  }
}
