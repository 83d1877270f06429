import { expect, test } from 'vitest'
import { createSampler, defaultSamplerLimits, networkOf } from '../../src/audit/sampler.ts'

const clockAt = () => {
  let at = 0
  return { now: () => at, monotonic: () => at, pass: (ms: number) => (at += ms) }
}

test('a source network gets a few leaves per code, the rest is counted in one summary', () => {
  const clock = clockAt()
  const sampler = createSampler(clock)
  const admitted = Array.from({ length: 100 }, (_, i) => sampler.admit('token_unknown', `192.0.2.${i}`))
  expect(admitted.filter(Boolean)).toHaveLength(defaultSamplerLimits.burst)
  expect(sampler.admit('csr_malformed', '192.0.2.1')).toBe(true)
  expect(sampler.admit('token_unknown', '198.51.100.1')).toBe(true)
  clock.pass(60_000)
  const summary = JSON.parse(new TextDecoder().decode(sampler.flush()!.bytes))
  expect(summary).toMatchObject({
    event: 'refusals_summary',
    dropped: 95,
    codes: { token_unknown: 95 },
    from: 0,
    to: 60_000,
  })
  expect(sampler.flush()).toBeNull()
  expect(sampler.admit('token_unknown', '192.0.2.1')).toBe(true)
})

test('all sources together stay under the global ceiling', () => {
  const clock = clockAt()
  const sampler = createSampler(clock, { ...defaultSamplerLimits, globalPerMinute: 50 })
  let admitted = 0
  for (let i = 0; i < 5000; i++) if (sampler.admit('token_unknown', `10.${i >> 8}.${i & 255}.1`)) admitted++
  expect(admitted).toBe(50)
})

test('sources beyond the bound of memory share one bucket', () => {
  const sampler = createSampler(clockAt(), { ...defaultSamplerLimits, maxBuckets: 10, globalPerMinute: 100_000 })
  let admitted = 0
  for (let i = 0; i < 1000; i++) if (sampler.admit('token_unknown', `10.${i >> 8}.${i & 255}.1`)) admitted++
  expect(admitted).toBe(10 + defaultSamplerLimits.burst)
})

test('whoever is known by name has leaves of its own, from wherever it asks, and no flood of strangers takes them', () => {
  const clock = clockAt()
  const sampler = createSampler(clock, { ...defaultSamplerLimits, globalPerMinute: 1, maxBuckets: 1 })
  for (let i = 0; i < 1000; i++) sampler.admit('token_reuse', `10.${i >> 8}.${i & 255}.1`)
  const named = Array.from({ length: 1000 }, (_, i) =>
    sampler.admit('token_reuse', `10.${i >> 8}.${i & 255}.1`, 'token:a'),
  )
  expect(named.filter(Boolean)).toHaveLength(defaultSamplerLimits.burst)
  expect(sampler.admit('token_expired', '192.0.2.1', 'token:a')).toBe(true)
  clock.pass(60_000)
  expect(JSON.parse(new TextDecoder().decode(sampler.flush()!.bytes)).codes.token_reuse).toBe(999 + 995)
  expect(sampler.admit('token_reuse', '192.0.2.1', 'token:a')).toBe(true)
})

test('an IPv6 caller is known by its /64, an IPv4 one by its /24', () => {
  expect(networkOf('192.0.2.77')).toBe('192.0.2.0/24')
  expect(networkOf('::ffff:192.0.2.77')).toBe('192.0.2.0/24')
  expect(networkOf('2001:db8:1:2:3:4:5:6')).toBe('2001:db8:1:2::/64')
  expect(networkOf('2001:db8::1')).toBe('2001:db8:0:0::/64')
  expect(networkOf('2001:0db8:0:0:ffff::1')).toBe(networkOf('2001:db8::1'))
  expect(networkOf('fe80::1%eth0')).toBe('fe80:0:0:0::/64')
  expect(networkOf('::1')).toBe('0:0:0:0::/64')
})
