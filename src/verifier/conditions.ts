// Conditions on the call, for services that ask for them: the policies of the service's own actions, fetched when the feed says that others
// are in force, parsed once a version, and evaluated here with what only the service knows of a call.
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { join } from 'node:path'
import type { Timing } from '../agent/backoff.ts'
import type { AgentIdentity } from '../agent/identity.ts'
import { AgentCaError, messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { type Cedar, loadCedar, openPolicySet, type PolicySet, type Verdict } from '../policy/cedar.ts'
import type { Attributes, PolicyCall, PolicyResource } from '../policy/cedar-call.ts'
import { parseServedPolicies, type ServedPolicies } from '../policy/cedar-served.ts'
import { CallRefused, type VerifiedPeer } from '../verify/decision.ts'
import type { PoliciesInForce } from '../verify/feed-event.ts'
import { createCallRates } from './call-rate.ts'
import type { CallRequest } from './judgement.ts'

/** What a service says of one call, beside what the verifier knows of it. */
export interface CallFacts {
  readonly resource?: { readonly type?: PolicyResource['type']; readonly id: string; readonly attributes?: Attributes }
  readonly context?: Attributes
}

export interface ConditionalDemand extends CallFacts {
  /** `<service>:<verb>`. */
  readonly action: string
}

export interface ConditionsDeps {
  readonly identity: Pick<AgentIdentity, 'current' | 'fetch'>
  readonly timing: Timing
  /** The time by which certificates are judged; milliseconds since the epoch. */
  readonly now: () => number
  readonly log: Log
  /** Where the last policies are kept for a start without the CA; null: nowhere. */
  readonly directory: string | null
}

export interface Conditions {
  /**
   * What is known to be in force, after each news of it and each snapshot, from the feed or published. null: something changed that an
   * older CA does not tell.
   */
  heard(inForce: PoliciesInForce | null): void
  /**
   * @param request null: where it came from is not known
   * @throws CallRefused `condition_failed`; `state_unknown` before there are policies, `state_stale` while newer ones are known of and not
   *   here
   */
  check(peer: VerifiedPeer, demand: ConditionalDemand, request: CallRequest | null): void
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

interface Held extends PoliciesInForce {
  readonly set: PolicySet
}

const addressOf = (request: CallRequest | null): string | null => {
  const plain = request?.socket?.remoteAddress?.replace(/^::ffff:(?=\d+\.)/i, '') ?? ''
  return isIP(plain) === 0 ? null : plain
}

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
const hold = (cedar: Cedar, value: unknown): Held => {
  const served = parseServedPolicies(value)
  if (served === null) throw new AgentCaError('policies_malformed', 'expected policies, got something else')
  const { version, hash } = served
  return { version, hash, set: openPolicySet(cedar, served.statements) }
}

/** What a service says of a call and Cedar has no form for is no reason to let it in, nor for the caller to show another certificate. */
const decideOrRefuse = (set: PolicySet, call: PolicyCall): Verdict => {
  try {
    return set.decide(call)
  } catch (cause) {
    throw new CallRefused('condition_failed', `${call.action} cannot be decided: ${messageOf(cause)}`, { cause })
  }
}

/** @throws PolicyError `policy_engine_missing` where Cedar is not installed */
export const createConditions = async (deps: ConditionsDeps): Promise<Conditions> => {
  const { identity, timing, log, directory } = deps
  const cedar = await loadCedar()
  const rates = createCallRates(timing.clock.monotonic)
  const ended = new AbortController()
  const { signal } = ended
  const waiting = new Set<() => void>()

  // Owned by this closure. `behindSince`: when it was heard that what is held is no longer what is in force.
  let held: Held | null = null
  let behindSince: number | null = null
  let fetching: Promise<void> | null = null
  /** Grows with each reason to fetch: an answer to an older one does not settle a newer one. */
  let asked = 0

  try {
    const kept = readKept(directory)
    if (kept !== null) held = hold(cedar, kept)
  } catch (error) {
    log.error({ directory, reason: messageOf(error) }, 'the last policies cannot be read; waiting for the CA')
  }

  const fetchOnce = async (): Promise<void> => {
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
    const next = hold(cedar, value)
    const before = held
    held = next
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
        behindSince = null
        for (const ready of waiting) ready()
        waiting.clear()
        return
      } catch (error) {
        if (signal.aborted) return
        log.warn({ reason: messageOf(error) }, 'the policies cannot be fetched')
        const wait = retryMs[Math.min(failures++, retryMs.length - 1)] as number
        await timing.idle(wait * (0.5 + timing.random()), signal).catch(() => {})
      }
    }
  }
  const fetchSoon = (): void => {
    asked++
    fetching ??= fetchUntilCurrent()
  }
  fetchSoon()

  const current = (): Held => {
    if (held === null)
      throw new CallRefused('state_unknown', 'there are no policies yet', { hint: 'is the CA reachable?' })
    if (behindSince !== null && timing.clock.monotonic() - behindSince > graceMs)
      throw new CallRefused('state_stale', `other policies than version ${held.version} are in force, and not here yet`)
    return held
  }

  return {
    heard: inForce => {
      if (held !== null && held.version === inForce?.version && held.hash === inForce.hash) {
        // It may have been fetched before it was heard of, and the CA be away since.
        behindSince = null
        return
      }
      behindSince ??= timing.clock.monotonic()
      fetchSoon()
    },
    check: (peer, { action, resource, context = {} }, request) => {
      const { set, version } = current()
      if (peer.kind === 'operator') throw new CallRefused('condition_failed', 'policies are about agents and services')
      const { kind, name, owner, profile, roles, attributes } = peer
      const { decision, by } = decideOrRefuse(set, {
        principal: { kind, name, owner, profile: profile ?? '', roles, attributes },
        action,
        resource:
          resource === undefined
            ? null
            : { type: resource.type ?? 'Resource', id: resource.id, attributes: resource.attributes ?? {} },
        at: deps.now(),
        source: addressOf(request),
        rate: rates.count(`${kind}:${name}`),
        context,
      })
      if (decision === 'allow') return
      throw new CallRefused('condition_failed', `policies ${version} do not allow ${kind} ${name} this ${action}`, {
        facts: { action, statements: by },
      })
    },
    ready: () => (held === null ? new Promise<void>(resolve => waiting.add(resolve)) : Promise.resolve()),
    version: () => held?.version ?? null,
    close: async () => {
      ended.abort()
      await fetching
      held?.set[Symbol.dispose]()
      held = null
    },
  }
}
