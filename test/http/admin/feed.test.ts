// The feed as operators see it, over HTTP: subscribers, what is applied, and a new epoch with its audit leaf.
import { PassThrough } from 'node:stream'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { reaches, readEvents } from '../../feed/world.ts'
import { type AdminWorld, createAdminWorld } from './admin-world.ts'

let world: AdminWorld
beforeAll(async () => {
  world = await createAdminWorld()
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
})

const feed = () => world.deps.feed as import('../../../src/feed/feed.ts').Feed

const subscribe = (replica: string) => {
  const out = new PassThrough()
  const identity = { kind: 'service', name: 'orders', replica, maxStalenessSeconds: 60 } as const
  const peer = { ...identity, instanceId: replica, serial: 'aa', notAfter: Number.MAX_SAFE_INTEGER }
  feed().subscribe({ peer, identity, since: null }, out)
  return { ...readEvents(out), identity, close: () => out.destroy() }
}

describe('the feed', () => {
  it('shows its subscribers, and how far a revocation has got among them', async () => {
    const [first, second] = [subscribe('1'), subscribe('2')]
    await world.register('agent', 'caller')
    const { serial } = await world.credentialsOf('agent', 'caller')
    const revoked = await world.local('/revoke', { by: 'serial', value: serial, reason: 'superseded' })
    const { n } = revoked.body.feed
    await Promise.all([first.until(reaches(n)), second.until(reaches(n))])
    feed().acknowledge(first.identity, feed().head())
    expect((await world.local(`/feed/applied?n=${n}`)).body).toMatchObject({
      ...{ n, of: 2, applied: 1, afterMs: expect.any(Number) },
      missing: [{ subscriber: 'orders/2', staleSince: expect.any(String), coveredUntil: expect.any(String) }],
    })
    const waiting = world.local(`/feed/applied?n=${n}&waitMs=20000`)
    feed().acknowledge(second.identity, feed().head())
    expect((await waiting).body).toMatchObject({ of: 2, applied: 2, missing: [] })
    second.close()
    const { body } = await world.local('/feed')
    expect(body).toMatchObject({ ...feed().head(), oldest: 1, heartbeatSeconds: 3600, leaseSeconds: 15 })
    expect(body.subscribers[0]).toMatchObject({
      ...{ subscriber: 'orders/1', kind: 'service', state: 'live', lag: 0, acked: n, sent: n, staleSince: null },
    })
  })

  it('refuses a number that is none, and a wait without end', async () => {
    for (const query of ['', '?n=-1', '?n=1&waitMs=60000'])
      expect((await world.local(`/feed/applied${query}`)).status).toBe(422)
  })

  it('begins a new epoch on demand: audited, and every reader begins anew', async () => {
    const reader = subscribe('3')
    const before = feed().head()
    expect((await world.local('/feed/epoch', { dryRun: true })).body).toEqual({ from: before.epoch, ...before })
    expect(feed().head()).toEqual(before)
    const { status, body } = await world.local('/feed/epoch', { why: 'restored from the backup of Monday' })
    expect([status, body]).toEqual([200, { from: before.epoch, ...feed().head() }])
    expect(body).toMatchObject({ n: before.n, epoch: expect.not.stringContaining(before.epoch) })
    expect(await reader.ended()).toBe('position_lost')
    expect(world.leaves(1)).toMatchObject([
      { event: 'feed_epoch_changed', from: before.epoch, to: body.epoch, why: 'restored from the backup of Monday' },
    ])
  })
})
