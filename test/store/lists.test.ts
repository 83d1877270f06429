// Contract of what operators' lists ask: filters that push down, cursors, counts, and the owner that a change's decision sees.
import { expect, test } from 'vitest'
import * as w from './make-ledger.ts'

const serviceWorld = async (world: w.World, name: string): Promise<w.World> => ({
  ...world,
  agent: await world.ledger.registrations.create(
    { ...world.agent, kind: 'service', name, owner: null, at: w.now },
    w.leaf('registration_created'),
  ),
})

test('certificates are found by kind and by issuer', async () => {
  const world = await w.makeWorld()
  const orders = await serviceWorld(world, 'orders')
  const second = { ...world, issuer: await w.addIssuer(world.ledger, 'issuing-2', 'prepared') }
  const agents = await w.issue(world)
  const service = await w.issue(orders, { kind: 'service' })
  const other = await w.issue(second)
  const serials = (filter: object) =>
    world.ledger.certificates.list({ ...filter, limit: 10 }).rows.map(each => each.serial)
  expect(serials({ kind: 'agent' })).toEqual([other.serial, agents.serial])
  expect(serials({ kind: 'service' })).toEqual([service.serial])
  expect(serials({ kind: 'operator' })).toEqual([])
  expect(serials({ issuerId: second.issuer.id })).toEqual([other.serial])
  expect(serials({ issuerId: world.issuer.id, kind: 'agent' })).toEqual([agents.serial])
})

test('instances are found by kind, and live ones without the expired and the revoked', async () => {
  const world = await w.makeWorld()
  const orders = await serviceWorld(world, 'orders')
  const live = await w.issue(world)
  const short = await w.issue(world, { notAfter: w.now + 1000 })
  const gone = await w.issue(world)
  const service = await w.issue(orders, { kind: 'service' })
  await world.ledger.revocations.revoke({
    selector: { by: 'instance', value: gone.instanceId },
    reason: 'superseded',
    at: w.now + 20,
    expected: null,
    leaf: () => w.leaf('revoked'),
  })
  const ids = (filter: object) => world.ledger.instances.list({ ...filter, limit: 10 }).map(each => each.id)
  expect(ids({ kind: 'service' })).toEqual([service.instanceId])
  expect(ids({ kind: 'agent', liveAt: w.now })).toEqual([live.instanceId, short.instanceId])
  expect(ids({ registrationId: world.agent.id, liveAt: w.now + 1000 })).toEqual([live.instanceId])
})

test('tokens come newest first below a cursor, by kind and by id', async () => {
  const world = await w.makeWorld()
  const orders = await serviceWorld(world, 'orders')
  for (const id of ['t1', 't2']) await w.addToken(world, id)
  await w.addToken(orders, 't3')
  const ids = (filter: object) => world.ledger.tokens.list({ ...filter, limit: 10 }).map(each => each.id)
  expect(ids({})).toEqual(['t3', 't2', 't1'])
  expect(ids({ before: 't3' })).toEqual(['t2', 't1'])
  expect(ids({ kind: 'service' })).toEqual(['t3'])
  expect(ids({ kind: 'agent', before: 't2' })).toEqual(['t1'])
  expect(world.ledger.tokens.get('t2')).toMatchObject({ id: 't2', registrationId: world.agent.id })
  expect(world.ledger.tokens.get('t9')).toBeNull()
})

test('registrations are counted by kind and state', async () => {
  const world = await w.makeWorld()
  await serviceWorld(world, 'orders')
  await w.addAgent(world.ledger, 'second')
  await w.setState(world, 'held')
  await w.setState(world, 'retired', 'second')
  expect(world.ledger.registrations.counts()).toEqual({
    agent: { active: 0, held: 1, retired: 1 },
    service: { active: 1, held: 0, retired: 0 },
    operator: { active: 0, held: 0, retired: 0 },
  })
})

test('a change is decided over the present owner', async () => {
  const world = await w.makeWorld()
  const orders = await serviceWorld(world, 'orders')
  const seen: unknown[] = []
  const look = (kind: 'agent' | 'service', name: string) =>
    world.ledger.registrations.change({
      kind,
      name,
      at: w.now,
      decide: (current, _radius, owner) => {
        seen.push(owner?.state ?? null)
        return { set: {}, state: current.state }
      },
      leaf: () => w.leaf('registration_changed'),
    })
  await look('agent', world.agent.name)
  await world.ledger.owners.gone('alice', w.now, () => w.leaf('owner_gone'))
  await look('agent', world.agent.name)
  await look('service', orders.agent.name)
  expect(seen).toEqual(['active', 'gone', null])
})
