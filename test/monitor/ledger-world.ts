// A monitor over a real ledger, with a clock that the test moves and the operators' own functions as actions; each test gets its own. What
// is exported and changes belongs to this file: `begin` and `at` change it.
import { afterEach, beforeEach } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import type { Monitor, ReportedDecision } from '../../src/monitor/monitor.ts'
import { agentSpiffeId } from '../../src/pki/spiffe.ts'
import { parseMonitor } from '../../src/schema/monitor.ts'
import { actionsOf } from '../../src/server/monitoring.ts'
import type { ActivityPort } from '../../src/store/activity.ts'
import { openActivity } from '../../src/store/sqlite/activity.ts'
import { trustDomain } from '../ca/authority.ts'
import { makeOperations, type Operations } from '../ca/operations-world.ts'
import * as w from '../store/make-ledger.ts'
import { monitorOver } from './world.ts'

export const hour = 3_600_000
export const day = 24 * hour
export const week = 7 * day

export let ops: Operations
export let store: ActivityPort
export let monitor: Monitor
export let time: number

export const instancesOf = new Map<string, string>()
export const addAgent = async (name: string): Promise<string> => {
  const agent = await ops.register('agent', name)
  const { instanceId } = await w.issue(
    { ledger: ops.ledger, issuer: ops.issuer, agent },
    { notAfter: w.now + 1000 * day },
  )
  instancesOf.set(name, instanceId)
  return instanceId
}
export const at = (when: number): void => {
  time = when
  ops.setTime(when)
}
export const begin = (rules: string, failing = false): void => {
  monitor = monitorOver(ops.ledger, {
    clock: { now: () => time, monotonic: () => time },
    store,
    initial: parseMonitor(rules, 'rules'),
    ...(failing ? {} : { actions: actionsOf(ops) }),
  })
}
beforeEach(async () => {
  ops = await makeOperations()
  store = openActivity(':memory:', silentLog)
  at(w.now + day)
  await addAgent('billing')
})
afterEach(async () => {
  await monitor?.close()
  await ops.ledger.close()
})

export const report = (agent: string, more: Partial<ReportedDecision> = {}, service = 'orders'): void =>
  monitor.report(
    { service, instance: `${service}-1` },
    {
      dropped: 0,
      decisions: [
        {
          ...{ outcome: 'allow', rule: '', action: 'orders:read', resourceClass: '/orders', source: '192.0.2.7' },
          ...{ count: 1, firstAgoMs: 0, lastAgoMs: 0, maxLatencyMs: 1 },
          caller: agentSpiffeId(trustDomain, agent, instancesOf.get(agent) as string),
          ...more,
        },
      ],
    },
  )
export const found = () => monitor.findings({ limit: 100 }).map(({ rule, outcome }) => `${rule} ${outcome}`)
export const stateOf = (agent = 'billing') => ops.ledger.registrations.find('agent', agent)?.state
export const instanceState = (agent = 'billing') => ops.ledger.instances.get(instancesOf.get(agent) as string)?.state
/** What a rule began is a commit or two away. */
export const settled = async (): Promise<void> => {
  await ops.ledger.audit.append([])
  await ops.ledger.audit.append([])
}
export const deny = (more: Partial<ReportedDecision> = {}): void =>
  report('billing', { outcome: 'deny', rule: 'scope_missing', ...more })
