// A monitor over a real ledger and a real activity file in memory, with a clock that the test moves, and actions that are the operators'
// own functions.
import { silentLog } from '../../src/base/log.ts'
import { silentMetrics } from '../../src/base/metrics.ts'
import { createMonitor, type Monitor, type MonitorDeps } from '../../src/monitor/monitor.ts'
import { type MonitorRules, noRules } from '../../src/schema/monitor.ts'
import type { Ledger } from '../../src/store/ports.ts'
import { openActivity } from '../../src/store/sqlite/activity.ts'
import { trustDomain } from '../ca/authority.ts'

export const refusing: MonitorDeps['actions'] = {
  holdAgent: () => Promise.reject(new Error('not in this test')),
  lockInstance: () => Promise.reject(new Error('not in this test')),
  revoke: () => Promise.reject(new Error('not in this test')),
}

export const monitorOver = (
  ledger: Pick<Ledger, 'audit' | 'registrations' | 'instances'>,
  more: Partial<MonitorDeps> & { readonly rules?: MonitorRules } = {},
): Monitor => {
  let id = 0
  return createMonitor({
    clock: { now: Date.now, monotonic: () => performance.now() },
    log: silentLog,
    metrics: silentMetrics,
    store: openActivity(':memory:', silentLog),
    trustDomain,
    registrations: ledger.registrations,
    instances: ledger.instances,
    audit: ledger.audit,
    actions: refusing,
    initial: more.rules ?? noRules,
    newId: () => `f${++id}`,
    ...more,
  })
}
