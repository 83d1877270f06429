// Decisions on their way from a verifier to the CA's record: over mTLS to the real front, into a real monitor. Whoever calls never waits,
// nothing is told twice, and a service speaks for itself only.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { systemTiming } from '../../src/agent/backoff.ts'
import type { Monitor } from '../../src/monitor/monitor.ts'
import { agentSpiffeId } from '../../src/pki/spiffe.ts'
import { classOf } from '../../src/verifier/call-class.ts'
import { type DecisionReport, reportDecisions } from '../../src/verifier/decision-report.ts'
import { type Call, createJudging, type Judging } from '../../src/verifier/judgement.ts'
import { CallRefused, type Peer, type VerifiedPeer } from '../../src/verify/decision.ts'
import { trustDomain } from '../ca/authority.ts'
import { createFeedWorld, type Holder, type World } from '../feed/world.ts'
import { monitorOver } from '../monitor/world.ts'
import { until } from '../story/until.ts'
import { createTestIdentity, type TestIdentity } from './backend.ts'

let world: World
let backend: TestIdentity
let service: Holder
let agent: Holder
let monitor: Monitor
let serving: Awaited<ReturnType<World['front']['serve']>>
let judging: Judging
let report: DecisionReport

beforeAll(async () => {
  world = await createFeedWorld()
  service = await world.holder('service', 'orders')
  agent = await world.holder('agent', 'billing')
  backend = await createTestIdentity(world, service)
}, 180_000)
afterAll(async () => {
  await backend?.identity[Symbol.asyncDispose]()
  await world?.front[Symbol.asyncDispose]()
})
const start = (more: { sampleAbovePerSecond?: number } = {}): void => {
  judging = createJudging(systemTiming.clock)
  report = reportDecisions({ verifier: judging, identity: backend.identity, ...more })
}
beforeEach(async () => {
  monitor = monitorOver(world.ledger, { clock: world.deps.clock })
  serving = await world.front.serve({ monitor })
  backend.moveTo(serving.port)
  start()
})
afterEach(async () => {
  await report[Symbol.asyncDispose]()
  await serving[Symbol.asyncDispose]()
  await monitor.close()
})

const peerOf = (holder: Holder): Peer =>
  ({ spiffeId: agentSpiffeId(trustDomain, holder.name, holder.instance) }) as Partial<Peer> as Peer
const call = (url: string, scopes: readonly string[] = [], remoteAddress = '::ffff:192.0.2.7'): Call => ({
  demand: { scopes },
  request: { method: 'GET', url, socket: { remoteAddress } },
})
const allow = (holder: Holder, made: Call): unknown =>
  judging.judge(
    made,
    () => peerOf(holder),
    peer => peer as VerifiedPeer,
  )
const deny = (holder: Holder | null, made: Call): void => {
  const refuse = (): never => {
    throw new CallRefused('scope_missing', 'no')
  }
  expect(() => judging.judge(made, () => (holder === null ? refuse() : peerOf(holder)), refuse)).toThrow(CallRefused)
}
const uses = () => monitor.activityOf('billing', 0)

describe('what a verifier decides', () => {
  it('reaches the record of agent and instance as counts, under the name of the service whose certificate it came with', async () => {
    for (let i = 0; i < 50; i++) allow(agent, call(`/v1/orders/${4700 + i}`, ['orders:read']))
    deny(agent, call('/v1/orders/1', ['orders:write']))
    await until('all is told', () => uses().length === 2)
    expect(uses().map(({ first: _, last: __, ...use }) => use)).toEqual(
      expect.arrayContaining([
        { service: 'orders', action: 'orders:read', resourceClass: '/v1/orders/*', allowed: 50, denied: 0 },
        { service: 'orders', action: 'orders:write', resourceClass: '/v1/orders/*', allowed: 0, denied: 1 },
      ]),
    )
    await until('it knows that it is', () => report.status().sent === 51)
    const [row] = monitor.top(5).agents
    expect(row).toMatchObject({ agent: 'billing', perMinute: 51, deniedPerMinute: 1, instances: 1 })
    expect(report.status()).toEqual({ pending: 0, sent: 51, dropped: 0, failures: 0 })
  })

  it('is counted by source where nobody knows who called, and where the CA does not know who is named', async () => {
    deny(null, call('/', [], '198.51.100.1'))
    allow({ ...agent, instance: '0'.repeat(32) }, call('/', [], '198.51.100.2'))
    allow({ ...agent, name: 'nobody' }, call('/', [], '198.51.100.2'))
    await until('all is told', () => report.status().sent === 3)
    expect(monitor.top(5).strangers.map(({ source, calls, service }) => [source, calls, service])).toEqual([
      ['198.51.100.2', 2, 'orders'],
      ['198.51.100.1', 1, 'orders'],
    ])
    expect(uses()).toEqual([])
  })

  it('names no source where none is known', async () => {
    deny(null, { demand: {}, request: { method: 'GET', url: '/' } })
    deny(null, { demand: {}, request: null })
    await until('all is told', () => report.status().sent === 2)
    expect(monitor.top(5).strangers.map(({ source, calls }) => [source, calls])).toEqual([['', 2]])
  })

  it('waits while the CA is away and is told once it is back, nothing twice', async () => {
    backend.moveTo(1)
    allow(agent, call('/a'))
    await until('an attempt failed', () => report.status().failures > 0)
    allow(agent, call('/a'))
    backend.moveTo(serving.port)
    await until('all is told', () => report.status().sent === 2)
    expect(uses().map(use => use.allowed)).toEqual([2])
  })

  it('counts once when its answer was lost and it is sent again', async () => {
    let answers = 0
    const { identity } = backend
    const lossy = {
      ...identity,
      fetch: async (...asked: Parameters<typeof identity.fetch>) => {
        const answer = await identity.fetch(...asked)
        if (++answers > 2) return answer
        throw new Error('the answer was lost')
      },
    }
    await report[Symbol.asyncDispose]()
    report = reportDecisions({ verifier: judging, identity: lossy })
    allow(agent, call('/once'))
    await until('it is told at last', () => report.status().sent === 1)
    expect([answers, uses().map(use => use.allowed), monitor.top(5).total.perMinute]).toEqual([3, [1], 1])
  })

  it('while one report is on its way waits for the next, so that many calls are not many reports', async () => {
    const { identity } = backend
    const begun: number[] = []
    const busy = {
      ...identity,
      fetch: async (...asked: Parameters<typeof identity.fetch>) => {
        begun.push(performance.now())
        if (begun.length < 4) allow(agent, call('/busy'))
        return await identity.fetch(...asked)
      },
    }
    await report[Symbol.asyncDispose]()
    report = reportDecisions({ verifier: judging, identity: busy })
    allow(agent, call('/busy'))
    await until('all is told', () => report.status().sent === 4)
    // A timer may be a moment early, never a fifth of its time.
    for (const [i, at] of begun.entries()) if (i > 0) expect(at - begun[i - 1]!).toBeGreaterThan(200)
    expect(begun.length).toBe(4)
  })

  it('that the CA does not take is dropped and counted, and it is left alone for a while', async () => {
    // A listener of the same CA without a monitor.
    backend.moveTo(world.front.port)
    allow(agent, call('/a'))
    await until('it was refused', () => report.status().dropped === 1)
    allow(agent, call('/b'))
    expect(report.status()).toMatchObject({ pending: 1, sent: 0 })
    backend.moveTo(serving.port)
    await report[Symbol.asyncDispose]()
    expect([uses().map(use => use.resourceClass), monitor.status().dropped]).toEqual([['/b'], 1])
  })

  it('has bounded room: what does not fit is counted, and the CA hears how much', async () => {
    await report[Symbol.asyncDispose]()
    start({ sampleAbovePerSecond: 1_000_000 })
    backend.moveTo(1)
    for (let i = 0; i < 2345; i++) allow(agent, call('/at', [`scope${i}`]))
    expect(report.status().pending).toBe(2000)
    expect(report.status().dropped).toBe(345)
    backend.moveTo(serving.port)
    await until('what fits is told', () => report.status().pending === 0)
    expect(monitor.status().dropped).toBe(345)
  })

  it('above a stated rate is sampled where it was allowed, with counts that stay right, and never where it was denied', async () => {
    await report[Symbol.asyncDispose]()
    start({ sampleAbovePerSecond: 400 })
    for (let i = 0; i < 1700; i++) allow(agent, call('/burst'))
    for (let i = 0; i < 30; i++) deny(agent, call('/burst'))
    await until('all is told', () => report.status().pending === 0 && report.status().sent > 0)
    const counted = uses()[0]!
    expect(counted.denied).toBe(30)
    expect(Math.abs(counted.allowed - 1700)).toBeLessThanOrEqual(16)
  })

  it('that is left at the end is sent before the end', async () => {
    allow(agent, call('/last'))
    await report[Symbol.asyncDispose]()
    expect(uses().map(use => use.resourceClass)).toEqual(['/last'])
  })
})

describe('POST /v1/decisions', () => {
  const digest = {
    outcome: 'allow',
    caller: null,
    action: 'x',
    resourceClass: '',
    source: '',
    count: 1,
    firstAgoMs: 0,
    lastAgoMs: 0,
  }

  it('is for services with a certificate, takes what the schema says and nothing else', async () => {
    const post = (shown: Holder | undefined, body: unknown, method = 'POST') =>
      serving.call('/v1/decisions', { method, body, ...(shown === undefined ? {} : { shown }) })
    expect((await post(service, { decisions: [digest] })).status).toBe(204)
    expect((await post(undefined, { decisions: [] })).body).toMatchObject({
      status: 401,
      code: 'client_certificate_missing',
    })
    expect((await post(agent, { decisions: [] })).body).toMatchObject({ status: 403, code: 'service_only' })
    expect((await post(service, { decisions: [digest] }, 'PUT')).status).toBe(405)
    const faulty = { service: 'billing', decisions: [{ ...digest, count: 0, action: 'ä' }] }
    expect((await post(service, faulty)).body).toMatchObject({
      status: 422,
      facts: {
        faults: [
          expect.stringMatching(/^decisions\.0\.action/),
          expect.stringMatching(/^decisions\.0\.count/),
          'service: unknown key',
        ],
      },
    })
    const many = Array.from({ length: 201 }, () => digest)
    expect((await post(service, { decisions: many })).status).toBe(422)
    expect((await post(service, { decisions: [{ ...digest, caller: 'spiffe://Wrong' }] })).status).toBe(204)
  })
})

describe('the class of a call', () => {
  it('has scopes or the method as action, and paths without what names one thing', () => {
    const of = (url: string) => classOf(call(url)).resourceClass
    expect(of('/v1/orders/4711/lines?all=1')).toBe('/v1/orders/*/lines')
    expect(of('/users/0f8fad5b-d9cb-469f-a165-70867728950e')).toBe('/users/*')
    expect(of('/files/%2e%2e/etc')).toBe('/files/*/etc')
    expect(of('/a/b/c/d/e/f/g/h')).toBe('/a/b/c/d/e/f/*')
    expect(of('/')).toBe('/')
    expect(classOf(call('/x', ['b', 'a'])).action).toBe('b a')
    expect(classOf({ demand: { roles: ['reader'] }, request: null })).toEqual({
      action: 'role:reader',
      resourceClass: '',
    })
    expect(classOf(call('/x')).action).toBe('GET')
  })
})
