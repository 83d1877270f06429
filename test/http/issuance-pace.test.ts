// How many certificates one instance and one agent get, through the real front: counted are new ones only.
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createIssuancePace } from '../../src/ca/issuance-pace.ts'
import { createKey, createTestFront, type TestFront } from './harness.ts'

const at = { ms: 0 }
let front: TestFront
beforeAll(async () => {
  const rates = { perInstance: { burst: 3, perMinute: 2 }, perRegistration: { burst: 6, perMinute: 60 } }
  front = await createTestFront(createIssuancePace({ monotonic: () => at.ms }, rates))
})
afterAll(async () => {
  await front?.[Symbol.asyncDispose]()
})

type Shown = Awaited<ReturnType<TestFront['enrol']>>['shown']
/** Renews with a new key. @returns the answer and what is shown from then on */
const renew = async (shown: Shown) => {
  const key = await createKey()
  const reply = await front.call('/v1/renew', { body: { csr: key.csrText }, shown })
  return { reply, key, shown: { cert: reply.body.certificate as string, key: key.privateKey } }
}

it('stops an instance after its burst with 429 and the time to wait, and lets it on after that', async () => {
  let { shown } = await front.enrol('hasty')
  for (let i = 0; i < 3; i++) {
    const renewed = await renew(shown)
    expect(renewed.reply.status).toBe(201)
    // The same again, as often as one likes.
    for (let j = 0; j < 5; j++)
      expect((await front.call('/v1/renew', { body: { csr: renewed.key.csrText }, shown })).body.serial).toBe(
        renewed.reply.body.serial,
      )
    shown = renewed.shown
  }
  const { reply } = await renew(shown)
  expect([reply.status, reply.body.code]).toEqual([429, 'issuance_rate_limited'])
  expect(Number(reply.headers['retry-after'])).toBeGreaterThanOrEqual(30)
  expect(reply.body.hint).toContain('issuance.perInstance')
  expect(front.leafOf(reply, 'request_refused')).toMatchObject({
    code: 'issuance_rate_limited',
    subject: 'agent:hasty',
  })
  expect(front.leavesOf(reply).map(each => each.event)).toEqual(['request_refused'])
  at.ms += 30_000
  expect((await renew(shown)).reply.status).toBe(201)
})

it('stops an agent whose instances are many too, and no other agent', async () => {
  const token = await front.createToken('swarm', { uses: 20 })
  const enrol = async () => front.call('/v1/enroll', { body: front.enrolBody(token, (await createKey()).csrText) })
  const statuses = await Promise.all(Array.from({ length: 9 }, () => enrol().then(({ status }) => status)))
  expect(statuses.toSorted()).toEqual([201, 201, 201, 201, 201, 201, 429, 429, 429])
  expect((await front.enrol('bystander')).identity.generation).toBe(1)
})

it('does not count what came to nothing', async () => {
  const { shown } = await front.enrol('unlucky')
  const greedy = await createKey([{ kind: 'dns', value: 'somebody.else' }])
  for (let i = 0; i < 10; i++) {
    const refused = await front.call('/v1/renew', { body: { csr: greedy.csrText }, shown })
    expect([refused.status, refused.body.code]).toEqual([403, 'name_not_granted'])
  }
  expect((await renew(shown)).reply.status).toBe(201)
})
