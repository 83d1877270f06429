// Every rule over a real ledger, with a clock that the test moves and the operators' own functions as actions: what trips it, what does
// not, what is done, what the audit log says, and that one command undoes it.
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { ledgerEventOf } from '../../src/monitor/ledger-events.ts'
import type { Monitor, ReportedDecision } from '../../src/monitor/monitor.ts'
import { agentSpiffeId } from '../../src/pki/spiffe.ts'
import { parseMonitor } from '../../src/schema/monitor.ts'
import { actionsOf } from '../../src/server/monitoring.ts'
import type { ActivityPort } from '../../src/store/activity.ts'
import { openActivity } from '../../src/store/sqlite/activity.ts'
import { trustDomain } from '../ca/authority.ts'
import { context, makeOperations, type Operations } from '../ca/operations-world.ts'
import * as w from '../store/make-ledger.ts'
import { monitorOver } from './world.ts'

const hour = 3_600_000
const day = 24 * hour
const week = 7 * day

let ops: Operations
let store: ActivityPort
let monitor: Monitor
let time: number

const instancesOf = new Map<string, string>()
const addAgent = async (name: string): Promise<string> => {
  const agent = await ops.register('agent', name)
  const { instanceId } = await w.issue(
    { ledger: ops.ledger, issuer: ops.issuer, agent },
    { notAfter: w.now + 1000 * day },
  )
  instancesOf.set(name, instanceId)
  return instanceId
}
const at = (when: number): void => {
  time = when
  ops.setTime(when)
}
const begin = (rules: string, failing = false): Monitor =>
  monitorOver(ops.ledger, {
    clock: { now: () => time, monotonic: () => time },
    store,
    initial: parseMonitor(rules, 'rules'),
    ...(failing ? {} : { actions: actionsOf(ops) }),
  })
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

const report = (agent: string, more: Partial<ReportedDecision> = {}, service = 'orders'): void =>
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
const found = () => monitor.findings({ limit: 100 }).map(({ rule, outcome }) => `${rule} ${outcome}`)
const stateOf = (agent = 'billing') => ops.ledger.registrations.find('agent', agent)?.state
const instanceState = (agent = 'billing') => ops.ledger.instances.get(instancesOf.get(agent) as string)?.state
/** What a rule began is a commit or two away. */
const settled = async (): Promise<void> => {
  await ops.ledger.audit.append([])
  await ops.ledger.audit.append([])
}
const deny = (more: Partial<ReportedDecision> = {}): void =>
  report('billing', { outcome: 'deny', rule: 'scope_missing', ...more })

describe('a rate', () => {
  const rules = (action = 'hold') =>
    `dryRun: false\nrules: {burst: {when: rate, ceiling: 500, floor: 100, action: ${action}, cooldown: 1m}}`

  it('above the ceiling locks the instance while there is no history, says why, and one command lets go', async () => {
    monitor = begin(rules())
    report('billing', { count: 500 })
    expect(found()).toEqual([])
    report('billing', { count: 1 })
    await settled()
    expect([stateOf(), instanceState()]).toEqual(['active', 'locked'])
    const id = instancesOf.get('billing') as string
    const [finding] = monitor.findings({ limit: 1 })
    expect(finding).toMatchObject({
      outcome: 'hold',
      cure: `agentca instance unlock ${id}`,
      evidence: { calls: 501, limit: 500 },
    })
    const leaves = ops.leaves(4).filter(leaf => leaf.who === 'monitor:burst')
    expect(leaves.map(({ event, subject }) => [event, subject])).toEqual([
      ['instance_locked', 'agent:billing'],
      ['monitor_finding', 'agent:billing'],
    ])
    expect(leaves[0].reason).toContain('calls 501')
    expect(leaves[1].evidence.examples[0]).toMatchObject({
      service: 'orders',
      action: 'orders:read',
      source: '192.0.2.7',
    })
    const released = await ops.lifecycle.unlock(id, { context, dryRun: false })
    expect(released.state).toBe('active')
  })

  it('is measured against the same hour of past weeks once there were enough of them', async () => {
    monitor = begin(rules())
    // Four weeks of 200 to 230 calls a minute on Wednesdays at ten, and a nightly job of 400.
    const wednesday = w.now + day + 10 * hour
    for (let i = 0; i < 4; i++) {
      at(wednesday + i * week)
      report('billing', { count: 200 + 10 * i })
      at(wednesday + i * week + 13 * hour)
      report('billing', { count: 400 })
      at(wednesday + i * week + 15 * hour)
      report('billing', { count: 1 })
    }
    expect(found()).toEqual([])
    at(wednesday + 4 * week)
    report('billing', { count: 304 })
    expect(found()).toEqual([])
    report('billing', { count: 1 })
    const [finding] = monitor.findings({ limit: 1 })
    expect(finding?.evidence).toMatchObject({
      calls: 305,
      limit: 304,
      baseline: { hours: 4, median: 215, deviation: 10 },
    })
    await settled()
    expect(instanceState()).toBe('locked')
  })

  it('that was too high is not learned', async () => {
    monitor = begin(rules('alert'))
    for (let i = 0; i < 4; i++) {
      at(w.now + day + i * week)
      report('billing', { count: 5000 })
      at(w.now + day + i * week + hour)
      report('billing', { count: 1 })
    }
    expect(found()).toHaveLength(4)
    expect(new Set(monitor.findings({ limit: 9 }).map(each => each.evidence.baseline))).toEqual(
      new Set(['too little history: the ceiling']),
    )
  })
})

describe('denials', () => {
  it('of many different things hold the agent; of the same thing again, or by what was done to it, they do not', async () => {
    monitor = begin('dryRun: false\nrules: {probing: {when: denials, count: 10, distinct: 3, action: hold, on: agent}}')
    deny({ count: 50 })
    deny({ count: 50, rule: 'certificate_held', action: 'a' })
    deny({ count: 50, rule: 'state_stale', action: 'b' })
    deny({ count: 5, action: 'orders:write' })
    expect(found()).toEqual([])
    deny({ action: 'orders:delete' })
    await settled()
    expect([found(), stateOf()]).toEqual([['probing hold'], 'held'])
    expect(ops.leaves(3).find(leaf => leaf.event === 'registration_changed')).toMatchObject({
      who: 'monitor:probing',
      from: 'active',
      to: 'held',
      why: expect.stringContaining('denied 56, distinct 3'),
    })
    // What it is denied now is the hold's doing, and the rule does not speak of it again.
    deny({ count: 100, action: 'x' })
    await settled()
    expect(found()).toHaveLength(1)
    const outcome = await ops.lifecycle.release({ kind: 'agent', name: 'billing' }, { context, dryRun: false })
    expect(outcome.registration.state).toBe('active')
  })
})

describe('what was never there before', () => {
  it('is told once the agent is known for long enough: an action, a service, a network', async () => {
    monitor = begin(`rules:
  action: {when: first-use, of: action, learn: 7d, action: alert}
  service: {when: first-use, of: service, learn: 7d, action: alert}
  network: {when: new-network, learn: 7d, action: alert}`)
    report('billing')
    report('billing', { action: 'orders:write', source: '203.0.113.1' }, 'stock')
    expect(found()).toEqual([])
    at(w.now + 9 * day)
    report('billing')
    report('billing', { source: '192.0.2.200' })
    expect(found()).toEqual([])
    report('billing', { action: 'orders:delete' })
    report('billing', {}, 'payroll')
    report('billing', { source: '198.51.100.1' })
    expect(found().sort()).toEqual(['action alert', 'network alert', 'service alert'])
  })
})

describe('a call that was refused', () => {
  it('makes nothing known: who probed while the agent was held, or without the scope, is told of when it gets through', async () => {
    monitor = begin(`rules:
  action: {when: first-use, of: action, learn: 1d, action: alert, cooldown: 1s}
  service: {when: first-use, of: service, learn: 1d, action: alert, cooldown: 1s}
  network: {when: new-network, learn: 1d, action: alert, cooldown: 1s}`)
    const thief = { action: 'orders:refund', source: '203.0.113.9' }
    report('billing')
    at(time + 2 * day)
    for (const rule of ['principal_held', 'scope_missing']) {
      report('billing', { ...thief, outcome: 'deny', rule }, 'payroll')
      expect(found()).toHaveLength(rule === 'principal_held' ? 0 : 3)
    }
    at(time + 5000)
    report('billing', thief, 'payroll')
    expect(found().slice(0, 3).sort()).toEqual(['action alert', 'network alert', 'service alert'])
    at(time + 5000)
    report('billing', thief, 'payroll')
    expect(found()).toHaveLength(6)
  })
})

describe('one instance at two addresses', () => {
  it('at once is held; one that moved is not', async () => {
    monitor = begin('dryRun: false\nrules: {two: {when: two-addresses, window: 1m, action: hold}}')
    report('billing', { source: '192.0.2.1', firstAgoMs: 5000 })
    at(time + 1000)
    report('billing', { source: '192.0.2.2' })
    at(time + 5000)
    report('billing', { source: '192.0.2.2' })
    expect(found()).toEqual([])
    report('billing', { source: '192.0.2.1' })
    await settled()
    expect([found(), instanceState()]).toEqual([['two hold'], 'locked'])
    const [finding] = monitor.findings({ limit: 1 })
    expect(finding?.evidence.addresses).toMatchObject([{ source: '192.0.2.2' }, { source: '192.0.2.1' }])
  })

  it('is not one that a proxy reports without an address beside a backend that knows it', async () => {
    monitor = begin(`dryRun: false
rules:
  two: {when: two-addresses, window: 1m, action: hold}
  network: {when: new-network, learn: 1s, action: hold}`)
    for (const source of ['192.0.2.1', 'unknown', '192.0.2.1', '', '192.0.2.1', 'unknown']) {
      report('billing', { source }, source === '192.0.2.1' ? 'orders' : 'behind-nginx')
      at(time + 2000)
    }
    await settled()
    expect([found(), instanceState()]).toEqual([[], 'active'])
  })
})

describe('a decoy', () => {
  it('revokes whoever touches it, allowed or not, and only what matches all of it', async () => {
    monitor = begin(`dryRun: false
rules: {canary: {when: decoy, services: [stock], resourceClasses: ['/payroll*'], action: revoke, on: agent, reason: keyCompromise}}`)
    report('billing', { resourceClass: '/payroll/2026' })
    expect(found()).toEqual([])
    deny({ resourceClass: '/orders' })
    report('billing', { resourceClass: '/payroll/2026', outcome: 'deny', rule: 'scope_missing' }, 'stock')
    await settled()
    expect([found(), instanceState()]).toEqual([['canary revoke'], 'revoked'])
    expect(ops.leaves(3).find(leaf => leaf.event === 'revoked')).toMatchObject({
      who: 'monitor:canary',
      reason: 'keyCompromise',
    })
  })
})

describe('hours and silence', () => {
  it('tells of calls outside of them, and of who calls no more, once', async () => {
    monitor = begin(`rules:
  night: {when: hours, from: '08:00', until: '18:00', action: alert, agents: [bill*], except: [billing-night]}
  quiet: {when: silence, after: 1h, action: alert, cooldown: 1s}`)
    at(Date.UTC(2026, 10, 25, 12))
    report('billing')
    monitor.save()
    monitor.look()
    expect(found()).toEqual([])
    at(Date.UTC(2026, 10, 25, 20))
    monitor.look()
    monitor.look()
    at(time + 2000)
    monitor.look()
    expect(found()).toEqual(['quiet alert'])
    report('billing')
    expect(found()).toEqual(['night alert', 'quiet alert'])
    monitor.look()
    expect(found()).toHaveLength(2)
  })
})

describe('what the CA itself recorded', () => {
  const leafOf = (event: string, subject: string, facts: object) => {
    const content = { event, sub: subject, src: '192.0.2.9', ...facts }
    return ledgerEventOf({ event, subject, at: time, bytes: Buffer.from(JSON.stringify(content)) })!
  }

  it('trips rules: many enrolments, a token in two hands with the instance it made, two holders of a lineage', async () => {
    monitor = begin(`dryRun: false
rules:
  many: {when: enrolments, count: 3, window: 1h, action: alert}
  token: {when: token-reuse, action: hold, on: instance}
  clone: {when: lineage-conflict, action: revoke, on: instance}`)
    const instance = instancesOf.get('billing') as string
    const enrol = () =>
      monitor.recorded(leafOf('intent_recorded', 'agent:billing', { op: 'enrol', instance, who: 'token:t1' }))
    expect(
      ledgerEventOf({
        event: 'intent_recorded',
        subject: 'agent:billing',
        at: 0,
        bytes: Buffer.from('{"op":"renew"}'),
      }),
    ).toBeNull()
    enrol()
    at(time + 2 * hour)
    enrol()
    enrol()
    expect(found()).toEqual([])
    enrol()
    expect(found()).toEqual(['many alert'])
    monitor.recorded(leafOf('token_reuse', 'agent:billing', { who: 'token:t1' }))
    await settled()
    expect([found()[0], instanceState()]).toEqual(['token hold', 'locked'])
    monitor.recorded(leafOf('lineage_locked', 'agent:billing', { instance, reason: 'two keys' }))
    await settled()
    expect([found()[0], instanceState()]).toEqual(['clone revoke', 'revoked'])
  })
})

describe('a rule that acts', () => {
  const canary = (more = '') =>
    `rules: {canary: {when: decoy, actions: [bait], action: hold, on: agent, cooldown: 10m${more}}}`
  const touch = (agent: string): void => report(agent, { action: 'bait' })

  it('is dry until somebody says otherwise: it tells what it would do and does nothing', async () => {
    monitor = begin(canary())
    touch('billing')
    await settled()
    expect([found(), stateOf()]).toEqual([['canary dry-run'], 'active'])
    expect(ops.leaves(1)[0]).toMatchObject({ event: 'monitor_finding', outcome: 'dry-run', action: 'hold' })
  })

  it('says nothing again of the same agent within its cool-down, and does after it', async () => {
    monitor = begin(canary(', dryRun: true'))
    touch('billing')
    touch('billing')
    at(time + 9 * 60_000)
    touch('billing')
    expect(found()).toHaveLength(1)
    at(time + 2 * 60_000)
    touch('billing')
    expect(found()).toHaveLength(2)
  })

  it('is stopped by the brake beyond a share of the fleet, also after a restart, until the window is over or somebody looked', async () => {
    const names = Array.from({ length: 40 }, (_, i) => `agent-${i}`)
    for (const name of names) await addAgent(name)
    // 41 agents: five percent are two.
    const rules = `dryRun: false\nbrake: {percent: 5, atLeast: 1, window: 1h}\n${canary()}`
    monitor = begin(rules)
    for (const name of names.slice(0, 3)) touch(name)
    await settled()
    expect(found()).toEqual(['canary braked', 'canary hold', 'canary hold'])
    expect(monitor.status().brake).toMatchObject({ acted: 2, allowed: 2, brakedAt: time })
    monitor = begin(rules)
    touch('agent-3')
    expect(found()[0]).toBe('canary braked')
    monitor.releaseBrake()
    touch('agent-4')
    at(time + 2 * hour)
    touch('agent-5')
    touch('agent-6')
    touch('agent-7')
    await settled()
    expect(found().slice(0, 4)).toEqual(['canary braked', 'canary hold', 'canary hold', 'canary hold'])
    expect(names.filter(name => stateOf(name) === 'held')).toEqual([
      'agent-0',
      'agent-1',
      'agent-4',
      'agent-5',
      'agent-6',
    ])
  })

  it('counts in the brake also when two rules trip on one call, and the second finds its work done', async () => {
    const names = Array.from({ length: 6 }, (_, i) => `agent-${i}`)
    for (const name of names) await addAgent(name)
    for (const [second, three] of [
      ['hold', names.slice(0, 3)],
      ['revoke', names.slice(3)],
    ] as const) {
      monitor = begin(`dryRun: false
brake: {percent: 1, atLeast: 2, window: 1h}
rules:
  first: {when: decoy, actions: [bait], action: hold}
  second: {when: decoy, actions: [bait], action: ${second}}`)
      monitor.releaseBrake()
      for (const name of three) {
        touch(name)
        await settled()
        await settled()
      }
      expect(monitor.status().brake).toMatchObject({ acted: 2, allowed: 2 })
      expect(found().filter(each => each.endsWith('failed'))).toEqual([])
    }
    expect(names.map(instanceState)).toEqual(['locked', 'locked', 'active', 'revoked', 'revoked', 'active'])
  })

  it('that could not act says so, gives its place in the brake back, and tries again', async () => {
    monitor = begin(`dryRun: false\n${canary()}`, true)
    touch('billing')
    await settled()
    await settled()
    expect(ops.leaves(2).map(({ event }) => event)).toEqual(['monitor_action_failed', 'monitor_finding'])
    expect([found(), monitor.status().brake.acted]).toEqual([['canary failed', 'canary hold'], 0])
    touch('billing')
    expect(found()).toHaveLength(3)
  })

  it('does not write more than the log can bear: what only alerts is counted beyond a number a minute', async () => {
    monitor = begin('rules: {r: {when: decoy, actions: ["*"], action: alert, cooldown: 1s}}')
    const size = ops.size()
    for (let i = 0; i < 200; i++) {
      at(time + 1001)
      report('billing')
    }
    await settled()
    // 200 seconds are three minutes and a bit; each may have 120, and there is one finding a second.
    expect(ops.size() - size).toBe(200)
    for (let i = 0; i < 200; i++) {
      const name = `many-${i}`
      await addAgent(name)
      report(name)
    }
    expect(monitor.status().unwritten).toBeGreaterThan(60)
  })

  it('lets nobody drown a finding: not of another rule, not by another service’s word, not of what the brake stopped', async () => {
    monitor = begin(`dryRun: false
brake: {percent: 0, atLeast: 0, window: 1h}
rules:
  eager: {when: decoy, actions: [bait], action: alert, cooldown: 1s}
  other: {when: decoy, actions: [gold], action: alert}
  stops: {when: decoy, actions: [rust], action: hold}`)
    for (let i = 0; i < 200; i++) {
      await addAgent(`many-${i}`)
      report(`many-${i}`, { action: 'bait' }, 'liar')
    }
    await settled()
    expect(monitor.status().unwritten).toBe(80)
    at(time + 2)
    report('billing', { action: 'bait' })
    report('billing', { action: 'gold' }, 'liar')
    report('billing', { action: 'rust' }, 'liar')
    await settled()
    expect(monitor.status().unwritten).toBe(80)
    expect(ops.leaves(3).map(({ event, rule, outcome }) => `${event} ${rule} ${outcome}`)).toEqual([
      'monitor_finding stops braked',
      'monitor_finding other alert',
      'monitor_finding eager alert',
    ])
  })

  it('counts in the brake after a restart whatever was found since, and not what failed or is too long ago', async () => {
    const told = (id: string, agent: string, outcome: string, when = time): void =>
      store.addFinding({ id, at: when, agent, body: JSON.stringify({ id, at: when, agent, outcome }) })
    told('old', 'agent-0', 'hold', time - 2 * hour)
    told('one', 'agent-1', 'hold')
    told('two', 'agent-2', 'revoke')
    told('three', 'agent-3', 'hold')
    told('three', 'agent-3', 'failed')
    for (let i = 0; i < 10_100; i++) told(`f${i}`, 'billing', 'alert')
    for (let looks = 0; looks < 2; looks++) {
      monitor = begin('brake: {percent: 0, atLeast: 2, window: 1h}')
      expect(monitor.status().brake.acted).toBe(2)
      monitor.look()
    }
    const kept = monitor.findings({ limit: 20_000 }).map(({ id }) => id)
    expect([kept.length, kept.slice(-4)]).toEqual([10_004, ['three', 'three', 'two', 'one']])
  })
})

describe('a service that tells more than anybody can', () => {
  it('is heard up to a bound, what is beyond it is counted, and another service is heard all the same', () => {
    monitor = begin('')
    const caller = agentSpiffeId(trustDomain, 'billing', instancesOf.get('billing') as string)
    const digest = { outcome: 'allow', rule: '', action: 'a', resourceClass: '/a', source: '192.0.2.7' } as const
    const decision = { ...digest, caller, count: 2, firstAgoMs: 0, lastAgoMs: 0, maxLatencyMs: 1 }
    const decisions = Array.from({ length: 200 }, () => decision)
    for (let i = 0; i < 151; i++) monitor.report({ service: 'loud', instance: `loud-${i}` }, { dropped: 5, decisions })
    report('billing', { count: 7 }, 'quiet')
    const allowed = monitor.activityOf('billing', 0).map(use => [use.service, use.allowed])
    expect(allowed.sort()).toEqual([
      ['loud', 60_000],
      ['quiet', 7],
    ])
    expect(monitor.status().dropped).toBe(151 * 5 + 400)
    at(time + 10)
    monitor.report({ service: 'loud', instance: 'loud-1' }, { dropped: 0, decisions })
    expect(monitor.status().dropped).toBe(151 * 5 + 400 + 200)
  })
})

describe('rules that are replaced', () => {
  it('are in force with the next decision, and what was learned stays', () => {
    monitor = begin('')
    report('billing', { action: 'bait' })
    expect(found()).toEqual([])
    monitor.setRules(parseMonitor('rules: {canary: {when: decoy, actions: [bait], action: alert}}', 'rules'))
    report('billing', { action: 'bait' })
    expect(found()).toEqual(['canary alert'])
    expect(monitor.activityOf('billing', 0)[0]?.allowed).toBe(2)
  })
})
