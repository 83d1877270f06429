// Refused again and again: nobody but an operator fills the log with it.
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createSampler, defaultSamplerLimits } from '../../src/audit/sampler.ts'
import { createTestFront, type TestFront } from './harness.ts'

let front: TestFront
let api: Awaited<ReturnType<TestFront['serve']>>
beforeAll(async () => {
  front = await createTestFront()
  const still = { now: () => Date.now(), monotonic: () => 0 }
  api = await front.serve({ sampler: createSampler(still) })
})
afterAll(async () => {
  await api?.[Symbol.asyncDispose]()
  await front?.[Symbol.asyncDispose]()
})

const leavesOf = async (ask: () => Promise<{ status: number }>): Promise<number> => {
  const before = front.ledger.audit.head().size
  for (let i = 0; i < 20; i++) expect((await ask()).status).toBeGreaterThanOrEqual(400)
  return front.ledger.audit.head().size - before
}

it('the holder of a join token leaves a few leaves with requests that cannot be read', async () => {
  const token = await front.createToken('token-holder')
  const body = front.enrolBody(token, Buffer.from('no request').toString('base64'))
  expect(await leavesOf(() => api.call('/v1/enroll', { body }))).toBe(defaultSamplerLimits.burst)
})

it('the holder of a certificate that was revoked leaves a few leaves', async () => {
  const { identity, shown } = await front.enrol('revoked-holder')
  await front.ledger.revocations.revoke({
    selector: { by: 'serial', value: identity.serial },
    reason: 'keyCompromise',
    at: Date.now(),
    expected: null,
    leaf: () => ({ event: 'revoked', at: 0, subject: null, bytes: new Uint8Array(0) }),
  })
  expect(await leavesOf(() => api.call('/v1/self', { shown }))).toBe(defaultSamplerLimits.burst)
})
