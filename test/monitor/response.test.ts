// What comes of what rules find, over a real ledger: dry run, cool-down, brake, failures, and that neither a rule nor a service drowns others.
import { describe, expect, it } from 'vitest'
import { agentSpiffeId } from '../../src/pki/spiffe.ts'
import { trustDomain } from '../ca/authority.ts'
import {
  addAgent,
  at,
  begin,
  found,
  hour,
  instanceState,
  instancesOf,
  monitor,
  ops,
  report,
  settled,
  stateOf,
  store,
  time,
} from './ledger-world.ts'

describe('a rule that acts', () => {
  const canary = (more = '') =>
    `rules: {canary: {when: decoy, actions: [bait], action: hold, on: agent, cooldown: 10m${more}}}`
  const touch = (agent: string): void => report(agent, { action: 'bait' })

  it('is dry until somebody says otherwise: it tells what it would do and does nothing', async () => {
    begin(canary())
    touch('billing')
    await settled()
    expect([found(), stateOf()]).toEqual([['canary dry-run'], 'active'])
    expect(ops.leaves(1)[0]).toMatchObject({ event: 'monitor_finding', outcome: 'dry-run', action: 'hold' })
  })

  it('says nothing again of the same agent within its cool-down, and does after it', async () => {
    begin(canary(', dryRun: true'))
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
    begin(rules)
    for (const name of names.slice(0, 3)) touch(name)
    await settled()
    expect(found()).toEqual(['canary braked', 'canary hold', 'canary hold'])
    expect(monitor.status().brake).toMatchObject({ acted: 2, allowed: 2, brakedAt: time })
    begin(rules)
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
      begin(`dryRun: false
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
    begin(`dryRun: false\n${canary()}`, true)
    touch('billing')
    await settled()
    await settled()
    expect(ops.leaves(2).map(({ event }) => event)).toEqual(['monitor_action_failed', 'monitor_finding'])
    expect([found(), monitor.status().brake.acted]).toEqual([['canary failed', 'canary hold'], 0])
    touch('billing')
    expect(found()).toHaveLength(3)
  })

  it('does not write more than the log can bear: what only alerts is counted beyond a number a minute', async () => {
    begin('rules: {r: {when: decoy, actions: ["*"], action: alert, cooldown: 1s}}')
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
    begin(`dryRun: false
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
      begin('brake: {percent: 0, atLeast: 2, window: 1h}')
      expect(monitor.status().brake.acted).toBe(2)
      monitor.look()
    }
    const kept = monitor.findings({ limit: 20_000 }).map(({ id }) => id)
    expect([kept.length, kept.slice(-4)]).toEqual([10_004, ['three', 'three', 'two', 'one']])
  })
})

describe('a service that tells more than anybody can', () => {
  it('is heard up to a bound, what is beyond it is counted, and another service is heard all the same', () => {
    begin('')
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
