// Every rule over a real ledger: what trips it, what does not, what is done, what the audit log says, and that one command undoes it.
import { describe, expect, it } from 'vitest'
import { ledgerEventOf } from '../../src/monitor/ledger-events.ts'
import { parseMonitor } from '../../src/schema/monitor.ts'
import { context } from '../ca/operations-world.ts'
import * as w from '../store/make-ledger.ts'
import {
  at,
  begin,
  day,
  deny,
  found,
  hour,
  instanceState,
  instancesOf,
  monitor,
  ops,
  report,
  settled,
  stateOf,
  time,
  week,
} from './ledger-world.ts'

describe('a rate', () => {
  const rules = (action = 'hold') =>
    `dryRun: false\nrules: {burst: {when: rate, ceiling: 500, floor: 100, action: ${action}, cooldown: 1m}}`

  it('above the ceiling locks the instance while there is no history, says why, and one command lets go', async () => {
    begin(rules())
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
    begin(rules())
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
    begin(rules('alert'))
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
    begin('dryRun: false\nrules: {probing: {when: denials, count: 10, distinct: 3, action: hold, on: agent}}')
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
    begin(`rules:
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
    begin(`rules:
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
    begin('dryRun: false\nrules: {two: {when: two-addresses, window: 1m, action: hold}}')
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
    begin(`dryRun: false
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
    begin(`dryRun: false
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
    begin(`rules:
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
    begin(`dryRun: false
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
describe('rules that are replaced', () => {
  it('are in force with the next decision, and what was learned stays', () => {
    begin('')
    report('billing', { action: 'bait' })
    expect(found()).toEqual([])
    monitor.setRules(parseMonitor('rules: {canary: {when: decoy, actions: [bait], action: alert}}', 'rules'))
    report('billing', { action: 'bait' })
    expect(found()).toEqual(['canary alert'])
    expect(monitor.activityOf('billing', 0)[0]?.allowed).toBe(2)
  })
})
