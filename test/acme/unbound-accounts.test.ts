// Accounts that anybody can have, over a real ledger: bounded until they have a certificate, and removed after the time that an order has.
import { expect, it } from 'vitest'
import { createAcme } from '../../src/acme/acme.ts'
import type { AcmeDeps } from '../../src/acme/deps.ts'
import { addAgent, leaf, makeWorld, now } from '../store/make-ledger.ts'

it('go after the lifetime of an order, the audit log says how many of whom', async () => {
  const { ledger, agent } = await makeWorld()
  const other = await addAgent(ledger, 'other')
  let at = now
  const acme = createAcme({
    clock: { now: () => at, monotonic: () => at },
    ports: ledger.acme,
    settings: { orderLifetimeSeconds: 60, orders: { burst: 1, perMinute: 1 } },
    randomBytes: (length: number) => new Uint8Array(length),
  } as unknown as AcmeDeps)
  const add = (id: string, registrationId: number) =>
    ledger.acme.accounts.create({
      account: {
        ...{ id, registrationId, kid: null, thumbprint: id, jwk: '{}', contacts: [], names: [], createdAt: at },
      },
      keyHash: id.repeat(32),
      decide: () => ({ act: 'create', leaf: leaf('acme_account_created') }),
    })
  for (const [id, registration] of [
    ['aa', agent.id],
    ['bb', agent.id],
    ['cc', other.id],
  ] as const)
    await add(id, registration)
  at = now + 60_000
  await add('dd', agent.id)
  expect(await acme.prune()).toBe(0)
  at = now + 60_001
  expect(await acme.prune()).toBe(3)
  expect(['aa', 'bb', 'cc', 'dd'].map(id => ledger.acme.accounts.get(id)?.id ?? null)).toEqual([null, null, null, 'dd'])
  const leaves = ledger.audit.tail({ event: 'acme_accounts_pruned', limit: 10 })
  const said = leaves.map(({ bytes }) => JSON.parse(Buffer.from(bytes).toString()))
  expect(said).toMatchObject([
    { sub: 'agent:other', accounts: 1, who: 'system' },
    { sub: 'agent:crawler', accounts: 2, who: 'system' },
  ])
})
