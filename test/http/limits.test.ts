// Token buckets, the bound on work in flight, and idempotency keys, on a clock that the test moves.
import { describe, expect, it } from 'vitest'
import { createIdempotencyKeys } from '../../src/http/idempotency.ts'
import { createInFlight, createLimits } from '../../src/http/limits.ts'

const createTime = () => {
  const time = { at: 0 }
  return { time, clock: { now: () => time.at, monotonic: () => time.at } }
}

/** How many of `n` are let through. */
const admitted = (n: number, take: () => void): number => {
  let count = 0
  for (let i = 0; i < n; i++)
    try {
      take()
      count++
    } catch (error) {
      expect(error).toMatchObject({ code: 'rate_limited' })
    }
  return count
}

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'fulfilled',
    (error: { code?: string; message: string }) => error.code ?? error.message,
  )

describe('limits', () => {
  it('count who signed by the key of an instance as that, and not by the address', () => {
    const { clock } = createTime()
    const limits = createLimits(clock, { anonymousPerMinute: 60, identityPerMinute: 120 })
    const asked = (who: string) => () => {
      limits.takeAnonymous('a')
      limits.recognised('a', who)
    }
    expect(['x', 'y', 'z'].map(who => admitted(20, asked(who)))).toEqual([20, 20, 20])
    expect(admitted(20, asked('x'))).toBe(0)
    // Beyond its own rate it is an address like others.
    expect(admitted(50, () => limits.takeAnonymous('a'))).toBe(0)
  })

  it('allow ten seconds of the rate at once, and the rate from then on', () => {
    const { time, clock } = createTime()
    const limits = createLimits(clock, { anonymousPerMinute: 60, identityPerMinute: 600 })
    expect(admitted(50, () => limits.takeAnonymous('a'))).toBe(10)
    time.at += 3000
    expect(admitted(50, () => limits.takeAnonymous('a'))).toBe(3)
    time.at += 3_600_000
    expect(admitted(50, () => limits.takeAnonymous('a'))).toBe(10)
    expect(admitted(200, () => limits.takeIdentity('a'))).toBe(100)
  })

  it('count each source and each identity by itself', () => {
    const { clock } = createTime()
    const limits = createLimits(clock, { anonymousPerMinute: 6, identityPerMinute: 6 })
    expect(['a', 'a', 'b'].map(network => admitted(1, () => limits.takeAnonymous(network)))).toEqual([1, 0, 1])
    expect(['a', 'a', 'b'].map(id => admitted(1, () => limits.takeIdentity(id)))).toEqual([1, 0, 1])
  })

  it('let a rate below the burst through too', () => {
    const { time, clock } = createTime()
    const limits = createLimits(clock, { anonymousPerMinute: 1, identityPerMinute: 1 })
    expect(admitted(5, () => limits.takeAnonymous('a'))).toBe(1)
    time.at += 60_000
    expect(admitted(5, () => limits.takeAnonymous('a'))).toBe(1)
  })

  it('remember a bounded number of callers, and forget the longest silent first', () => {
    const { clock } = createTime()
    const limits = createLimits(clock, { anonymousPerMinute: 6, identityPerMinute: 6 }, 2)
    const take = (network: string) => admitted(1, () => limits.takeAnonymous(network))
    expect(['a', 'b', 'a', 'c'].map(take)).toEqual([1, 1, 0, 1])
    // `b` was silent for longest: `a` and `c` are still known.
    expect(['a', 'c', 'b'].map(take)).toEqual([0, 0, 1])
  })
})

describe('work in flight', () => {
  it('is bounded, and its place is free again however it ended', async () => {
    const inFlight = createInFlight(1)
    const held = Promise.withResolvers<string>()
    const first = inFlight.run(() => held.promise)
    expect(await codeOf(inFlight.run(async () => 'second'))).toBe('overloaded')
    held.reject(new Error('failed'))
    expect(await codeOf(first)).toBe('failed')
    expect(await inFlight.run(async () => 'third')).toBe('third')
  })

  it('leaves a quarter of the places for renewals', async () => {
    const inFlight = createInFlight(4)
    const held = Promise.withResolvers<string>()
    const enrolments = Array.from({ length: 3 }, () => inFlight.run(() => held.promise))
    expect(await codeOf(inFlight.run(async () => 'enrolment'))).toBe('overloaded')
    const renewal = inFlight.renew(() => held.promise)
    expect(await codeOf(inFlight.renew(async () => 'renewal'))).toBe('overloaded')
    held.resolve('done')
    expect(await Promise.all([...enrolments, renewal])).toEqual(['done', 'done', 'done', 'done'])
  })
})

describe('an idempotency key', () => {
  const [one, two] = [new Uint8Array([1]), new Uint8Array([2])]
  const done = async () => 'done'

  it('belongs to one request of one caller for a day', async () => {
    const { time, clock } = createTime()
    const keys = createIdempotencyKeys(clock)
    expect(await keys.run('alice', 'k', one, done)).toBe('done')
    expect(await keys.run('alice', 'k', one, done)).toBe('done')
    expect(await codeOf(keys.run('alice', 'k', two, done))).toBe('idempotency_key_reused')
    expect(await codeOf(keys.run('bob', 'k', two, done))).toBe('fulfilled')
    expect(await codeOf(keys.run('alice', undefined, two, done))).toBe('fulfilled')
    time.at += 86_400_000
    expect(await codeOf(keys.run('alice', 'k', two, done))).toBe('fulfilled')
  })

  it('is taken while its first request is in work, and free again when that was refused', async () => {
    const { clock } = createTime()
    const keys = createIdempotencyKeys(clock)
    const held = Promise.withResolvers<string>()
    const first = keys.run('alice', 'k', one, () => held.promise)
    expect(await codeOf(keys.run('alice', 'k', two, done))).toBe('idempotency_key_reused')
    held.reject(new Error('refused'))
    expect(await codeOf(first)).toBe('refused')
    expect(await codeOf(keys.run('alice', 'k', two, done))).toBe('fulfilled')
  })

  it('stays taken when one of its requests was answered and another one failed', async () => {
    const { clock } = createTime()
    const keys = createIdempotencyKeys(clock)
    const held = Promise.withResolvers<string>()
    const slow = keys.run('alice', 'k', one, () => held.promise)
    await keys.run('alice', 'k', one, done)
    held.reject(new Error('refused'))
    await codeOf(slow)
    expect(await codeOf(keys.run('alice', 'k', two, done))).toBe('idempotency_key_reused')
  })

  it('is forgotten, oldest first, beyond the bound', async () => {
    const { clock } = createTime()
    const keys = createIdempotencyKeys(clock, 2)
    for (const key of ['a', 'b', 'c']) await keys.run('alice', key, one, done)
    expect(await codeOf(keys.run('alice', 'c', two, done))).toBe('idempotency_key_reused')
    expect(await codeOf(keys.run('alice', 'a', two, done))).toBe('fulfilled')
  })
})
