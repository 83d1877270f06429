import { describe, expect, it } from 'vitest'
import { now } from '../store/make-ledger.ts'
import { codeOf, context, day, makeOperations } from './operations-world.ts'

const options = { context, dryRun: false }
const agent = (name: string) => ({ kind: 'agent', name }) as const

describe('creating', () => {
  it('registers an agent with its owner, and says so in the log', async () => {
    const ops = await makeOperations()
    const created = await ops.register('agent', 'billing', { roles: ['reader'], until: now + day })
    expect(created).toMatchObject({ name: 'billing', owner: 'finance', profile: 'agent', state: 'active', version: 1 })
    expect(ops.leaves(2)).toMatchObject([
      {
        event: 'registration_created',
        sub: 'agent:billing',
        who: 'operator:alice',
        req: 'r-1',
        src: '192.0.2.7',
        owner: 'finance',
        until: now + day,
      },
      { event: 'owner_created', sub: 'owner:finance' },
    ])
  })

  it('does not create an agent without an owner, nor one whose owner is gone', async () => {
    const ops = await makeOperations()
    expect(await codeOf(ops.register('agent', 'orphan', { owner: null }))).toBe('value_invalid')
    await ops.register('agent', 'billing')
    await ops.lifecycle.ownerGone('finance', options)
    const size = ops.size()
    expect(await codeOf(ops.register('agent', 'another'))).toBe('owner_gone')
    expect(ops.size()).toBe(size)
  })

  it('takes the profile named like the kind, and refuses an unknown one and one of another kind', async () => {
    const ops = await makeOperations()
    expect((await ops.register('service', 'orders')).profile).toBe('service')
    expect((await ops.register('operator', 'bob')).profile).toBe('operator')
    expect((await ops.register('agent', 'quick', { profile: 'agent-short' })).profile).toBe('agent-short')
    expect(await codeOf(ops.register('agent', 'a', { profile: 'nowhere' }))).toBe('not_found')
    expect(await codeOf(ops.register('agent', 'b', { profile: 'service' }))).toBe('conflict')
  })

  it.each([
    ['a name outside the grammar', 'Billing', {}, 'agent_name_malformed'],
    ['an end date that has passed', 'a', { until: now }, 'value_invalid'],
    ['a purpose of two lines', 'a', { purpose: 'one\ntwo' }, 'value_invalid'],
    ['text that is not well-formed', 'a', { purpose: '\ud800' }, 'value_invalid'],
    ['an owner with an escape sequence', 'a', { owner: '\u001b[31mroot' }, 'value_invalid'],
    ['the same role twice', 'a', { roles: ['r', 'r'] }, 'value_invalid'],
    ['an address', 'a', { dnsNames: ['127.0.0.1'] }, 'value_invalid'],
    ['an operator role for an agent', 'a', { operatorRole: 'admin' as const }, 'value_invalid'],
  ])('refuses an agent with %s, and writes nothing', async (_what, name, more, code) => {
    const ops = await makeOperations()
    const size = ops.size()
    expect(await codeOf(ops.register('agent', name, more))).toBe(code)
    expect(ops.size()).toBe(size)
    expect(ops.ledger.owners.list()).toEqual([])
  })

  it('takes host names in lower case, addresses for services only and in one form', async () => {
    const ops = await makeOperations()
    const dnsNames = ['orders.internal', '127.0.0.1', '0:0:0:0:0:0:0:1', '*.orders.internal']
    const service = await ops.register('service', 'orders', { dnsNames })
    expect(service.dnsNames).toEqual(['orders.internal', '127.0.0.1', '::1', '*.orders.internal'])
    for (const name of ['Orders.internal', 'orders..internal', '1.2.3', 'a b', 'x.', '::1', '0::1'])
      expect(
        await codeOf(ops.register('service', 'other', { dnsNames: name.includes('::') ? ['::1', '0::1'] : [name] })),
        name,
      ).toBe('value_invalid')
    expect(await codeOf(ops.register('operator', 'bob', { dnsNames: ['bob.internal'] }))).toBe('value_invalid')
  })

  it('never reuses a name, not even a retired one', async () => {
    const ops = await makeOperations()
    await ops.register('agent', 'billing')
    expect(await codeOf(ops.register('agent', 'billing'))).toBe('already_exists')
    await ops.lifecycle.retire(agent('billing'), options)
    expect(await codeOf(ops.register('agent', 'billing', { owner: 'somebody-new' }))).toBe('already_exists')
    expect(ops.ledger.owners.find('somebody-new')).toBeNull()
    expect(await codeOf(ops.register('service', 'billing'))).toBe('fulfilled')
  })

  it('as a dry run decides the same and writes nothing', async () => {
    const ops = await makeOperations()
    const size = ops.size()
    expect(await ops.register('agent', 'billing', {}, true)).toMatchObject({ name: 'billing', state: 'active' })
    expect(await codeOf(ops.register('agent', 'billing', { profile: 'nowhere' }, true))).toBe('not_found')
    expect(ops.size()).toBe(size)
    expect(ops.ledger.owners.list()).toEqual([])
    expect(ops.ledger.registrations.find('agent', 'billing')).toBeNull()
  })
})

describe('updating', () => {
  it('changes what is given, keeps the rest, and logs the new values with the reason', async () => {
    const ops = await makeOperations()
    await ops.register('agent', 'billing', { roles: ['reader'], purpose: 'bills' })
    const { registration } = await ops.registry.update(
      agent('billing'),
      { roles: ['writer'], instanceLimit: 3, attributes: { region: 'eu' } },
      { ...options, why: 'grew' },
    )
    expect(registration).toMatchObject({ roles: ['writer'], instanceLimit: 3, purpose: 'bills', version: 2 })
    expect(ops.leaves()).toMatchObject([
      {
        event: 'registration_changed',
        version: 2,
        why: 'grew',
        set: { roles: ['writer'], instanceLimit: 3, attributes: { region: 'eu' } },
      },
    ])
  })

  it('gives a held agent a new owner, so that it can be released', async () => {
    const ops = await makeOperations()
    await ops.register('agent', 'billing')
    await ops.lifecycle.ownerGone('finance', options)
    expect(await codeOf(ops.lifecycle.release(agent('billing'), options))).toBe('owner_gone')
    expect(await codeOf(ops.registry.update(agent('billing'), { owner: 'finance' }, options))).toBe('owner_gone')
    await ops.registry.update(agent('billing'), { owner: 'treasury' }, options)
    const { registration } = await ops.lifecycle.release(agent('billing'), options)
    expect(registration).toMatchObject({ state: 'active', owner: 'treasury' })
  })

  it('refuses nothing, the unknown, the retired, and values out of bounds', async () => {
    const ops = await makeOperations()
    await ops.register('agent', 'billing')
    const update = (name: string, values: object) => codeOf(ops.registry.update(agent(name), values, options))
    expect(await update('billing', {})).toBe('value_invalid')
    expect(await update('nobody', { purpose: 'x' })).toBe('not_found')
    expect(await update('nobody', { owner: 'new-owner' })).toBe('not_found')
    expect(await update('billing', { until: now - 1 })).toBe('value_invalid')
    expect(await update('billing', { profile: 'service' })).toBe('conflict')
    expect(await update('billing', { until: null })).toBe('fulfilled')
    await ops.lifecycle.retire(agent('billing'), options)
    expect(await update('billing', { purpose: 'x' })).toBe('conflict')
    expect(await update('billing', { owner: 'new-owner' })).toBe('conflict')
    expect(ops.ledger.owners.find('new-owner')).toBeNull()
  })

  it('as a dry run writes nothing, not even the new owner', async () => {
    const ops = await makeOperations()
    await ops.register('agent', 'billing')
    const size = ops.size()
    const planned = await ops.registry.update(agent('billing'), { owner: 'treasury' }, { ...options, dryRun: true })
    expect(planned).toMatchObject({ dryRun: true, registration: { owner: 'treasury', version: 2 } })
    expect(ops.size()).toBe(size)
    expect(ops.ledger.owners.find('treasury')).toBeNull()
    expect(ops.ledger.registrations.find('agent', 'billing')).toMatchObject({ owner: 'finance', version: 1 })
  })
})

describe('attesting', () => {
  it('moves the end date forward, never back, and notes that the owner confirmed', async () => {
    const ops = await makeOperations()
    await ops.register('agent', 'billing', { until: now + 10 * day })
    const attest = (until: number | null) => ops.registry.attest(agent('billing'), until, { ...options, why: 'asked' })
    expect(await codeOf(attest(now + 9 * day))).toBe('value_invalid')
    expect((await attest(null)).registration.until).toBe(now + 10 * day)
    expect((await attest(now + 20 * day)).registration.until).toBe(now + 20 * day)
    expect(ops.leaves()).toMatchObject([
      { event: 'registration_attested', owner: 'finance', until: now + 20 * day, version: 3, why: 'asked' },
    ])
  })

  it('is refused once the owner is gone, or the agent retired', async () => {
    const ops = await makeOperations()
    await ops.register('agent', 'billing')
    await ops.register('agent', 'crawler', { owner: 'search' })
    await ops.lifecycle.ownerGone('finance', options)
    await ops.lifecycle.retire(agent('crawler'), options)
    expect(await codeOf(ops.registry.attest(agent('billing'), null, options))).toBe('owner_gone')
    expect(await codeOf(ops.registry.attest(agent('crawler'), null, options))).toBe('conflict')
  })
})
