// The monitor: takes what verifiers report and what the CA recorded, keeps the rolling record, asks the rules, and hands what they find
// to the responses. Nothing here waits: whoever reports is answered at once.
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Metrics } from '../base/metrics.ts'
import { createRateBuckets } from '../base/rate-buckets.ts'
import { type Principal, parseSpiffeId, principalOf, type TrustDomain } from '../pki/spiffe.ts'
import type { MonitorRules } from '../schema/monitor.ts'
import type { ActivityPort } from '../store/activity.ts'
import type { Activity } from './activity.ts'
import { createBatches } from './batches.ts'
import { createEnrolments } from './enrolments.ts'
import { type Finding, readFinding } from './finding.ts'
import type { Decision } from './instance-record.ts'
import type { LedgerEvent } from './ledger-events.ts'
import { judgeEvent } from './ledger-rules.ts'
import { type AgentRate, busiest, createTotals, rateOf, type Totals } from './rates.ts'
import { createRecord, type RecordLimits, type Sighting, usualLimits } from './record.ts'
import { createResponses, keptFindings, type ResponseDeps, type Responses } from './response.ts'
import { judge } from './rules.ts'
import { createSilence, isSilenceRule } from './silence.ts'
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

/** Whose certificate it came with: it can only say who called itself. */
export interface Sender {
  readonly service: string
  readonly instance: string
}

export interface ReportedBatch {
  /** The same batch sent again has the same one, and counts once. */
  readonly id?: string | undefined
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
  report(sender: Sender, batch: ReportedBatch): void
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
/** Whoever waits for the core waits for this too: two megabytes take it about 10 ms. */
const savedAtOnce = { agents: 50, bytes: 2_000_000 }
/**
 * Digests of one service, whatever the number of its verifiers: far more than honest ones tell in a busy second, and few enough that one
 * service cannot keep the core from hearing the others.
 */
const digestRate = { burst: 30_000, perMinute: 600_000 }
const maxReporters = 10_000
const keptAgentsMs = 90 * 86_400_000

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
  const batches = createBatches()
  const totals = createTotals()
  const digests = createRateBuckets<string>(clock, digestRate, maxReporters)
  const record = createRecord({
    store,
    now: clock.now,
    networks: () => rules.networks,
    limits: deps.limits ?? usualLimits,
  })
  const silence = createSilence(store, record)
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

  const ask = (sighting: Sighting): void => {
    const { agent, instance, decision } = sighting
    for (const rule of rules.rules) {
      const evidence = judge(rule, sighting, rules.networks)
      if (evidence === null) continue
      if (rule.when === 'rate') agent.doNotLearn(decision.last)
      const { service, last: at } = decision
      responses.respond({ rule, agent: agent.name, instance: instance.id, service, at, evidence })
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

  return {
    activityOf: record.activityOf,
    report: ({ service, instance }, batch) => {
      if (batch.id !== undefined && !batches.take(instance, batch.id)) return
      const now = clock.now()
      const full = batch.decisions.findIndex(() => digests.take(service) > 0)
      const heard = full < 0 ? batch.decisions : batch.decisions.slice(0, full)
      const unheard = batch.decisions.slice(heard.length).reduce((sum, each) => sum + each.count, batch.dropped)
      dropped += unheard
      if (unheard > 0) metrics.count('agentca_decisions_dropped_total', {}, unheard)
      for (const reported of heard) take(service, reported, now)
    },
    recorded: event => {
      if (event.type === 'enrolled') enrolments.add(event)
      for (const rule of rules.rules) {
        const judged = judgeEvent(rule, event, enrolments)
        if (judged !== null) responses.respond({ rule, agent: event.agent, service: null, at: event.at, ...judged })
      }
    },
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
    status: () => {
      const { agents, instances } = record.size
      return { brake: responses.brake(), agents, instances, dropped, unwritten: responses.unwritten }
    },
    releaseBrake: responses.releaseBrake,
    save: () => {
      record.save(savedAtOnce)
    },
    look: () => {
      const now = clock.now()
      for (const rule of rules.rules.filter(isSilenceRule))
        for (const silent of silence.look(rule, now))
          responses.respond({ rule, instance: null, service: null, at: now, ...silent })
      const actedSince = now - rules.brake.window * 1000
      store.prune({ seenBefore: now - keptAgentsMs, keepFindings: keptFindings, actedSince })
    },
    close: async () => {
      await responses.settled()
      while (record.save(savedAtOnce) > 0);
      store.close()
    },
  }
}
