// A server whose wall clock jumped ahead: what ends for good goes by what the clock would be, and reaches what really lives.
import { expect, test } from 'vitest'
import type { Clock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { silentMetrics } from '../../src/base/metrics.ts'
import { noSteps } from '../../src/base/steps.ts'
import { createClockGuard } from '../../src/ca/clock-guard.ts'
import { parseConfig } from '../../src/schema/config.ts'
import type { Core } from '../../src/server/core.ts'
import type { Jobs } from '../../src/server/jobs.ts'
import { createOperations } from '../../src/server/operations.ts'
import { startJobs } from '../../src/server/recurring.ts'
import * as w from '../store/make-ledger.ts'

const context = { requestId: 'r-1', who: 'operator:alice', source: 'socket' }
const day = 24 * w.hour

const createServerParts = async (lastSigning?: number) => {
  const world = await w.makeWorld()
  const { ledger } = world
  if (lastSigning !== undefined) await ledger.meta.set({ last_signing_time: String(lastSigning) })
  let [wall, monotonic] = [w.now, 0]
  const clock: Clock = { now: () => wall, monotonic: () => monotonic }
  const clockGuard = createClockGuard({ clock, log: silentLog, meta: ledger.meta, audit: ledger.audit })
  const issuance = { sweep: async () => 0 }
  const pruned: string[] = []
  const core = {
    ledger: {
      ...ledger,
      issuers: {
        ...ledger.issuers,
        // The first that pruning asks for.
        list: () => {
          pruned.push('revocations')
          return ledger.issuers.list()
        },
      },
      feed: {
        ...ledger.feed,
        prune: async () => {
          pruned.push('feed')
          return 0
        },
      },
    },
    clockGuard,
    issuance,
    issuers: {},
    signer: {},
    ocsp: {},
    urls: {},
    caId: 'ca-1',
    logKeySpki: new Uint8Array(1),
    policies: { refreshIfDue: async () => {} },
  }
  const operations = createOperations(core as unknown as Core, {
    config: parseConfig({ text: null, source: 'test', env: {} }),
    clock,
    log: silentLog,
    metrics: silentMetrics,
    reached: noSteps,
    version: '0',
    rates: () => ({ issuedPerMinute: 0, refusedPerMinute: 0, revokedPerMinute: 0 }),
  })
  const work = new Map<string, () => Promise<unknown> | unknown>()
  const jobs: Jobs = { every: (name, _everyMs, run) => void work.set(name, run), close: async () => {} }
  startJobs(jobs, {
    clock,
    log: silentLog,
    core: core as unknown as Core,
    lifecycle: operations.lifecycle,
    orphans: operations.orphans,
    orphansEveryMs: 3_600_000,
    regularCrlIntervalSeconds: 43_200,
    keepExpiredSeconds: 90 * 86_400,
    renewApiCertificate: async () => {},
  })
  return {
    world,
    pruned,
    guard: clockGuard,
    operations,
    runJob: (name: string) => work.get(name)!(),
    jump: (ms: number) => {
      wall += ms
    },
    pass: (ms: number) => {
      wall += ms
      monotonic += ms
    },
  }
}

test('retires nobody whose end date only a clock that jumped ahead has reached', async () => {
  const { world, operations, runJob, jump, pass } = await createServerParts()
  await world.ledger.registrations.change({
    kind: 'agent',
    name: 'crawler',
    at: w.now,
    decide: current => ({ set: { until: w.now + day }, state: current.state }),
    leaf: () => w.leaf('registration_changed'),
  })
  const stateOf = () => world.ledger.registrations.find('agent', 'crawler')?.state
  jump(400 * day)
  await runJob('retire what has ended')
  expect(stateOf()).toBe('active')
  jump(-400 * day)
  pass(day)
  await runJob('retire what has ended')
  expect(stateOf()).toBe('retired')
  await expect(
    operations.lifecycle.hold({ kind: 'agent', name: 'crawler' }, { context, dryRun: false }),
  ).rejects.toThrow('final')
})

test('ends nothing by itself while the clock that it began with is far past what was known, until an operator accepts it', async () => {
  const { world, guard, runJob, pruned } = await createServerParts(w.now - 400 * day)
  await world.ledger.registrations.change({
    kind: 'agent',
    name: 'crawler',
    at: w.now - 400 * day,
    decide: current => ({ set: { until: w.now - day }, state: current.state }),
    leaf: () => w.leaf('registration_changed'),
  })
  const stateOf = () => world.ledger.registrations.find('agent', 'crawler')?.state
  const runJobs = async () => {
    for (const job of ['retire what has ended', 'prune ended revocations', 'prune the feed']) await runJob(job)
  }
  await runJobs()
  expect([stateOf(), pruned]).toEqual(['active', []])
  await guard.accept(context)
  await runJobs()
  expect([stateOf(), pruned]).toEqual(['retired', ['revocations', 'feed']])
})

test('a revocation, a hold and a retirement reach what really lives while the clock is ahead', async () => {
  const { world, operations, jump } = await createServerParts()
  const live = await w.issue(world)
  jump(2 * w.hour)
  await operations.lifecycle.hold({ kind: 'agent', name: 'crawler' }, { context, dryRun: false })
  expect(w.stateOf(world, live.serial)).toBe('held')
  const revoked = await operations.revoke({ by: 'agent', value: 'crawler' }, 'keyCompromise', {
    context,
    dryRun: false,
  })
  expect(revoked.radius.certificates).toBe(1)
  expect(w.stateOf(world, live.serial)).toBe('revoked')
})

test('a join token that is made while the clock is ahead ends as soon as any other', async () => {
  const { operations, world, jump } = await createServerParts()
  jump(400 * day)
  const wanted = { kind: 'agent', name: 'crawler', ttlSeconds: 600, uses: 1, boundKeyHash: null } as const
  const { token } = await operations.tokens.create(wanted, { context, dryRun: false })
  expect([token.createdAt, token.expiresAt]).toEqual([w.now, w.now + 600_000])
  expect(world.ledger.tokens.get(token.id)?.expiresAt).toBe(w.now + 600_000)
})
