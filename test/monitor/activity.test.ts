// What an agent did, by the rolling record over the real activity file: counted, listed, bounded, and there again after a restart.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import type { Decision } from '../../src/monitor/instance-record.ts'
import { createRecord, isOwnDenial, type RecordLimits } from '../../src/monitor/record.ts'
import { createUses, maxRefused, maxUses } from '../../src/monitor/uses.ts'
import { openActivity } from '../../src/store/sqlite/activity.ts'

const hour = 3_600_000
const start = Date.UTC(2026, 10, 23, 8)
let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-activity-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const decision = (more: Partial<Decision> = {}): Decision => ({
  agent: 'invoices',
  instance: 'i1',
  service: 'orders',
  action: 'orders:read',
  resourceClass: '/orders/*',
  outcome: 'allow',
  rule: '',
  source: '192.0.2.7',
  count: 1,
  first: start,
  last: start,
  maxLatencyMs: 1,
  ...more,
})

const world = (path = ':memory:', limits: RecordLimits = { agents: 100, instances: 100, bytes: 1e9 }) => {
  const time = { now: start }
  const store = openActivity(path, silentLog)
  const record = createRecord({ store, now: () => time.now, networks: () => ({ ipv4: 24, ipv6: 48 }), limits })
  return { time, store, record }
}

describe('the activity of an agent', () => {
  it('lists each thing it did with its counts, newest first', () => {
    const { record } = world()
    record.add(decision({ count: 3 }))
    record.add(decision({ outcome: 'deny', rule: 'scope_missing', action: 'orders:write', last: start + 5 }))
    record.add(decision({ count: 2, last: start + 1 }))
    expect(record.activityOf('invoices', start)).toEqual([
      {
        ...{ service: 'orders', action: 'orders:write', resourceClass: '/orders/*' },
        ...{ allowed: 0, denied: 1, first: start, last: start + 5 },
      },
      {
        ...{ service: 'orders', action: 'orders:read', resourceClass: '/orders/*' },
        ...{ allowed: 5, denied: 0, first: start, last: start + 1 },
      },
    ])
    expect(record.activityOf('nobody', 0)).toEqual([])
  })

  it('counts whole hours of the last two days, whole days before, and leaves out what was not done since', () => {
    const { record, time } = world()
    record.add(decision({ count: 1 }))
    record.add(decision({ count: 10, first: start + 2 * hour, last: start + 2 * hour }))
    record.add(decision({ count: 100, first: start + 30 * hour, last: start + 30 * hour }))
    time.now = start + 31 * hour
    const allowed = (since: number) => record.activityOf('invoices', since).map(use => use.allowed)
    expect(allowed(start + 29 * hour)).toEqual([100])
    expect(allowed(start + 2 * hour + 1)).toEqual([110])
    expect(allowed(start)).toEqual([111])
    expect(allowed(start - 90 * 24 * hour)).toEqual([111])
    expect(allowed(start + 31 * hour)).toEqual([])
  })

  it('is there after a restart, with what was learned', () => {
    const file = join(directory, 'activity.db')
    const before = world(file)
    before.record.add(decision({ count: 7 }))
    before.record.add(decision({ count: 1, first: start + hour, last: start + hour }))
    expect(before.record.save({ agents: 10, bytes: 1e6 })).toBe(0)
    before.store.close()
    const after = world(file)
    after.time.now = start + hour
    expect(after.record.activityOf('invoices', start)[0]?.allowed).toBe(8)
    const { agent, novelty, newNetwork } = after.record.add(decision({ first: start + hour, last: start + hour }))
    expect([novelty, newNetwork, agent.firstSeen]).toEqual([{ service: false, action: false }, null, start])
    expect(agent.peaks.agent.like(start)).toEqual([7])
    after.store.close()
  })

  it('begins anew beside a damaged file', () => {
    const file = join(directory, 'activity.db')
    writeFileSync(file, 'not a database, but long enough to be taken for one by whoever only looks at its size')
    const { record, store } = world(file)
    record.add(decision())
    record.save({ agents: 1, bytes: 1e6 })
    expect(store.load('invoices')?.name).toBe('invoices')
    store.close()
  })
})

describe('what is denied because of what was done to the agent', () => {
  it('is no denial of its own', () => {
    const rules = [
      'scope_missing',
      'role_missing',
      'condition_failed',
      'principal_held',
      'certificate_held',
      'state_stale',
    ]
    expect(rules.filter(rule => isOwnDenial({ outcome: 'deny', rule }))).toEqual(rules.slice(0, 3))
    const { record } = world()
    const { instance } = record.add(decision({ outcome: 'deny', rule: 'certificate_held', count: 50 }))
    expect(instance.seconds.sum(start, 60)).toEqual({ allowed: 0, denied: 0 })
    expect(record.activityOf('invoices', start)[0]?.denied).toBe(50)
  })
})

describe('the record', () => {
  it('never holds more agents, instances or uses than its bounds, and what left memory comes back', () => {
    const name = fc.integer({ min: 0, max: 40 })
    const call = fc.record({ agent: name, instance: name, use: fc.integer({ min: 0, max: 2 * maxUses }), at: name })
    fc.assert(
      fc.property(fc.array(call, { maxLength: 400 }), calls => {
        const { record, store } = world(':memory:', { agents: 7, instances: 11, bytes: 60_000 })
        const seen = new Set<string>()
        for (const { agent, instance, use, at } of calls) {
          const last = start + at * 1000
          record.add(
            decision({ agent: `a${agent}`, instance: `a${agent}i${instance}`, action: `u${use}`, first: last, last }),
          )
          seen.add(`a${agent}`)
          expect(record.size.agents).toBeLessThanOrEqual(7)
          expect(record.size.instances).toBeLessThanOrEqual(11)
          expect(record.size.agents === 1 || record.size.bytes <= 60_000).toBe(true)
        }
        for (const each of record.agents()) {
          expect(each.uses.size).toBeLessThanOrEqual(maxUses)
          for (const instance of record.instancesOf(each.name)) expect(record.instance(instance.id)).toBe(instance)
        }
        for (const each of seen) expect(record.activityOf(each, 0).length).toBeGreaterThan(0)
        store.close()
      }),
      { numRuns: 60 },
    )
  })

  it('holds no more bytes than its bound however much each agent does, and loses none of it', () => {
    const bytes = 2_000_000
    const { record, store } = world(':memory:', { agents: 1000, instances: 1000, bytes })
    const long = 'x'.repeat(120)
    for (let a = 0; a < 20; a++)
      for (let i = 0; i < maxUses; i++)
        record.add(decision({ agent: `a${a}`, instance: `i${a}`, action: `${long}${i}`, resourceClass: `${long}${a}` }))
    expect(record.size.bytes).toBeLessThanOrEqual(bytes)
    expect(record.size.agents).toBeGreaterThan(2)
    expect(record.size.agents).toBe(record.size.instances)
    // One time after the other, so that each comes back from the file and another one leaves.
    for (let a = 0; a < 20; a++) expect(record.activityOf(`a${a}`, 0)).toHaveLength(maxUses)
    for (let a = 0; a < 20; a++)
      expect(record.add(decision({ agent: `a${a}`, instance: `i${a}`, action: `${long}0` })).novelty.action).toBe(false)
    expect(record.size.bytes).toBeLessThanOrEqual(bytes)
    store.close()
  })

  it('weighs what it holds now: nothing once and nothing twice', () => {
    const limits = { agents: 3, instances: 4, bytes: 1e9 }
    const { record } = world(':memory:', limits)
    for (let i = 0; i < 3000; i++) {
      const outcome = i % 3 === 0 ? 'deny' : 'allow'
      const last = start + i * 60_000
      const agent = `a${Math.floor(i / 500) % 5}`
      record.add(decision({ agent, instance: `${agent}i${i % 3}`, action: `u${i % 700}`, outcome, first: last, last }))
    }
    const held = [...record.agents()].flatMap(each => [each, ...record.instancesOf(each.name)])
    expect(held.length).toBeGreaterThan(limits.agents)
    expect(record.size.bytes).toBe(held.reduce((sum, { weight }) => sum + weight, 0))
    for (const { uses, name } of record.agents()) {
      const again = createUses(uses.stored())
      expect([name, again.weight]).toEqual([name, uses.weight])
    }
  })

  it('is written in pieces: some agents at a time, fewer when they are heavy', () => {
    const { record } = world()
    for (let a = 0; a < 10; a++)
      for (let i = 0; i < 100; i++) record.add(decision({ agent: `a${a}`, instance: `i${a}`, action: `u${i}` }))
    expect(record.save({ agents: 3, bytes: 1e9 })).toBe(7)
    expect(record.save({ agents: 10, bytes: 100_000 })).toBe(5)
    expect(record.save({ agents: 10, bytes: 1 })).toBe(4)
    expect(record.save({ agents: 10, bytes: 1e9 })).toBe(0)
  })

  it('forgets the use that was not made for longest', () => {
    const { record } = world()
    for (let i = 0; i <= maxUses; i++) record.add(decision({ action: `u${i}`, last: start + i }))
    const actions = record.activityOf('invoices', 0).map(use => use.action)
    expect([actions.length, actions.includes('u0'), actions[0]]).toEqual([maxUses, false, `u${maxUses}`])
  })

  it('keeps what an agent does whatever it is denied, also over a restart', () => {
    const { record, store } = world()
    record.add(decision())
    for (let i = 1; i <= 2 * maxUses; i++)
      record.add(decision({ action: `u${i}`, outcome: 'deny', rule: 'scope_missing', last: start + i }))
    record.save({ agents: 1, bytes: 1e6 })
    const again = createRecord({
      store,
      now: () => start,
      networks: () => ({ ipv4: 24, ipv6: 48 }),
      limits: { agents: 9, instances: 9, bytes: 1e9 },
    })
    for (const each of [record, again]) {
      const actions = each.activityOf('invoices', 0).map(use => use.action)
      expect([actions.length, actions[0], actions.at(-1)]).toEqual([maxRefused + 1, `u${2 * maxUses}`, 'orders:read'])
      expect(each.add(decision()).novelty.action).toBe(false)
      expect(each.add(decision({ action: `u${2 * maxUses}` })).novelty.action).toBe(true)
    }
  })
})
