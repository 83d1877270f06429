// From what a rule found to what is done: cool-down, dry run, brake, then the very functions that operators use. Recorded first: the leaf
// that explains an action is asked for before the action, and lands in the same commit or an earlier one.
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Metrics } from '../base/metrics.ts'
import { createRateBuckets } from '../base/rate-buckets.ts'
import type { MonitorRule, MonitorRules } from '../schema/monitor.ts'
import type { ActivityPort } from '../store/activity.ts'
import type { AuditPort, InstancesPort, RegistrationsPort } from '../store/ports.ts'
import { type BrakeState, createBrake } from './brake.ts'
import { createCoolDown } from './cool-down.ts'
import {
  actorOf,
  cureOf,
  type Finding,
  failureLeaf,
  findingLeaf,
  type Outcome,
  readFinding,
  storedFinding,
  type Target,
  targetOf,
  whyOf,
} from './finding.ts'
import type { Evidence } from './rules.ts'

/** Who does it and why, as every change of the ledger wants it. */
export interface Order {
  readonly who: string
  readonly requestId: string
  readonly why: string
}

/** Each resolves when it is durable. */
export interface MonitorActions {
  holdAgent(name: string, order: Order): Promise<unknown>
  lockInstance(id: string, order: Order): Promise<unknown>
  revoke(target: Target, reason: string, order: Order): Promise<unknown>
}

export interface ResponseDeps {
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Pick<Metrics, 'count' | 'observe'>
  readonly store: Pick<ActivityPort, 'addFinding' | 'findings'>
  readonly audit: Pick<AuditPort, 'append'>
  readonly registrations: Pick<RegistrationsPort, 'find' | 'counts'>
  readonly instances: Pick<InstancesPort, 'get'>
  readonly actions: MonitorActions
  readonly rules: () => MonitorRules
  readonly newId: () => string
}

export interface Found {
  readonly rule: MonitorRule
  readonly agent: string
  readonly instance: string | null
  /** Who reported the call; null: nobody's report. */
  readonly service: string | null
  readonly evidence: Evidence
  /** When the call or event came that tripped the rule. */
  readonly at: number
}

/** In the file. Of those that acted within the brake's window so many beside them: they are what it counts by. */
export const keptFindings = 10_000

export interface Responses {
  /** Returns at once. @returns whether it was said: not within the cool-down, nor of what is stopped already */
  respond(found: Found): boolean
  brake(): BrakeState
  releaseBrake(): void
  /** Leaves that were not written because there were too many findings in a minute. */
  readonly unwritten: number
  /** Waits for actions that run. */
  settled(): Promise<void>
}

interface Decided {
  readonly outcome: Outcome
  /** Takes its place in the brake back; null: nothing is done. */
  readonly giveBack: (() => void) | null
}

const keyOf = (rule: string, { by, value }: Target): string => `${rule} ${by} ${value}`

/**
 * Findings without an action that get a leaf of their own: a rule that is too eager must not fill the log, and what it says on the word of
 * one service must not drown what other rules say, or what the same one says on another's word. What the brake stopped has its own.
 */
const leafRate = { burst: 120, perMinute: 120 }
const maxBudgets = 10_000

export const createResponses = (deps: ResponseDeps): Responses => {
  const { clock, log, metrics, store, audit, registrations, instances, actions } = deps
  const brake = createBrake(() => deps.rules().brake)
  // Owned by this closure.
  const coolDown = createCoolDown()
  const running = new Set<Promise<void>>()
  const budgets = createRateBuckets<string>(clock, leafRate, maxBudgets)
  let unwritten = 0

  const fleet = (): number => {
    const { active, held } = registrations.counts().agent
    return active + held
  }
  /** Whether there is anything left to stop. */
  const isOpen = (rule: MonitorRule, agent: string, { by, value }: Target): boolean => {
    const state = registrations.find('agent', agent)?.state
    if (state === undefined || state === 'retired') return false
    if (rule.action === 'alert') return true
    const instance = by === 'instance' ? instances.get(value)?.state : 'active'
    if (rule.action === 'revoke') return instance !== undefined && instance !== 'revoked'
    return state === 'active' && instance === 'active'
  }
  const decide = ({ action, dryRun }: MonitorRule, agent: string, at: number): Decided => {
    if (action === 'alert') return { outcome: 'alert', giveBack: null }
    if (dryRun) return { outcome: 'dry-run', giveBack: null }
    const giveBack = brake.take(agent, at, fleet())
    return { outcome: giveBack === null ? 'braked' : action, giveBack }
  }
  const mayWrite = ({ outcome, rule }: Finding, service: string | null): boolean =>
    outcome === 'hold' || outcome === 'revoke' || budgets.take(`${outcome === 'braked'} ${rule} ${service ?? ''}`) === 0
  const write = (finding: Finding, service: string | null): void => {
    if (!mayWrite(finding, service)) {
      unwritten++
      return
    }
    audit
      .append([findingLeaf(finding)])
      .catch(error => log.error({ finding: finding.id, reason: messageOf(error) }, 'a finding could not be recorded'))
  }
  const perform = (finding: Finding, reason: string): Promise<unknown> => {
    const target = targetOf(finding)
    const order: Order = { who: actorOf(finding.rule), requestId: finding.id, why: whyOf(finding) }
    if (finding.outcome === 'revoke') return actions.revoke(target, reason, order)
    return target.by === 'agent' ? actions.holdAgent(target.value, order) : actions.lockInstance(target.value, order)
  }
  const act = async (finding: Finding, rule: MonitorRule, giveBack: () => void): Promise<void> => {
    try {
      await perform(finding, rule.reason)
      metrics.observe('agentca_monitor_action_seconds', Math.max(0, clock.now() - finding.at) / 1000)
    } catch (error) {
      giveBack()
      // Two rules may trip on one call: the second one finds done what it wanted.
      if (!isOpen(rule, finding.agent, targetOf(finding))) return
      // Silence after a failure would be the end of it: the next call that trips the rule tries again.
      coolDown.end(keyOf(finding.rule, targetOf(finding)))
      store.addFinding(storedFinding({ ...finding, outcome: 'failed', cure: cureOf('failed', finding) }))
      log.error({ finding: finding.id, rule: finding.rule, reason: messageOf(error) }, 'a rule could not act')
      await audit.append([failureLeaf(finding, clock.now(), messageOf(error))]).catch(() => {})
    }
  }

  // A server that is started again and again must not act on another share of the fleet each time.
  const since = clock.now() - deps.rules().brake.window * 1000
  const told = store.findings({ since, outcomes: ['hold', 'revoke', 'failed'], limit: keptFindings }).map(readFinding)
  const failed = new Set(told.filter(({ outcome }) => outcome === 'failed').map(({ id }) => id))
  for (const { id, agent, at } of told.toReversed()) if (!failed.has(id)) brake.take(agent, at, Number.MAX_SAFE_INTEGER)

  return {
    respond: found => {
      const { rule, agent, instance, service, evidence, at } = found
      const about = { action: rule.action, on: instance === null ? ('agent' as const) : rule.on, agent, instance }
      const target = targetOf(about)
      if (!isOpen(rule, agent, target)) return false
      if (!coolDown.take(keyOf(rule.name, target), at, rule.cooldown * 1000)) return false
      const { outcome, giveBack } = decide(rule, agent, at)
      const finding: Finding = {
        id: deps.newId(),
        at: Math.round(at),
        rule: rule.name,
        when: rule.when,
        ...about,
        outcome,
        evidence,
        cure: cureOf(outcome, about),
      }
      metrics.count('agentca_monitor_findings_total', { when: rule.when, outcome })
      log.warn(
        { finding: finding.id, rule: rule.name, agent, instance, outcome },
        `a rule found something: ${whyOf(finding)}`,
      )
      write(finding, service)
      store.addFinding(storedFinding(finding))
      if (giveBack !== null) {
        const action = act(finding, rule, giveBack).finally(() => running.delete(action))
        running.add(action)
      }
      return true
    },
    brake: () => brake.state(clock.now(), fleet()),
    releaseBrake: brake.release,
    get unwritten() {
      return unwritten
    },
    settled: async () => {
      while (running.size > 0) await Promise.all(running)
    },
  }
}
