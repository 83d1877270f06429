import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { now } from '../store/make-ledger.ts'
import { codeOf, context, day, makeOperations } from './operations-world.ts'

const options = { context, dryRun: false }
const wanted = { kind: 'agent', name: 'billing', ttlSeconds: 600, uses: 2, boundKeyHash: null } as const

describe('join tokens', () => {
  it('carry 256 random bits behind a readable prefix, and are stored as the hash of their whole text', async () => {
    const ops = await makeOperations()
    const { id } = await ops.register('agent', 'billing')
    const { text, token } = await ops.tokens.create(wanted, options)
    expect(text).toMatch(/^agentca-join-[A-Za-z0-9_-]{43}$/)
    const hash = createHash('sha256').update(text!, 'utf8').digest('hex')
    expect(ops.ledger.tokens.byHash(hash)).toEqual({
      id: token.id,
      hash,
      registrationId: id,
      audience: 'ca-1',
      uses: 2,
      usesTaken: 0,
      evidence: null,
      boundKeyHash: null,
      state: 'active',
      expiresAt: now + 600_000,
      createdAt: now,
      createdBy: 'operator:alice',
    })
    expect(ops.leaves()).toMatchObject([{ event: 'token_created', sub: 'agent:billing', token: token.id, uses: 2 }])
    const other = await ops.tokens.create(wanted, options)
    expect(other.text).not.toBe(text)
  })

  it('never leave their text in the ledger', async () => {
    const ops = await makeOperations()
    await ops.register('agent', 'billing')
    const { text } = await ops.tokens.create(wanted, options)
    const secret = text!.slice('agentca-join-'.length)
    const leaves = ops.ledger.audit.read(0, 100).map(leaf => new TextDecoder().decode(leaf.bytes))
    const rows = JSON.stringify([ops.ledger.tokens.list({ limit: 10 }), ops.ledger.feed.read(0, 100), leaves])
    expect(rows).not.toContain(secret)
  })

  it('are made for operators and services too, and end with their registration', async () => {
    const ops = await makeOperations()
    await ops.register('operator', 'bob')
    await ops.register('service', 'orders', { until: now + 60_000 })
    const forBob = await ops.tokens.create({ ...wanted, kind: 'operator', name: 'bob' }, options)
    expect(forBob.token.expiresAt).toBe(now + 600_000)
    const forOrders = await ops.tokens.create({ ...wanted, kind: 'service', name: 'orders' }, options)
    expect(forOrders.token.expiresAt).toBe(now + 60_000)
  })

  it('are refused for whoever is unknown, held, retired or at its end', async () => {
    const ops = await makeOperations()
    await ops.register('agent', 'billing', { until: now + day })
    const create = () => codeOf(ops.tokens.create(wanted, options))
    expect(await codeOf(ops.tokens.create({ ...wanted, name: 'nobody' }, options))).toBe('not_found')
    await ops.lifecycle.hold(wanted, options)
    expect(await create()).toBe('registration_held')
    await ops.lifecycle.release(wanted, options)
    ops.setTime(now + day)
    expect(await create()).toBe('registration_ended')
    await ops.lifecycle.retire(wanted, options)
    expect(await create()).toBe('registration_retired')
    expect(ops.ledger.tokens.list({ limit: 10 })).toEqual([])
  })

  it('can be bound to one key', async () => {
    const ops = await makeOperations()
    await ops.register('agent', 'billing')
    const boundKeyHash = 'ab'.repeat(32)
    expect((await ops.tokens.create({ ...wanted, boundKeyHash }, options)).token.boundKeyHash).toBe(boundKeyHash)
    expect(await codeOf(ops.tokens.create({ ...wanted, boundKeyHash: 'AB' }, options))).toBe('value_invalid')
  })

  it('are revoked once; again changes nothing, and a dry run neither', async () => {
    const ops = await makeOperations()
    await ops.register('agent', 'billing')
    const { token } = await ops.tokens.create(wanted, options)
    const size = ops.size()
    expect(await ops.tokens.revoke(token.id, { context, dryRun: true })).toMatchObject({ state: 'revoked' })
    expect(ops.ledger.tokens.get(token.id)?.state).toBe('active')
    expect(ops.size()).toBe(size)
    await ops.tokens.revoke(token.id, { ...options, why: 'leaked' })
    expect(ops.ledger.tokens.get(token.id)?.state).toBe('revoked')
    expect(ops.leaves()).toMatchObject([{ event: 'token_revoked', token: token.id, why: 'leaked' }])
    await ops.tokens.revoke(token.id, options)
    expect(ops.size()).toBe(size + 1)
    expect(await codeOf(ops.tokens.revoke('nowhere', options))).toBe('not_found')
  })

  it('as a dry run are neither made nor shown', async () => {
    const ops = await makeOperations()
    await ops.register('agent', 'billing')
    const size = ops.size()
    expect((await ops.tokens.create(wanted, { context, dryRun: true })).text).toBeNull()
    expect(ops.ledger.tokens.list({ limit: 10 })).toEqual([])
    expect(ops.size()).toBe(size)
  })
})
