import { describe, expect, it } from 'vitest'
import { registrationTransitions } from '../../src/ca/state-table.ts'
import type { RegistrationState } from '../../src/store/records.ts'
import * as w from '../store/make-ledger.ts'
import { codeOf, context, day, makeOperations, type Operations } from './operations-world.ts'

const { now } = w
const options = { context, dryRun: false }
const billing = { kind: 'agent', name: 'billing' } as const

/** An agent with live certificates, as the store's fixtures make them. */
const withCertificates = async (count: number, ops?: Operations) => {
  const operations = ops ?? (await makeOperations())
  const agent = await operations.register('agent', 'billing')
  const world = { ledger: operations.ledger, issuer: operations.issuer, agent }
  const intents = []
  for (let i = 0; i < count; i++) intents.push(await w.issue(world))
  return { ops: operations, world, intents }
}

describe('the state table', () => {
  const states: readonly RegistrationState[] = ['active', 'held', 'retired']
  const reach = async (ops: Operations, state: RegistrationState) => {
    if (state === 'held') await ops.lifecycle.hold(billing, options)
    if (state === 'retired') await ops.lifecycle.retire(billing, options)
  }
  it.each(states.flatMap(from => states.map(to => ({ from, to }))))(
    'is obeyed from $from to $to',
    async ({ from, to }) => {
      const { ops } = await withCertificates(0)
      await reach(ops, from)
      const verb = { held: ops.lifecycle.hold, active: ops.lifecycle.release, retired: ops.lifecycle.retire }[to]
      const size = ops.size()
      const allowed = registrationTransitions[from].includes(to)
      expect(await codeOf(verb(billing, options))).toBe(allowed ? 'fulfilled' : 'conflict')
      expect(ops.ledger.registrations.find('agent', 'billing')?.state).toBe(allowed ? to : from)
      expect(ops.size()).toBe(allowed ? size + 1 : size)
    },
  )
})

describe('hold and release', () => {
  it('says what it touches, in the answer and in the log', async () => {
    const { ops, intents } = await withCertificates(2)
    const held = await ops.lifecycle.hold(billing, { ...options, why: 'odd calls' })
    expect(held).toMatchObject({
      dryRun: false,
      registration: { state: 'held' },
      radius: { certificates: 2, instances: 2 },
    })
    expect(held.radius.serials).toEqual(intents.map(intent => intent.serial).reverse())
    expect(ops.leaves()).toMatchObject([
      { event: 'registration_changed', from: 'active', to: 'held', why: 'odd calls', sub: 'agent:billing' },
    ])
    expect(ops.ledger.certificates.get(intents[0]!.serial)?.state).toBe('held')
    await ops.lifecycle.release(billing, options)
    expect(ops.ledger.certificates.get(intents[0]!.serial)?.state).toBe('issued')
  })

  it('refuses when more would be hit than the caller saw, as a dry run too', async () => {
    const { ops } = await withCertificates(2)
    for (const dryRun of [true, false])
      expect(await codeOf(ops.lifecycle.hold(billing, { context, dryRun, expected: 1 }))).toBe('radius_changed')
    expect(ops.ledger.registrations.find('agent', 'billing')?.state).toBe('active')
    expect(await codeOf(ops.lifecycle.hold(billing, { ...options, expected: 2 }))).toBe('fulfilled')
  })

  it('as a dry run shows the outcome and leaves nothing, not even a number in the feed', async () => {
    const { ops, intents } = await withCertificates(1)
    const before = [ops.size(), ops.ledger.feed.head().n]
    const planned = await ops.lifecycle.hold(billing, { context, dryRun: true })
    expect(planned).toMatchObject({
      dryRun: true,
      registration: { state: 'held', version: 2 },
      radius: { certificates: 1 },
    })
    expect([ops.size(), ops.ledger.feed.head().n]).toEqual(before)
    expect(ops.ledger.certificates.get(intents[0]!.serial)?.state).toBe('issued')
  })
})

describe('retirement', () => {
  it('ends certificates, instances and tokens, and names its archive', async () => {
    const { ops, intents } = await withCertificates(2)
    await ops.tokens.create({ ...billing, ttlSeconds: 600, uses: 1, boundKeyHash: null }, options)
    const created = ops.ledger.audit.tail({ event: 'registration_created', limit: 1 })[0]!.index
    const newest = ops.ledger.audit.tail({ subject: 'agent:billing', limit: 1 })[0]!.index
    const { registration, radius, archived } = await ops.lifecycle.retire(billing, { ...options, why: 'replaced' })
    expect(archived).toEqual([created, newest])
    expect(registration.state).toBe('retired')
    expect(radius).toMatchObject({ certificates: 2, instances: 2, tokens: 1, intents: 0 })
    expect(ops.leaves()).toMatchObject([
      {
        event: 'registration_retired',
        sub: 'agent:billing',
        certificates: 2,
        tokens: 1,
        archived: [created, newest],
        why: 'replaced',
      },
    ])
    expect(ops.ledger.certificates.get(intents[1]!.serial)).toMatchObject({
      state: 'revoked',
      reason: 'cessationOfOperation',
    })
  })

  it('spares the last admin as long as other operators are there', async () => {
    const ops = await makeOperations()
    await ops.register('operator', 'root', { operatorRole: 'admin' })
    await ops.register('operator', 'bob')
    const retire = (name: string) => codeOf(ops.lifecycle.retire({ kind: 'operator', name }, options))
    expect(await retire('root')).toBe('conflict')
    await ops.register('operator', 'eve', { operatorRole: 'admin' })
    expect(await retire('root')).toBe('fulfilled')
    expect(await retire('bob')).toBe('fulfilled')
    expect(await retire('eve')).toBe('fulfilled')
  })

  it('of two admins at once by each other ends one of them', async () => {
    const ops = await makeOperations()
    for (const name of ['root', 'eve']) await ops.register('operator', name, { operatorRole: 'admin' })
    await ops.register('operator', 'bob')
    const retire = (name: string) => codeOf(ops.lifecycle.retire({ kind: 'operator', name }, options))
    expect((await Promise.all([retire('root'), retire('eve')])).sort()).toEqual(['conflict', 'fulfilled'])
  })

  it('comes by itself at the end date, and not before', async () => {
    const { ops, intents } = await withCertificates(1)
    await ops.registry.update(billing, { until: now + day }, options)
    await ops.register('service', 'orders', { until: now + 2 * day })
    expect(await ops.lifecycle.retireEnded(now + day - 1)).toBe(0)
    ops.setTime(now + day)
    expect(await ops.lifecycle.retireEnded(now + day)).toBe(1)
    expect(ops.ledger.registrations.find('agent', 'billing')?.state).toBe('retired')
    expect(ops.ledger.registrations.find('service', 'orders')?.state).toBe('active')
    expect(ops.leaves()).toMatchObject([{ event: 'registration_retired', who: 'system', why: 'end date' }])
    expect(await ops.lifecycle.retireEnded(now + day)).toBe(0)
    // Expired by then: nothing of it was live any more.
    expect(ops.ledger.certificates.get(intents[0]!.serial)?.state).toBe('issued')
  })

  it('spares who got a later date after the list was read', async () => {
    const { ops } = await withCertificates(0)
    await ops.registry.update(billing, { until: now + day }, options)
    // Both are asked in one turn: the list still has the old date, the change comes after the new one.
    const extended = ops.registry.update(billing, { until: now + 2 * day }, options)
    expect(await ops.lifecycle.retireEnded(now + day)).toBe(0)
    expect((await extended).registration.until).toBe(now + 2 * day)
    expect(ops.ledger.registrations.find('agent', 'billing')?.state).toBe('active')
  })

  it('retires more than one page of ended registrations in one go', async () => {
    const ops = await makeOperations()
    for (let i = 0; i < 205; i++) await ops.register('agent', `a-${i}`, { until: now + day })
    expect(await ops.lifecycle.retireEnded(now + day)).toBe(205)
    expect(ops.ledger.registrations.counts().agent).toEqual({ active: 0, held: 0, retired: 205 })
  })
})

describe('an owner who is gone', () => {
  it('leaves its agents held; the dry run shows exactly that and changes nothing', async () => {
    const { ops, intents } = await withCertificates(2)
    await ops.register('agent', 'crawler', { owner: 'search' })
    const before = [ops.size(), ops.ledger.feed.head().n]
    const planned = await ops.lifecycle.ownerGone('finance', { context, dryRun: true })
    expect(planned).toMatchObject({ certificates: 2, registrations: [billing] })
    expect([ops.size(), ops.ledger.feed.head().n]).toEqual(before)
    expect(ops.ledger.owners.find('finance')?.state).toBe('active')
    expect(await codeOf(ops.lifecycle.ownerGone('finance', { ...options, expected: 1 }))).toBe('radius_changed')
    expect(await ops.lifecycle.ownerGone('finance', { ...options, why: 'left' })).toEqual(planned)
    expect(ops.ledger.certificates.get(intents[0]!.serial)?.state).toBe('held')
    expect(ops.ledger.registrations.find('agent', 'crawler')?.state).toBe('active')
    expect(ops.leaves()).toMatchObject([{ event: 'owner_gone', certificates: 2, why: 'left' }])
    expect(await codeOf(ops.lifecycle.ownerGone('finance', options))).toBe('conflict')
    expect(await codeOf(ops.lifecycle.ownerGone('nobody', options))).toBe('not_found')
  })

  it('takes no admin with him while there is no other whose certificate can be renewed', async () => {
    const ops = await makeOperations()
    await ops.register('operator', 'root', { operatorRole: 'admin', owner: 'operators' })
    await ops.register('operator', 'bob', { owner: 'search' })
    const gone = (owner: string, dryRun = false) => codeOf(ops.lifecycle.ownerGone(owner, { context, dryRun }))
    expect([await gone('operators', true), await gone('operators')]).toEqual(['conflict', 'conflict'])
    expect(await gone('search')).toBe('fulfilled')
    await ops.register('operator', 'eve', { operatorRole: 'admin', owner: 'security' })
    expect(await gone('operators')).toBe('fulfilled')
    expect(await gone('security')).toBe('conflict')
    const retire = (name: string) => codeOf(ops.lifecycle.retire({ kind: 'operator', name }, options))
    expect([await retire('eve'), await retire('root')]).toEqual(['conflict', 'fulfilled'])
  })
})

describe('a locked instance', () => {
  it('is unlocked by an operator, with its certificates', async () => {
    const { ops, world, intents } = await withCertificates(1)
    const { instanceId, serial } = intents[0]!
    expect(await codeOf(ops.lifecycle.unlock(instanceId, options))).toBe('conflict')
    await w.lock(world, instanceId)
    expect(await ops.lifecycle.unlock(instanceId, { context, dryRun: true })).toMatchObject({ state: 'active' })
    expect(w.instanceOf(world, instanceId).state).toBe('locked')
    expect(await ops.lifecycle.unlock(instanceId, { ...options, why: 'same disk' })).toMatchObject({ state: 'active' })
    expect(w.stateOf(world, serial)).toBe('issued')
    expect(ops.leaves()).toMatchObject([
      { event: 'instance_unlocked', sub: 'agent:billing', instance: instanceId, why: 'same disk' },
    ])
    expect(await codeOf(ops.lifecycle.unlock('nowhere', options))).toBe('not_found')
  })
})
