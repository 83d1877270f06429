// When an agent asks again, and how it reads clocks.

import { uptime } from 'node:os'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { calmPace, idleUntil, systemTiming, untilAnswered, waitAfter } from '../../src/agent/backoff.ts'
import { createBootClock } from '../../src/agent/boot-clock.ts'
import { AgentError, isTransient } from '../../src/agent/errors.ts'
import { freshLifetime, storedLifetime } from '../../src/agent/lifetime.ts'
import { madeCredential } from './made-credential.ts'
import { createTiming } from './timing.ts'

const signal = new AbortController().signal

describe('a wait', () => {
  it('lies between half and all of a time that doubles up to its maximum, after what the CA asked for', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100 }),
        fc.option(fc.integer({ min: 0, max: 3600 })),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (failures, retryAfter, random) => {
          const wait = waitAfter(calmPace, failures, retryAfter, () => random) - (retryAfter ?? 0) * 1000
          const ceiling = Math.min(calmPace.maxMs, calmPace.firstMs * 2 ** (failures - 1))
          expect(wait).toBeGreaterThanOrEqual(ceiling / 2)
          expect(wait).toBeLessThan(ceiling + 0.001)
        },
      ),
    )
  })
})

describe('asking again', () => {
  const problem = (status: number, code: string) => AgentError.fromCa(code, code, { status })

  it.each([
    [AgentError.of('ca_unreachable', ''), true],
    [problem(503, 'signer_unavailable'), true],
    [problem(500, 'internal'), true],
    [problem(429, 'rate_limited'), true],
    [problem(408, 'request_timeout'), true],
    [problem(409, 'issuance_in_progress'), true],
    [problem(409, 'not_released'), true],
    [problem(409, 'key_in_use'), false],
    [problem(403, 'instance_locked'), false],
    [problem(401, 'token_expired'), false],
    [AgentError.of('ca_not_verified', ''), false],
    [AgentError.of('answer_not_verified', ''), false],
    [new Error('a fault of our own'), false],
  ])('after %o makes sense: %s', (error, expected) => expect(isTransient(error)).toBe(expected))

  it('ends with the signal of whoever waits', async () => {
    const ending = new AbortController()
    const attempt = async () => {
      ending.abort(new Error('enough'))
      throw problem(503, 'signer_unavailable')
    }
    const patience = { patienceSeconds: 60, signal: ending.signal }
    await expect(untilAnswered(createTiming(), patience, attempt)).rejects.toThrow('enough')
    await expect(systemTiming.wait(60_000, ending.signal)).rejects.toMatchObject({ code: 'ABORT_ERR' })
    await expect(systemTiming.idle(60_000, ending.signal)).rejects.toMatchObject({ code: 'ABORT_ERR' })
  })
})

describe('a long idle time', () => {
  it('is made of short ones, so that time slept away is noticed soon after waking', async () => {
    const timing = createTiming()
    const asked: number[] = []
    const idle = async (ms: number): Promise<void> => {
      asked.push(ms)
      // The machine sleeps for an hour during the third of them.
      timing.advance(asked.length === 3 ? 3_600_000 : ms)
    }
    await idleUntil({ ...timing, idle }, timing.clock.monotonic() + 3_600_000, signal)
    expect(asked).toHaveLength(3)
    expect(Math.max(...asked)).toBeLessThanOrEqual(20_000)
  })
})

describe('the boot clock', () => {
  it('goes with the uptime of the machine and never back', () => {
    const clock = createBootClock()
    let last = clock()
    expect(Math.abs(last - uptime() * 1000)).toBeLessThan(10_000)
    for (let i = 0; i < 100_000; i++) {
      const next = clock()
      if (next < last) throw new Error(`${next} after ${last}`)
      last = next
    }
  })
})

describe('a lifetime', () => {
  const credential = madeCredential(1)

  it('counts the seconds of a fresh answer from now, and never none', () => {
    const timing = createTiming()
    const now = timing.clock.monotonic()
    expect(freshLifetime(credential, timing)).toEqual({ renewAt: now + 1_800_000, expiresAt: now + 3_600_000 })
    const hasty = { ...credential, facts: { ...credential.facts, renewInSeconds: 0 } }
    expect(freshLifetime(hasty, timing).renewAt).toBe(now + 1000)
  })

  it('of a stored one is what the wall clock leaves, never more than the answer gave', () => {
    const timing = createTiming()
    const now = timing.clock.monotonic()
    const { renewAt, expiresAt } = storedLifetime(credential, timing)
    expect(renewAt).toBeLessThanOrEqual(now + 1_800_000)
    expect(expiresAt).toBeLessThanOrEqual(now + 3_600_000)
    timing.moveWall(-30 * 86_400_000)
    expect(storedLifetime(credential, timing)).toEqual({ renewAt: now + 1_800_000, expiresAt: now + 3_600_000 })
    timing.moveWall(60 * 86_400_000)
    expect(storedLifetime(credential, timing)).toEqual({ renewAt: now, expiresAt: now })
  })
})
