// The monitor of a running server: its file of rules, its file of activity, its ear at the audit log, and what it may do: the very
// functions that operators use, in its own name.
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Metrics } from '../base/metrics.ts'
import type { Lifecycle } from '../ca/lifecycle.ts'
import type { Revoke } from '../ca/revoke.ts'
import { ledgerEventOf, wantedEvents } from '../monitor/ledger-events.ts'
import { createMonitor, type Monitor } from '../monitor/monitor.ts'
import type { MonitorActions, Order } from '../monitor/response.ts'
import { SchemaError } from '../schema/errors.ts'
import { type MonitorRules, noRules, parseMonitor } from '../schema/monitor.ts'
import type { Ledger } from '../store/ports.ts'
import { openActivity } from '../store/sqlite/activity.ts'
import type { Core } from './core.ts'
import type { Jobs } from './jobs.ts'

export interface MonitoringDeps {
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly core: Pick<Core, 'trustDomain'>
  readonly ledger: Ledger
  readonly lifecycle: Pick<Lifecycle, 'hold' | 'lock'>
  readonly revoke: Revoke
  /** null: no rules; activity is recorded all the same. */
  readonly rulesFile: string | null
  readonly activityFile: string
}

export interface Monitoring {
  readonly monitor: Monitor
  /** Where its rules are from; null: there are none. */
  readonly rulesFile: string | null
  /** Reads the rules again. @returns what puts them in force @throws SchemaError with every fault */
  prepareReload(): () => void
  close(): Promise<void>
}

/** @throws SchemaError with every fault */
export const loadRules = (file: string | null): MonitorRules => {
  if (file === null) return noRules
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new SchemaError(file, [{ path: '', problem: messageOf(error) }])
  }
  return parseMonitor(text, file)
}

export const actionsOf = ({ lifecycle, revoke }: Pick<MonitoringDeps, 'lifecycle' | 'revoke'>): MonitorActions => {
  const contextOf = ({ who, requestId }: Order) => ({ who, requestId, source: 'monitor' })
  return {
    holdAgent: (name, order) =>
      lifecycle.hold({ kind: 'agent', name }, { context: contextOf(order), why: order.why, dryRun: false }),
    lockInstance: (id, order) => lifecycle.lock(id, order.why, { context: contextOf(order), dryRun: false }),
    revoke: (target, reason, order) =>
      revoke(target, reason, { context: contextOf(order), why: order.why, dryRun: false }),
  }
}

const readAtOnce = 2000
/** Under load one look is for many commits. */
const lookAfterMs = 20

/** What is appended from now on, in its order, outside of whoever appended it. @returns how to stop */
const followLog = ({ ledger, log }: Pick<MonitoringDeps, 'ledger' | 'log'>, monitor: Monitor): (() => void) => {
  const { audit } = ledger
  let next = audit.head().size
  let timer: NodeJS.Timeout | null = null
  const read = (): void => {
    timer = null
    const { size } = audit.head()
    const to = Math.min(size, next + readAtOnce)
    for (const leaf of audit.ofEvents(next, to, wantedEvents)) {
      const event = ledgerEventOf(leaf)
      if (event !== null) monitor.recorded(event)
    }
    next = to
    if (to < size) wake()
  }
  const wake = (): void => {
    timer ??= setTimeout(() => {
      try {
        read()
      } catch (error) {
        log.error({ reason: messageOf(error) }, 'the monitor could not follow the audit log')
      }
    }, lookAfterMs).unref()
  }
  const stop = audit.onAppend(wake)
  return () => {
    stop()
    if (timer !== null) clearTimeout(timer)
  }
}

/** @throws SchemaError */
export const openMonitoring = (deps: MonitoringDeps): Monitoring => {
  const { clock, log, metrics, ledger, core, rulesFile } = deps
  const initial = loadRules(rulesFile)
  const monitor = createMonitor({
    clock,
    log,
    metrics,
    store: openActivity(deps.activityFile, log),
    trustDomain: core.trustDomain,
    registrations: ledger.registrations,
    instances: ledger.instances,
    audit: ledger.audit,
    actions: actionsOf(deps),
    initial,
    newId: () => toHex(randomBytes(6)),
  })
  const unfollow = followLog(deps, monitor)
  metrics.gauge('agentca_monitor_agents', () => [{ value: monitor.status().agents }])
  metrics.gauge('agentca_monitor_braked', () => [{ value: monitor.status().brake.brakedAt === null ? 0 : 1 }])
  return {
    monitor,
    rulesFile,
    prepareReload: () => {
      const rules = loadRules(rulesFile)
      return () => {
        monitor.setRules(rules)
        log.info({ rules: rules.rules.length }, 'monitor rules reloaded')
      }
    },
    close: async () => {
      unfollow()
      await monitor.close()
    },
  }
}

const saveEveryMs = 250
const lookEveryMs = 60_000

export const startMonitorJobs = (jobs: Jobs, monitor: Pick<Monitor, 'save' | 'look'>): void => {
  jobs.every('save what agents did', saveEveryMs, monitor.save)
  jobs.every('look for silent agents', lookEveryMs, monitor.look)
}
