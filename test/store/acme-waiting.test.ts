// Contract of ACME accounts that anybody can have: they wait for their first certificate, are counted while they do, and go with everything
// that is theirs when nothing of them runs any more.
import Database from 'better-sqlite3'
import { expect, test } from 'vitest'
import type { AcmeAccount, WaitingAccounts } from '../../src/store/acme-port.ts'
import * as w from './make-ledger.ts'

const created = w.leaf('acme_account_created')

const addAccount = async (
  world: w.World,
  id: string,
  more: Partial<AcmeAccount> = {},
  key = id,
): Promise<WaitingAccounts> => {
  let seen: WaitingAccounts = { count: -1, oldestAt: null }
  await world.ledger.acme.accounts.create({
    account: {
      ...{ id, registrationId: world.agent.id, kid: null, thumbprint: `thumbprint of ${id}`, jwk: '{}' },
      ...{ contacts: [], names: [], createdAt: w.now, ...more },
    },
    keyHash: w.hashOf(`key of ${key}`),
    decide: (_facts, _binding, waiting) => {
      seen = waiting()
      return { act: 'create', leaf: created }
    },
  })
  return seen
}

const addOrder = (world: w.World, id: string, account: string, expiresAt: number) =>
  world.ledger.acme.orders.create(
    {
      ...{ id, account, profile: 'acme', authorizations: [], notBefore: null, notAfter: null },
      ...{ replaces: null, certificate: null, error: null, expiresAt, createdAt: w.now },
    },
    w.leaf('acme_order_created'),
  )

const recordIntent = async (world: w.World, account: string, orderId: string): Promise<string> => {
  const intent = w.intentOf(world, { instanceId: account, newInstance: false, orderId })
  const query = {
    evidence: { kind: 'account', accountId: account, orderId },
    keyHash: intent.keyHash,
    now: w.now,
  } as const
  const leaf = w.leaf('intent')
  await world.ledger.issuance.recordIntents([{ query, decide: () => ({ act: 'record', intent, leaf }) }])
  return intent.serial
}

const prune = (world: w.World, step: { createdBefore?: number; now?: number; limit?: number } = {}) =>
  world.ledger.acme.accounts.pruneWaiting(
    { createdBefore: w.now + 1, now: w.now, limit: 100, ...step },
    ({ name }, accounts) => w.leaf(`pruned ${accounts} of ${name}`),
  )

const ids = (world: w.World) => ['a', 'b', 'c'].filter(id => world.ledger.acme.accounts.get(id) !== null)

test('only those without a binding wait, each registration’s by themselves', async () => {
  const world = await w.makeWorld()
  await world.ledger.acme.bindings.create(
    {
      ...{ kid: 'k', registrationId: world.agent.id, sealedKey: new Uint8Array([1]), names: [] },
      ...{ expiresAt: w.now + w.hour, createdAt: w.now, createdBy: 'operator:alice' },
    },
    w.leaf('acme_binding_created'),
  )
  await addAccount(world, 'bound', { kid: 'k' })
  const other = { ...world, agent: await w.addAgent(world.ledger, 'other') }
  await addAccount(other, 'of-another')
  expect(await addAccount(world, 'a', { createdAt: w.now - 5 })).toEqual({ count: 0, oldestAt: null })
  expect(await addAccount(world, 'b')).toEqual({ count: 1, oldestAt: w.now - 5 })
  expect(await addAccount(world, 'c')).toEqual({ count: 2, oldestAt: w.now - 5 })
  expect(await addAccount(world, 'd')).toEqual({ count: 3, oldestAt: w.now - 5 })
})

test('their number is kept, not counted: it is right after what was rolled back, ended, or went, and after a restart', async () => {
  using file = w.temporaryDatabase()
  const world = await w.makeWorld(w.makeLedger(file.path))
  const db = new Database(file.path, { readonly: true })
  const kept = () =>
    db.prepare(`SELECT value FROM counter WHERE name = 'waiting/' || ?`).pluck().get(`${world.agent.id}`)
  for (const id of ['a', 'b', 'c', 'd']) await addAccount(world, id)
  expect(kept()).toBe(4)
  const both = [addAccount(world, 'e'), addAccount(world, 'a')]
  expect((await Promise.allSettled(both)).map(({ status }) => status)).toEqual(['fulfilled', 'rejected'])
  expect(kept()).toBe(5)
  for (const id of ['o1', 'o2']) {
    await addOrder(world, id, 'a', w.now + 10)
    await recordIntent(world, 'a', id).catch(() => {})
  }
  expect(kept()).toBe(4)
  await prune(world, { limit: 2 })
  expect(kept()).toBe(2)
  await world.ledger.close()
  const again = { ...world, ledger: w.makeLedger(file.path) }
  expect(await addAccount(again, 'f')).toMatchObject({ count: 2 })
  expect(kept()).toBe(3)
  await again.ledger.close()
  db.close()
})

test('those of a ledger that did not keep their number are counted once', async () => {
  using file = w.temporaryDatabase()
  const world = await w.makeWorld(w.makeLedger(file.path))
  for (const id of ['a', 'b']) await addAccount(world, id)
  await world.ledger.close()
  const db = new Database(file.path)
  db.exec(`DELETE FROM counter WHERE name LIKE 'waiting/%'`)
  db.close()
  const again = { ...world, ledger: w.makeLedger(file.path) }
  expect(await prune(again, { limit: 1 })).toBe(1)
  expect(await addAccount(again, 'c')).toMatchObject({ count: 1 })
  expect(await addAccount(again, 'd')).toMatchObject({ count: 2 })
  await again.ledger.close()
})

test('the first attempt at a certificate ends the waiting for good, and be it voided', async () => {
  const world = await w.makeWorld()
  await addAccount(world, 'a')
  await addOrder(world, 'o1', 'a', w.now + 10)
  const serial = await recordIntent(world, 'a', 'o1')
  expect(await addAccount(world, 'b')).toMatchObject({ count: 0 })
  await world.ledger.issuance.recordVoid([{ serial, leaf: w.leaf('void') }])
  expect(await prune(world, { now: w.now + w.hour })).toBe(1)
  expect(ids(world)).toEqual(['a'])
  expect(world.ledger.acme.orders.get('o1')).not.toBeNull()
})

test('they go when they are old enough and no order of theirs runs, in steps, with a leaf for each registration', async () => {
  const world = await w.makeWorld()
  for (const id of ['a', 'b', 'c']) await addAccount(world, id)
  await addOrder(world, 'runs', 'a', w.now + 10)
  await addOrder(world, 'over', 'b', w.now - 10)
  expect(await prune(world, { createdBefore: w.now })).toBe(0)
  expect(await prune(world, { limit: 1 })).toBe(1)
  expect(await prune(world)).toBe(1)
  expect([ids(world), world.ledger.acme.orders.get('over')]).toEqual([['a'], null])
  expect(world.ledger.audit.tail({ limit: 1 })).toMatchObject([{ event: 'pruned 1 of crawler' }])
  expect(await prune(world, { now: w.now + 11 })).toBe(1)
  // The newest row of the instances stays: its number is nobody else's.
  const left = world.ledger.instances.list({ limit: 10 })
  expect([ids(world), left.map(({ id, headSerial }) => ({ id, headSerial }))]).toEqual([
    [],
    [{ id: 'c', headSerial: null }],
  ])
})

test('nothing of one who went is kept from others: neither its key nor its thumbprint, after a change of keys either', async () => {
  const world = await w.makeWorld()
  await addAccount(world, 'a')
  const next = { thumbprint: 'next', jwk: '{}', keyHash: w.hashOf('next key'), check: () => {} }
  await world.ledger.acme.accounts.change('a', next, w.now, w.leaf('acme_account_changed'))
  await prune(world)
  await addAccount(world, 'b', { thumbprint: 'next' })
  const seen = world.ledger.issuance.facts({
    evidence: { kind: 'registration', subject: 'agent', name: 'crawler' },
    keyHash: w.hashOf('next key'),
    now: w.now,
  })
  expect(seen.keySeenWith).toBeNull()
  // The first key, too.
  await prune(world)
  await addAccount(world, 'c', { thumbprint: 'thumbprint of a' }, 'a')
})
