// The monitor: takes what verifiers report and what the CA recorded, keeps the rolling record, asks the rules, and hands what they find
// to the responses. Nothing here waits: whoever reports is answered at once.
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Metrics } from '../base/metrics.ts'
import { type Principal, parseSpiffeId, principalOf, type TrustDomain } from '../pki/spiffe.ts'
import type { MonitorRule, MonitorRules } from '../schema/monitor.ts'
import type { ActivityPort } from '../store/activity.ts'
import type { Activity } from './activity.ts'
import { createEnrolments } from './enrolments.ts'
import { type Finding, readFinding } from './finding.ts'
import type { Decision } from './instance-record.ts'
import type { LedgerEvent } from './ledger-events.ts'
import { type AgentRate, busiest, createTotals, rateOf, type Totals } from './rates.ts'
import { createRecord, type RecordLimits, type Sighting, usualLimits } from './record.ts'
import { createResponses, type ResponseDeps, type Responses } from './response.ts'
import { concerns, type Evidence, judge } from './rules.ts'
import { createStrangers, type Stranger } from './strangers.ts'

/** One digest as a service sends it; `caller` was not established where it is null. Ages are from when it was sent. */
export interface ReportedDecision {
  readonly outcome: 'allow' | 'deny'
  readonly rule: string
  readonly caller: string | null
  readonly action: string
  readonly resourceClass: string
  readonly source: string
  readonly count: number
  readonly firstAgoMs: number
  readonly lastAgoMs: number
  readonly maxLatencyMs: number
}

export interface ReportedBatch {
  /** Decisions that the service had no room for. */
  readonly dropped: number
  readonly decisions: readonly ReportedDecision[]
}

export interface MonitorStatus {
  readonly brake: ReturnType<Responses['brake']>
  readonly agents: number
  readonly instances: number
  readonly dropped: number
  readonly unwritten: number
}

export interface Monitor extends Activity {
  /** @param service name of the one that sends it: it can only say who called itself */
  report(service: string, batch: ReportedBatch): void
  recorded(event: LedgerEvent): void
  rules(): MonitorRules
  setRules(rules: MonitorRules): void
  /** Newest first. */
  findings(filter: { readonly agent?: string | undefined; readonly limit: number }): readonly Finding[]
  /** Busiest first. */
  top(limit: number): {
    readonly total: ReturnType<Totals['rates']>
    readonly agents: readonly AgentRate[]
    readonly strangers: readonly Stranger[]
  }
  status(): MonitorStatus
  releaseBrake(): void
  /** Four times a second: a few agents each time. */
  save(): void
  /** Each minute: silence, and what is too old to keep. */
  look(): void
  /** Waits for what it began, and writes what is not written. */
  close(): Promise<void>
}

export interface MonitorDeps extends Omit<ResponseDeps, 'rules' | 'store' | 'metrics'> {
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly store: ActivityPort
  readonly trustDomain: TrustDomain
  readonly initial: MonitorRules
  readonly limits?: RecordLimits
}

/** A batch that took longer than this to arrive is dated as if it had not. */
const maxAgeMs = 60_000
const savedAtOnce = 50
const keptAgentsMs = 90 * 86_400_000
const keptFindings = 10_000
const silentPerLook = 10_000
const maxToldSilent = 20_000
const firstLookBackMs = 86_400_000
const writtenLateMs = 300_000

/** One digest that makes no sense must not cost the others of its batch. */
const principalIn = (caller: string): Principal | null => {
  try {
    return principalOf(parseSpiffeId(caller))
  } catch {
    return null
  }
}

export const createMonitor = (deps: MonitorDeps): Monitor => {
  const { clock, store, metrics, registrations, instances, trustDomain } = deps
  // Owned by this closure.
  let rules = deps.initial
  let dropped = 0
  const enrolments = createEnrolments()
  const strangers = createStrangers()
  const totals = createTotals()
  /** The last call of those whose silence was told. */
  const toldSilent = new Map<string, number>()
  /** Of each rule: who was last seen before this was looked at. */
  const silentUntil = new Map<string, number>()
  const record = createRecord({
    store,
    now: clock.now,
    networks: () => rules.networks,
    limits: deps.limits ?? usualLimits,
  })
  const responses = createResponses({ ...deps, rules: () => rules })

  /** Whom the digest names, when the ledger knows it: a service must not make us remember names of its own. */
  const knownCaller = (
    caller: string | null,
  ): { readonly agent: string; readonly instance: string } | 'other' | null => {
    if (caller === null) return null
    const principal = principalIn(caller)
    if (principal === null || principal.trustDomain !== trustDomain) return null
    if (principal.kind !== 'agent') return 'other'
    const { agent, instance } = principal
    if (record.instance(instance)?.agent === agent) return { agent, instance }
    const registration = registrations.find('agent', agent)
    if (registration === null || instances.get(instance)?.registrationId !== registration.id) return null
    return { agent, instance }
  }

  const found = (
    rule: MonitorRule,
    about: { agent: string; instance: string | null; at: number },
    evidence: Evidence,
  ) => {
    if (concerns(rule, about.agent)) responses.respond({ rule, evidence, ...about })
  }
  const ask = (sighting: Sighting): void => {
    const { agent, instance, decision } = sighting
    for (const rule of rules.rules) {
      const evidence = judge(rule, sighting, rules.networks)
      if (evidence === null) continue
      if (rule.when === 'rate') agent.doNotLearn(decision.last)
      found(rule, { agent: agent.name, instance: instance.id, at: decision.last }, evidence)
    }
  }
  const take = (service: string, reported: ReportedDecision, now: number): void => {
    const { caller, firstAgoMs, lastAgoMs, ...digest } = reported
    const last = now - Math.min(maxAgeMs, lastAgoMs)
    const known = knownCaller(caller)
    totals.add(service, digest.outcome, digest.count, last)
    metrics.count('agentca_decisions_total', { outcome: digest.outcome }, digest.count)
    if (known === 'other') return
    if (known === null) {
      strangers.add(digest.source, service, digest.count, last)
      return
    }
    const decision: Decision = {
      ...digest,
      ...known,
      service,
      first: Math.min(last, now - Math.min(2 * maxAgeMs, firstAgoMs)),
      last,
    }
    ask(record.add(decision))
  }

  const onEvent: { readonly [T in LedgerEvent['type']]: (event: Extract<LedgerEvent, { type: T }>) => void } = {
    enrolled: event => {
      const { agent, at } = event
      enrolments.add(event)
      for (const rule of rules.rules) {
        if (rule.when !== 'enrolments') continue
        const count = enrolments.count(agent, at - rule.window * 1000)
        if (count < rule.count) continue
        const evidence = { enrolments: count, windowSeconds: rule.window, limit: rule.count, source: event.source }
        found(rule, { agent, instance: null, at }, evidence)
      }
    },
    'token-reuse': ({ agent, at, tokenId, source }) => {
      const made = enrolments.byToken(tokenId)
      for (const rule of rules.rules)
        if (rule.when === 'token-reuse')
          found(
            rule,
            { agent, instance: made.at(-1) ?? null, at },
            { token: tokenId ?? 'unknown', source, instances: made },
          )
    },
    'lineage-conflict': ({ agent, instance, at, reason, source }) => {
      for (const rule of rules.rules)
        if (rule.when === 'lineage-conflict')
          found(rule, { agent, instance, at }, { conflict: reason, source, instance })
    },
  }

  const lookForSilence = (now: number): void => {
    for (const rule of rules.rules) {
      if (rule.when !== 'silence') continue
      const before = now - rule.after * 1000
      // From where the last look ended, with room for what was written late; after a start those of a day.
      const after = (silentUntil.get(rule.name) ?? before - firstLookBackMs) - writtenLateMs
      silentUntil.set(rule.name, before)
      for (const stored of store.lastSeenIn(after, before, silentPerLook)) {
        const lastSeen = Math.max(stored.lastSeen, record.agent(stored.name)?.lastSeen ?? 0)
        const key = `${rule.name} ${stored.name}`
        if (lastSeen >= before || toldSilent.get(key) === lastSeen || !concerns(rule, stored.name)) continue
        toldSilent.set(key, lastSeen)
        if (toldSilent.size > maxToldSilent) toldSilent.delete(toldSilent.keys().next().value as string)
        const evidence = {
          lastCall: Math.round(lastSeen),
          silentSeconds: Math.round((now - lastSeen) / 1000),
          limitSeconds: rule.after,
        }
        found(rule, { agent: stored.name, instance: null, at: now }, evidence)
      }
    }
  }

  return {
    activityOf: record.activityOf,
    report: (service, batch) => {
      const now = clock.now()
      dropped += batch.dropped
      if (batch.dropped > 0) metrics.count('agentca_decisions_dropped_total', {}, batch.dropped)
      for (const reported of batch.decisions) take(service, reported, now)
    },
    recorded: event => (onEvent[event.type] as (event: LedgerEvent) => void)(event),
    rules: () => rules,
    setRules: next => {
      rules = next
    },
    findings: filter => store.findings(filter).map(readFinding),
    top: limit => {
      const now = clock.now()
      return {
        total: totals.rates(now),
        agents: busiest(record.agents(), now, limit).map(agent => rateOf(agent, record.instancesOf(agent.name), now)),
        strangers: strangers.list(now).slice(0, limit),
      }
    },
    status: () => ({ brake: responses.brake(), ...record.size, dropped, unwritten: responses.unwritten }),
    releaseBrake: responses.releaseBrake,
    save: () => {
      record.save(savedAtOnce)
    },
    look: () => {
      const now = clock.now()
      lookForSilence(now)
      store.prune({ seenBefore: now - keptAgentsMs, keepFindings: keptFindings })
    },
    close: async () => {
      await responses.settled()
      while (record.save(savedAtOnce) > 0);
      store.close()
    },
  }
}
