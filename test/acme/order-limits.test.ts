// How many orders accounts may have, over a real ledger: those that anybody can have few, each by itself and all together, also of what comes
// at once; and what an order leaves in the audit log for ever.
import { createHash, randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import type { AcmeDeps } from '../../src/acme/deps.ts'
import { createOrders } from '../../src/acme/orders.ts'
import type { AccountRequest } from '../../src/acme/request.ts'
import { hashOf, hour, leaf, makeWorld, now } from '../store/make-ledger.ts'

const profile = { name: 'acme', kind: 'agent', description: '', lifetimeSeconds: 3600, minLifetimeSeconds: 60 }

const createOpenCa = async (maxUnboundAccounts = 100) => {
  const { ledger, agent } = await makeWorld()
  const time = { at: now, monotonic: 0 }
  let made = 0
  const orders = createOrders(
    {
      clock: { now: () => time.at, monotonic: () => time.monotonic },
      ports: ledger.acme,
      settings: {
        ...{ maxUnboundAccounts, orderLifetimeSeconds: 60, maxOpenOrders: 100 },
        orders: { burst: 1000, perMinute: 1 },
      },
      trustDomain: 'agents.example',
      profiles: () => [{ ...profile, challenges: ['http-01'] }],
      randomBytes,
      newId: () => `order-${++made}`,
      reached: () => {},
    } as unknown as AcmeDeps,
    () => 'pending',
  )
  /** @returns what makes an order of a new account */
  const account = async (id: string, kid: string | null = null) => {
    if (kid !== null)
      await ledger.acme.bindings.create(
        {
          ...{ kid, registrationId: agent.id, sealedKey: new Uint8Array([1]), names: [] },
          ...{ expiresAt: now + hour, createdAt: now, createdBy: 'operator:alice' },
        },
        leaf('acme_binding_created'),
      )
    const row = {
      id,
      registrationId: agent.id,
      kid,
      thumbprint: id,
      jwk: '{}',
      contacts: [],
      names: [],
      createdAt: now,
    }
    await ledger.acme.accounts.create({
      account: row,
      keyHash: hashOf(id),
      decide: () => ({ act: 'create', leaf: leaf('acme_account_created') }),
    })
    return (names = 1) => {
      const identifiers = Array.from({ length: names }, (_, index) => ({ type: 'dns', value: `n${index}.example` }))
      const call = { context: () => ({ requestId: 'r', who: 'w', source: 's' }) }
      const payload = Buffer.from(JSON.stringify({ identifiers }))
      return orders.create({ account: row, registration: agent, call, payload } as unknown as AccountRequest)
    }
  }
  const lastLeaf = () => JSON.parse(Buffer.from(ledger.audit.tail({ limit: 1 })[0]!.bytes).toString())
  return { ledger, time, account, lastLeaf }
}

const codesOf = (settled: readonly PromiseSettledResult<unknown>[]) =>
  settled.map(each => (each.status === 'fulfilled' ? 'made' : each.reason.code))

const atOnce = (count: number, make: () => Promise<unknown>) =>
  Promise.allSettled(Array.from({ length: count }, () => make()))

it('an account without a binding has five open orders at most, also of those that come at once; one with a binding has more', async () => {
  const { time, account } = await createOpenCa()
  const order = await account('aa')
  expect(codesOf(await atOnce(8, order))).toEqual([...Array(5).fill('made'), ...Array(3).fill('rateLimited')])
  await expect(order()).rejects.toMatchObject({ code: 'rateLimited', facts: { retryAfterSeconds: 60 } })
  expect(codesOf(await atOnce(8, await account('bb', 'kid')))).toEqual(Array(8).fill('made'))
  time.at += 61_000
  await order()
})

it('an order of one has ten names at most, and of one with a binding more', async () => {
  const { account } = await createOpenCa()
  const order = await account('aa')
  await order(10)
  await expect(order(11)).rejects.toMatchObject({ code: 'malformed' })
  await (await account('bb', 'kid'))(11)
})

it('those that have no certificate yet have so many open orders together as there may be of them; others are not counted', async () => {
  const { time, account } = await createOpenCa(7)
  const first = await account('aa')
  const second = await account('bb')
  await atOnce(4, first)
  expect(codesOf(await atOnce(4, second))).toEqual(['made', 'made', 'made', 'rateLimited'])
  expect(codesOf(await atOnce(8, await account('cc', 'kid')))).toEqual(Array(8).fill('made'))
  // Counted anew once in a while.
  time.at += 61_000
  await expect(second()).rejects.toMatchObject({ code: 'rateLimited', facts: { retryAfterSeconds: 60 } })
  time.monotonic += 30_000
  expect(codesOf(await atOnce(4, second))).toEqual(Array(4).fill('made'))
})

it('the leaf of an order lists ten names; of more it has the number and a hash', async () => {
  const { account, lastLeaf } = await createOpenCa()
  const order = await account('aa', 'kid')
  await order(10)
  expect(lastLeaf()).toMatchObject({ event: 'acme_order_created', names: { length: 10 } })
  await order(11)
  const names = Array.from({ length: 11 }, (_, index) => `dns:n${index}.example\n`).join('')
  const said = lastLeaf()
  expect(said).toMatchObject({ nameCount: 11, namesHash: createHash('sha256').update(names).digest('hex') })
  expect(said).not.toHaveProperty('names')
})
