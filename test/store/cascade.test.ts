// Contract of holds, releases, retirement, locks, owners and revocation: the cascade, the feed and what CRL and OCSP read.
import { expect, test } from 'vitest'
import type { RevocationSelector } from '../../src/store/ports.ts'
import * as w from './make-ledger.ts'

const revoke = (world: w.World, selector: RevocationSelector, expected: number | null = null) =>
  world.ledger.revocations.revoke({
    selector,
    reason: 'keyCompromise',
    at: w.now + 30,
    expected,
    leaf: (radius, feedN) => w.leaf(`revoked_${radius.certificates}_${feedN}`),
  })

test('hold and release: what is live becomes held and is issued again, with feed entries and revisions', async () => {
  const world = await w.makeWorld()
  const live = await w.issue(world)
  const short = await w.issue(world, { notAfter: w.now + 21 })
  const before = world.ledger.revocations.revision(world.issuer.id)
  const held = await w.setState(world, 'held')
  expect(held.after).toMatchObject({ state: 'held', version: 2 })
  expect(held.radius).toMatchObject({
    certificates: 2,
    instances: 2,
    registrations: [{ kind: 'agent', name: 'crawler' }],
  })
  expect(world.ledger.certificates.get(live.serial)).toMatchObject({ state: 'held', reason: 'certificateHold' })
  expect(w.crlSerials(world)).toEqual([live.serial, short.serial].sort())
  const middle = world.ledger.revocations.revision(world.issuer.id)
  expect(middle).toBe(before + 2)
  const released = await world.ledger.registrations.change({
    kind: 'agent',
    name: 'crawler',
    at: w.now + 1000,
    decide: () => ({ set: { roles: ['writer'] }, state: 'active' }),
    leaf: () => w.leaf('registration_changed'),
  })
  expect(released.after).toMatchObject({ state: 'active', roles: ['writer'], version: 3 })
  expect(world.ledger.certificates.get(live.serial)).toMatchObject({ state: 'issued', revokedAt: null, reason: null })
  expect(w.stateOf(world, short.serial)).toBe('held')
  expect(w.crlSerials(world)).toEqual([short.serial])
  expect(world.ledger.revocations.changedSince(world.issuer.id, middle, 10)).toEqual([
    { serial: live.serial, revision: middle + 1 },
  ])
  expect(world.ledger.feed.read(0, 100).map(entry => entry.type)).toEqual([
    'agent',
    'hold',
    'agent',
    'release',
    'agent',
  ])
})

test('a locked lineage stays held when its agent is released, and a held agent when its lineage is unlocked', async () => {
  const world = await w.makeWorld()
  const a = await w.issue(world)
  const b = await w.issue(world)
  await w.lock(world, a.instanceId)
  await w.setState(world, 'held')
  await w.setState(world, 'active')
  expect([w.stateOf(world, a.serial), w.stateOf(world, b.serial)]).toEqual(['held', 'issued'])
  await w.setState(world, 'held')
  await world.ledger.instances.unlock(a.instanceId, w.now + 40, w.leaf('instance_unlocked'))
  expect([w.stateOf(world, a.serial), w.stateOf(world, b.serial)]).toEqual(['held', 'held'])
  await w.setState(world, 'active')
  expect([w.stateOf(world, a.serial), w.stateOf(world, b.serial)]).toEqual(['issued', 'issued'])
  expect(w.crlSerials(world)).toEqual([])
  await expect(world.ledger.instances.unlock(a.instanceId, w.now, w.leaf('x'))).rejects.toMatchObject({
    code: 'conflict',
  })
})

test('retiring ends certificates, intents, instances and tokens for good', async () => {
  const world = await w.makeWorld()
  const issued = await w.issue(world)
  const intent = w.intentOf(world)
  await w.recordIntent(world, intent)
  await w.addToken(world, 't1')
  const { radius } = await w.setState(world, 'retired')
  expect(radius).toMatchObject({ certificates: 1, intents: 1, instances: 2, tokens: 1 })
  for (const serial of [issued.serial, intent.serial])
    expect(world.ledger.certificates.get(serial)).toMatchObject({ state: 'revoked', reason: 'cessationOfOperation' })
  expect(w.instanceOf(world, issued.instanceId).state).toBe('revoked')
  expect(world.ledger.tokens.byHash(w.hashOf('t1'))!.state).toBe('revoked')
  expect(await w.recordIssued(world, intent)).toBe('refused')
  await expect(w.setState(world, 'active')).rejects.toMatchObject({ code: 'conflict' })
  await expect(w.addAgent(world.ledger, 'crawler')).rejects.toMatchObject({ code: 'already_exists' })
})

test('a change that its decision refuses leaves nothing behind', async () => {
  const world = await w.makeWorld()
  const { size } = world.ledger.audit.head()
  const refused = world.ledger.registrations.change({
    kind: 'agent',
    name: 'crawler',
    at: w.now,
    decide: () => {
      throw new RangeError('no')
    },
    leaf: () => w.leaf('x'),
  })
  await expect(refused).rejects.toThrow(RangeError)
  expect(world.ledger.audit.head().size).toBe(size)
  expect(world.ledger.registrations.find('agent', 'crawler')).toEqual(world.agent)
})

test('an owner who is gone leaves held agents and can own no more', async () => {
  const world = await w.makeWorld()
  const mine = await w.issue(world)
  await w.addAgent(world.ledger, 'other', 'bob')
  const radius = await world.ledger.owners.gone('alice', w.now, () => w.leaf('owner_gone'))
  expect(radius).toMatchObject({ certificates: 1, registrations: [{ kind: 'agent', name: 'crawler' }] })
  expect(w.stateOf(world, mine.serial)).toBe('held')
  expect(world.ledger.registrations.find('agent', 'crawler')!.state).toBe('held')
  expect(world.ledger.registrations.find('agent', 'other')!.state).toBe('active')
  await expect(w.addAgent(world.ledger, 'third', 'alice')).rejects.toMatchObject({ code: 'owner_gone' })
  expect(world.ledger.owners.list()).toMatchObject([
    { name: 'alice', state: 'gone', agents: 1 },
    { name: 'bob', state: 'active', agents: 1 },
  ])
})

const selectors: readonly {
  readonly by: RevocationSelector['by']
  readonly value: (intent: { serial: string; instanceId: string; keyHash: string }) => string
  readonly hits: readonly [first: boolean, renewed: boolean, other: boolean]
}[] = [
  { by: 'serial', value: i => i.serial, hits: [true, false, false] },
  { by: 'instance', value: i => i.instanceId, hits: [true, true, false] },
  { by: 'key', value: i => i.keyHash, hits: [true, true, false] },
  { by: 'token', value: () => 't1', hits: [true, true, false] },
  { by: 'agent', value: () => 'crawler', hits: [true, true, true] },
  { by: 'owner', value: () => 'alice', hits: [true, true, true] },
  { by: 'issuer', value: () => 'issuing-1', hits: [true, true, true] },
]
for (const { by, value, hits } of selectors)
  test(`revoking by ${by} covers exactly what it names, as its blast radius said`, async () => {
    const world = await w.makeWorld()
    await w.addToken(world, 't1')
    const first = await w.issue(world, { tokenId: 't1' })
    const renewed = await w.renew(world, first)
    const other = await w.issue(world)
    const selector = { by, value: value(first) } as RevocationSelector
    const shown = world.ledger.revocations.blastRadius(selector, w.now)
    const count = hits.filter(Boolean).length
    expect(shown.certificates).toBe(count)
    const { radius, feedN } = await revoke(world, selector, count)
    expect(radius).toEqual(shown)
    expect([first, renewed, other].map(i => w.stateOf(world, i.serial) === 'revoked')).toEqual(hits)
    expect(w.crlSerials(world)).toHaveLength(count)
    expect(world.ledger.feed.head().n).toBe(feedN)
    expect(world.ledger.feed.read(feedN - 1, 1)[0]).toMatchObject({
      type: 'revoke',
      body: { by, reason: 'keyCompromise', serials: count },
    })
    expect(w.instanceOf(world, first.instanceId).state).toBe(by === 'serial' ? 'active' : 'revoked')
    const again = await revoke(world, selector)
    expect(again.radius.certificates).toBe(0)
    expect(world.ledger.certificates.get(first.serial)!.revokedAt).toBe(w.now + 30)
  })

test('an intent that is revoked while the HSM signs is not released', async () => {
  const world = await w.makeWorld()
  const intent = w.intentOf(world)
  await w.recordIntent(world, intent)
  const { radius } = await revoke(world, { by: 'instance', value: intent.instanceId })
  expect(radius.intents).toBe(1)
  expect(await w.recordIssued(world, intent)).toBe('refused')
  expect(world.ledger.certificates.get(intent.serial)).toMatchObject({ state: 'revoked', reason: 'keyCompromise' })
})

test('a radius that grew, an unknown name and a hold as a reason are refused and write nothing', async () => {
  const world = await w.makeWorld()
  await w.issue(world)
  const { size } = world.ledger.audit.head()
  const { n } = world.ledger.feed.head()
  await expect(revoke(world, { by: 'agent', value: 'crawler' }, 0)).rejects.toMatchObject({ code: 'radius_changed' })
  for (const by of ['serial', 'instance', 'owner', 'token', 'issuer', 'agent', 'service', 'operator'] as const)
    await expect(revoke(world, { by, value: 'nobody' })).rejects.toMatchObject({ code: 'not_found' })
  const hold = world.ledger.revocations.revoke({
    selector: { by: 'agent', value: 'crawler' },
    reason: 'certificateHold',
    at: w.now,
    expected: null,
    leaf: () => w.leaf('x'),
  })
  await expect(hold).rejects.toMatchObject({ code: 'conflict' })
  expect(world.ledger.audit.head().size).toBe(size)
  expect(world.ledger.feed.head().n).toBe(n)
})

test('CRL entries come in pages by serial, expired ones as long as asked', async () => {
  const world = await w.makeWorld()
  const serials: string[] = []
  for (let i = 0; i < 7; i++) serials.push((await w.issue(world, { notAfter: w.now + 100 + i })).serial)
  await revoke(world, { by: 'agent', value: 'crawler' })
  const read: string[] = []
  for (let after: string | null = null; ; ) {
    const page = world.ledger.revocations.entries({ issuerId: world.issuer.id, since: w.now + 102, after, limit: 2 })
    if (page.length === 0) break
    read.push(...page.map(entry => entry.serial))
    after = page.at(-1)!.serial
  }
  expect(read).toEqual(serials.slice(3).sort())
})

test('a listener hears of a change of status before the promise of that change resolves, and of nothing else', async () => {
  const world = await w.makeWorld()
  const order: string[] = []
  const stop = world.ledger.revocations.onChange(() => order.push('heard'))
  const { serial } = await w.issue(world)
  expect(order).toEqual([])
  await revoke(world, { by: 'serial', value: serial }).then(() => order.push('resolved'))
  expect(order).toEqual(['heard', 'resolved'])
  stop()
  const other = await w.issue(world)
  await revoke(world, { by: 'serial', value: other.serial })
  expect(order).toEqual(['heard', 'resolved'])
})

test('feed entries name every serial they concern, over several entries where there are many', async () => {
  const world = await w.makeWorld()
  const serials: string[] = []
  for (let i = 0; i < 1003; i++) serials.push((await w.issue(world)).serial)
  const before = world.ledger.feed.head().n
  const { feedN } = await revoke(world, { by: 'agent', value: 'crawler' })
  const entries = world.ledger.feed.read(before, 10)
  expect(entries.map(entry => entry.n)).toEqual([before + 1, before + 2])
  expect(feedN).toBe(before + 2)
  const changes = entries.flatMap(entry => entry.body.changes as [string, number][])
  expect(changes.map(([serial]) => serial).sort()).toEqual([...serials].sort())
  expect(changes.every(([, notAfter]) => notAfter > w.now)).toBe(true)
})

test('a revocation whose time is wrong does not hide the rest of its lineage from the next hold', async () => {
  const world = await w.makeWorld()
  const first = await w.issue(world)
  const second = await w.renew(world, first)
  await world.ledger.revocations.revoke({
    selector: { by: 'serial', value: first.serial },
    reason: 'keyCompromise',
    at: first.notAfter + w.hour,
    expected: null,
    leaf: () => w.leaf('revoked'),
  })
  // By that time everything had expired; an orphan of the same lineage is marked whatever its end is.
  const third = w.renewalOf(world, second)
  await w.recordIntent(world, third)
  await world.ledger.issuance.recordOrphaned([
    { serial: third.serial, at: first.notAfter + w.hour, leaf: w.leaf('certificate_orphaned') },
  ])
  await w.setState(world, 'held')
  expect(w.stateOf(world, second.serial)).toBe('held')
})
