// The policies of the service's own actions: fetched when the feed says that others are in force, parsed once a version, kept for a start
// without the CA, and relied on for no longer than a moment once newer ones are known of.
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Timing } from '../agent/backoff.ts'
import { AgentCaError, messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { type Cedar, loadCedar, openPolicySet, type PolicySet } from '../policy/cedar.ts'
import { parseServedPolicies, type ServedPolicies } from '../policy/cedar-served.ts'
import { CallRefused } from '../verify/decision.ts'
import type { PoliciesInForce } from '../verify/feed-event.ts'
import type { CallingIdentity } from './outside/calls.ts'

export interface FollowedPoliciesDeps {
  readonly identity: CallingIdentity
  readonly timing: Timing
  readonly log: Log
  /** Where the last policies are kept for a start without the CA; null: nowhere. */
  readonly directory: string | null
  /** After others are held. */
  readonly changed: () => void
}

export interface HeldPolicies extends PoliciesInForce {
  readonly set: PolicySet
}

export interface FollowedPolicies {
  /** What is known to be in force. null: something changed that an older CA does not tell. */
  heard(inForce: PoliciesInForce | null): void
  /** @throws CallRefused `state_unknown` before there are policies, `state_stale` while newer ones are known of and not here */
  current(): HeldPolicies
  /** Resolves once there are policies. */
  ready(): Promise<void>
  /** null: none yet. */
  version(): number | null
  close(): Promise<void>
}

/** A change acts within a second: after that the old policies are not relied on. */
const graceMs = 1000
const deadlineMs = 10_000
const retryMs = [100, 200, 500, 1000, 2000, 5000]
const maxBytes = 4_000_000
const keptFile = 'policies.json'

const readKept = (directory: string | null): unknown => {
  if (directory === null || !existsSync(join(directory, keptFile))) return null
  return JSON.parse(readFileSync(join(directory, keptFile), 'utf8'))
}

const keep = (directory: string | null, policies: ServedPolicies): void => {
  if (directory === null) return
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const path = join(directory, keptFile)
  writeFileSync(`${path}.new`, JSON.stringify(policies), { mode: 0o600 })
  renameSync(`${path}.new`, path)
}

/** @throws AgentCaError `policies_malformed`; PolicyError */
const hold = (cedar: Cedar, value: unknown): HeldPolicies => {
  const served = parseServedPolicies(value)
  if (served === null) throw new AgentCaError('policies_malformed', 'expected policies, got something else')
  const { version, hash } = served
  return { version, hash, set: openPolicySet(cedar, served.statements) }
}

type Current = { held: HeldPolicies | null; behindSince: number | null }

/** @throws whatever keeps the answer from being policies */
const fetchPolicies = async (
  cedar: Cedar,
  identity: FollowedPoliciesDeps['identity'],
  signal: AbortSignal,
): Promise<{ readonly value: unknown; readonly next: HeldPolicies }> => {
  const { trustDomain, url } = identity.current()
  const answer = await identity.fetch(`${url}/v1/policies`, {
    peer: `spiffe://${trustDomain}/service/agentca`,
    signal: AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]),
  })
  const text = await answer.text()
  if (answer.status !== 200)
    throw new AgentCaError('policies_unreachable', `the CA answered ${answer.status}: ${text.slice(0, 300)}`)
  if (text.length > maxBytes) throw new AgentCaError('policies_malformed', `more than ${maxBytes} characters`)
  const value: unknown = JSON.parse(text)
  return { value, next: hold(cedar, value) }
}

/** Fetches until what it got was asked for after the last reason to ask. @returns what is another reason */
const createFetching = (deps: FollowedPoliciesDeps, cedar: Cedar, current: Current, signal: AbortSignal) => {
  const { identity, timing, log, directory } = deps
  const waiting = new Set<() => void>()
  // Owned by this closure.
  let fetching: Promise<void> | null = null
  /** Grows with each reason to fetch: an answer to an older one does not settle a newer one. */
  let asked = 0

  const fetchOnce = async (): Promise<void> => {
    const { value, next } = await fetchPolicies(cedar, identity, signal)
    const before = current.held
    current.held = next
    before?.set[Symbol.dispose]()
    log.info({ version: next.version }, 'policies are in force')
    try {
      keep(directory, value as ServedPolicies)
    } catch (error) {
      log.error({ directory, reason: messageOf(error) }, 'the policies could not be written')
    }
  }
  const fetchUntilCurrent = async (): Promise<void> => {
    for (let failures = 0; !signal.aborted; ) {
      const reason = asked
      try {
        await fetchOnce()
        failures = 0
        if (reason !== asked) continue
        // In the same turn: a reason that comes next begins anew.
        fetching = null
        current.behindSince = null
        for (const ready of waiting) ready()
        waiting.clear()
        deps.changed()
        return
      } catch (error) {
        if (signal.aborted) return
        log.warn({ reason: messageOf(error) }, 'the policies cannot be fetched')
        const wait = retryMs[Math.min(failures++, retryMs.length - 1)] as number
        await timing.idle(wait * (0.5 + timing.random()), signal).catch(() => {})
      }
    }
  }
  return {
    soon: (): void => {
      asked++
      fetching ??= fetchUntilCurrent()
    },
    first: (): Promise<void> => new Promise(resolve => waiting.add(resolve)),
    settled: async (): Promise<void> => {
      await fetching
    },
  }
}

/** @throws PolicyError `policy_engine_missing` where Cedar is not installed */
export const followPolicies = async (deps: FollowedPoliciesDeps): Promise<FollowedPolicies> => {
  const { timing, log, directory } = deps
  const cedar = await loadCedar()
  const ended = new AbortController()
  // Owned by this closure and its fetching. `behindSince`: when it was heard that what is held is no longer what is in force.
  const current: Current = { held: null, behindSince: null }
  try {
    const kept = readKept(directory)
    if (kept !== null) current.held = hold(cedar, kept)
  } catch (error) {
    log.error({ directory, reason: messageOf(error) }, 'the last policies cannot be read; waiting for the CA')
  }
  const fetching = createFetching(deps, cedar, current, ended.signal)
  fetching.soon()
  return {
    heard: inForce => {
      const { held } = current
      if (held !== null && held.version === inForce?.version && held.hash === inForce.hash) {
        // It may have been fetched before it was heard of, and the CA be away since.
        current.behindSince = null
        return
      }
      current.behindSince ??= timing.clock.monotonic()
      fetching.soon()
    },
    current: () => {
      const { held, behindSince } = current
      if (held === null)
        throw new CallRefused('state_unknown', 'there are no policies yet', { hint: 'is the CA reachable?' })
      if (behindSince !== null && timing.clock.monotonic() - behindSince > graceMs)
        throw new CallRefused(
          'state_stale',
          `other policies than version ${held.version} are in force, and not here yet`,
        )
      return held
    },
    ready: () => (current.held === null ? fetching.first() : Promise.resolve()),
    version: () => current.held?.version ?? null,
    close: async () => {
      ended.abort()
      await fetching.settled()
      current.held?.set[Symbol.dispose]()
      current.held = null
    },
  }
}
