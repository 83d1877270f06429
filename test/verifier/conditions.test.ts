// Conditions where the CA is scripted, so that it can be late, away or wrong; with a real one they are in test/story/policy.test.ts.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { systemTiming, type Timing } from '../../src/agent/backoff.ts'
import type { AgentIdentity } from '../../src/agent/index.ts'
import { silentLog } from '../../src/base/log.ts'
import { servedPolicies } from '../../src/policy/cedar-served.ts'
import { createCallRates } from '../../src/verifier/call-rate.ts'
import { plainAddress } from '../../src/verifier/call-source.ts'
import { type Conditions, createConditions } from '../../src/verifier/conditions.ts'
import type { VerifiedPeer } from '../../src/verify/decision.ts'
import { evaluatorOf } from '../policy/cedar-world.ts'

const news = (version: number, hash = '') => ({ version, hash })
const served = (version: number, text: string) =>
  servedPolicies({ id: version, hash: '' }, evaluatorOf(text).policies, 'orders')

const upTo = (
  amount: number,
): string => `@id("refunds") permit(principal in Role::"clerk", action == Action::"orders:refund", resource)
  when { context has amount && context.amount <= ${amount} };`

const clerk = {
  kind: 'agent',
  name: 'billing',
  owner: 'finance',
  profile: 'agent',
  roles: ['clerk'],
  attributes: {},
} as unknown as VerifiedPeer

const open: Conditions[] = []
const directories: string[] = []
afterEach(async () => {
  await Promise.all(open.splice(0).map(each => each.close()))
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true })
})

const stateDirectory = (): string => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-conditions-'))
  directories.push(directory)
  return directory
}

/** @param answer what the CA says to each question; it may throw */
const conditionsBy = async (
  answer: () => unknown,
  {
    directory = null,
    skipMs = () => 0,
    changed = () => {},
  }: { directory?: string | null; skipMs?: () => number; changed?: () => void } = {},
) => {
  const timing: Timing = {
    ...systemTiming,
    clock: { now: Date.now, monotonic: () => systemTiming.clock.monotonic() + skipMs() },
    idle: (_, signal) => systemTiming.idle(5, signal),
  }
  const identity = {
    current: () => ({ trustDomain: 'agentca.local', url: 'https://ca.test' }),
    fetch: async () => new Response(JSON.stringify(answer())),
  } as unknown as AgentIdentity
  const conditions = await createConditions({ identity, timing, now: Date.now, log: silentLog, directory, changed })
  open.push(conditions)
  return conditions
}

const outcome = (conditions: Conditions, amount: number, peer = clerk, remoteAddress = '127.0.0.1'): string => {
  try {
    conditions.check(peer, { action: 'orders:refund', context: { amount } }, plainAddress(remoteAddress))
    return 'allowed'
  } catch (error) {
    return (error as { code: string }).code
  }
}

describe('conditions on a call', () => {
  it('are those of the policies in force, by what the service says of the call and what is known of the caller', async () => {
    const conditions = await conditionsBy(() => served(1, upTo(100)))
    await conditions.ready()
    expect(outcome(conditions, 100)).toBe('allowed')
    expect(outcome(conditions, 101)).toBe('condition_failed')
    expect(outcome(conditions, 100, { ...clerk, roles: [] })).toBe('condition_failed')
    expect(outcome(conditions, 1.5)).toBe('condition_failed')
  })

  it('know owner, profile and source, IPv4 in IPv6 included', async () => {
    const conditions = await conditionsBy(() =>
      served(
        1,
        `permit(principal in Owner::"finance", action, resource)
           when { principal.profile == "agent" && context has source && context.source.isInRange(ip("10.0.0.0/8")) };`,
      ),
    )
    await conditions.ready()
    expect(outcome(conditions, 1, clerk, '::ffff:10.1.2.3')).toBe('allowed')
    expect(outcome(conditions, 1, clerk, '192.0.2.1')).toBe('condition_failed')
    expect(outcome(conditions, 1, { ...clerk, owner: null }, '10.1.2.3')).toBe('condition_failed')
  })

  it('count how often a caller called within the minute, each caller by itself', async () => {
    const conditions = await conditionsBy(() =>
      served(
        1,
        'permit(principal, action, resource); forbid(principal, action == Action::"orders:refund", resource) when { context has rate && context.rate > 3 };',
      ),
    )
    await conditions.ready()
    expect([1, 2, 3, 4].map(() => outcome(conditions, 1))).toEqual([
      'allowed',
      'allowed',
      'allowed',
      'condition_failed',
    ])
    expect(outcome(conditions, 1, { ...clerk, name: 'other' })).toBe('allowed')
  })

  it('are asked again of a call that was let in, with the facts of then: by other policies at once, and by time', async () => {
    let [skipped, changes] = [0, 0]
    let policies = served(1, upTo(100))
    const conditions = await conditionsBy(() => policies, { skipMs: () => skipped, changed: () => changes++ })
    await conditions.ready()
    const [small, large] = [10, 100].map(amount => ({ action: 'orders:refund', context: { amount } }))
    for (const demand of [small!, large!]) conditions.check(clerk, demand, null)
    const again = (demand: typeof small, peer = clerk): string => {
      try {
        conditions.checkAgain(peer, demand!)
        return 'goes on'
      } catch (error) {
        return (error as { code: string }).code
      }
    }
    expect([again(small), again(small, { ...clerk, roles: [] }), again(large)]).toEqual([
      'goes on',
      'condition_failed',
      'goes on',
    ])
    const before = changes
    policies = served(2, upTo(10))
    conditions.heard(news(2))
    await expect.poll(() => changes).toBe(before + 1)
    expect([again(small), again(large)]).toEqual(['goes on', 'condition_failed'])
    skipped = 5000
    expect(again(small)).toBe('goes on')
  })

  it('refuse everybody until there are policies, and wait for a CA that is away', async () => {
    let isThere = false
    const conditions = await conditionsBy(() => {
      if (!isThere) throw new Error('away')
      return served(1, upTo(100))
    })
    expect(outcome(conditions, 1)).toBe('state_unknown')
    isThere = true
    await conditions.ready()
    expect(outcome(conditions, 1)).toBe('allowed')
  })

  it('follow the feed to other policies, and are not relied on for longer than a second once others are known of', async () => {
    let now = served(1, upTo(100))
    let isThere = true
    let skipped = 0
    const conditions = await conditionsBy(
      () => {
        if (!isThere) throw new Error('away')
        return now
      },
      { skipMs: () => skipped },
    )
    await conditions.ready()
    isThere = false
    now = served(2, upTo(10))
    conditions.heard(news(2))
    expect(outcome(conditions, 100)).toBe('allowed')
    skipped = 1001
    expect(outcome(conditions, 1)).toBe('state_stale')
    isThere = true
    await expect.poll(() => outcome(conditions, 1)).toBe('allowed')
    expect(outcome(conditions, 100)).toBe('condition_failed')
    expect(conditions.version()).toBe(2)
  })

  it.each([
    ['an older CA does not say which policies are in force after what was missed', null],
    ['a restored ledger gives their number to others', news(1, 'another')],
  ])('are not relied on for longer than a second where %s', async (_, inForce) => {
    let now = served(1, upTo(100))
    let isThere = true
    let skipped = 0
    const conditions = await conditionsBy(
      () => {
        if (!isThere) throw new Error('away')
        return now
      },
      { skipMs: () => skipped },
    )
    await conditions.ready()
    isThere = false
    now = served(2, upTo(10))
    conditions.heard(inForce)
    skipped = 1001
    expect(outcome(conditions, 1)).toBe('state_stale')
    isThere = true
    await expect.poll(() => conditions.version()).toBe(2)
  })

  it('are relied on where they are what is in force, fetched before that was heard', async () => {
    let isThere = true
    let skipped = 0
    const conditions = await conditionsBy(
      () => {
        if (!isThere) throw new Error('away')
        return served(2, upTo(100))
      },
      { skipMs: () => skipped },
    )
    await conditions.ready()
    isThere = false
    conditions.heard(news(1))
    skipped = 1001
    expect(outcome(conditions, 1)).toBe('state_stale')
    conditions.heard(news(2))
    expect(outcome(conditions, 1)).toBe('allowed')
  })

  it('grant nothing once there are no policies any more', async () => {
    const conditions = await conditionsBy(() => ({ version: 0, hash: '', statements: [] }))
    await conditions.ready()
    expect(outcome(conditions, 1)).toBe('condition_failed')
  })

  it('begin with the last policies on disk while the CA is away, and not with a file that is damaged', async () => {
    const directory = stateDirectory()
    const first = await conditionsBy(() => served(7, upTo(100)), { directory })
    await first.ready()
    await first.close()
    const away = () => {
      throw new Error('away')
    }
    const second = await conditionsBy(away, { directory })
    expect([second.version(), outcome(second, 1), outcome(second, 101)]).toEqual([7, 'allowed', 'condition_failed'])
    const file = join(directory, 'policies.json')
    writeFileSync(file, readFileSync(file, 'utf8').slice(0, -20))
    const third = await conditionsBy(away, { directory })
    expect(outcome(third, 1)).toBe('state_unknown')
  })

  it('keep what they have when the CA says something that makes no sense', async () => {
    let now: unknown = served(1, upTo(100))
    let answers = 0
    const conditions = await conditionsBy(() => {
      answers++
      return now
    })
    await conditions.ready()
    const before = answers
    now = { version: 2, hash: '', statements: [{ id: 'x', effect: 'permit', json: { effect: 'permit' } }] }
    conditions.heard(news(2))
    await expect.poll(() => answers).toBeGreaterThan(before + 1)
    expect(conditions.version()).toBe(1)
  })
})

describe('the rate of calls', () => {
  it('forgets the minute before little by little', () => {
    let at = 0
    const rates = createCallRates(() => at)
    for (let i = 0; i < 59; i++) rates.count('a')
    expect(rates.count('a')).toBe(60)
    at = 60_000
    expect(rates.count('a')).toBe(61)
    at = 90_000
    expect(rates.count('a')).toBe(2 + 30)
    at = 200_000
    expect(rates.count('a')).toBe(1)
  })
})
