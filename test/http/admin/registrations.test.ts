import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createKey } from '../harness.ts'
import { type AdminWorld, createAdminWorld } from './admin-world.ts'

let world: AdminWorld
beforeAll(async () => {
  world = await createAdminWorld()
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
})

const create = (name: string, more: object = {}) => world.local('/agents', { name, owner: 'finance', ...more })

describe('agents, services and operators', () => {
  it('are created with what their kind has, answered as the contract says, and never with more', async () => {
    const agent = await create('billing', {
      purpose: 'sends bills',
      roles: ['reader'],
      attributes: { region: 'eu' },
      instances: 3,
      until: '2099-01-01T00:00:00+01:00',
    })
    expect(agent.status).toBe(200)
    expect(agent.headers['cache-control']).toBe('no-store')
    const { createdAt, changedAt, ...rest } = agent.body
    expect(createdAt).toBe(changedAt)
    expect(rest).toEqual({
      kind: 'agent',
      name: 'billing',
      owner: 'finance',
      purpose: 'sends bills',
      profile: 'agent',
      roles: ['reader'],
      attributes: { region: 'eu' },
      dns: [],
      instances: 3,
      role: null,
      until: '2098-12-31T23:00:00.000Z',
      boundKeyHash: null,
      managedBy: null,
      state: 'active',
      version: 1,
    })
    const service = await world.local('/services', { name: 'orders', dns: ['orders.internal'] })
    expect(service.body).toMatchObject({ kind: 'service', owner: null, dns: ['orders.internal'], profile: 'service' })
    const operator = await world.local('/operators', { name: 'bob', role: 'security' })
    expect(operator.body).toMatchObject({ kind: 'operator', role: 'security', profile: 'operator' })
  })

  it.each([
    ['/agents', { name: 'ownerless' }, 422, 'request_invalid'],
    ['/agents', { name: 'x', owner: 'finance', admin: true }, 422, 'request_invalid'],
    ['/agents', { name: 'X', owner: 'finance' }, 422, 'agent_name_malformed'],
    ['/agents', { name: 'x', owner: 'finance', until: '2020-01-01T00:00:00Z' }, 422, 'value_invalid'],
    ['/agents', { name: 'x', owner: 'finance', profile: 'service' }, 409, 'conflict'],
    ['/agents', { name: 'x', owner: '\ud800' }, 422, 'value_invalid'],
    ['/services', { name: 'x', dns: ['X.internal'] }, 422, 'value_invalid'],
    ['/operators', { name: 'x', role: 'root' }, 422, 'request_invalid'],
    ['/operators', { name: 'local', role: 'viewer' }, 422, 'value_invalid'],
  ])('%s with %j is refused with %i %s and its leaf', async (path, body, status, code) => {
    const reply = await world.local(path, body)
    expect(reply).toMatchObject({ status, body: { code } })
    expect(world.leaves(1)).toMatchObject([{ event: 'request_refused', code, who: 'operator:local' }])
  })

  it('are listed by name in pages, filtered by owner and state', async () => {
    for (const name of ['list-a', 'list-b', 'list-c']) await create(name, { owner: 'lister' })
    await world.local('/agents/list-b/hold', {})
    const names = (reply: { body: { items: { name: string }[] } }) => reply.body.items.map(each => each.name)
    const first = await world.local('/registrations/agents?owner=lister&limit=2')
    expect(names(first)).toEqual(['list-a', 'list-b'])
    expect(first.body.next).toBe('list-b')
    const second = await world.local('/registrations/agents?owner=lister&limit=2&after=list-b')
    expect([names(second), second.body.next]).toEqual([['list-c'], null])
    expect(names(await world.local('/registrations/agents?owner=lister&state=held'))).toEqual(['list-b'])
    expect((await world.local('/registrations/robots')).body.code).toBe('not_found')
    expect((await world.local('/registrations/agents?colour=red')).body.code).toBe('request_invalid')
    expect((await world.local('/registrations/agents?limit=0')).body.code).toBe('request_invalid')
    expect((await world.local('/registrations/agents?limit=1&limit=2')).body.code).toBe('request_invalid')
  })

  it('are shown with what is live of them', async () => {
    await create('shown')
    await world.credentialsOf('agent', 'shown')
    const token = await world.local('/tokens', { kind: 'agent', name: 'shown' })
    const { body } = await world.local('/registrations/agents/shown')
    expect(body.liveInstances).toHaveLength(1)
    expect(body.liveInstances[0]).toMatchObject({
      kind: 'agent',
      name: 'shown',
      state: 'active',
      generation: 1,
      spiffeId: `spiffe://example.org/agent/shown/i/${body.liveInstances[0].id}`,
    })
    expect(body.tokens).toMatchObject([{ id: token.body.id, state: 'active', createdBy: 'operator:local' }])
    expect(JSON.stringify(body)).not.toContain(token.body.token)
    expect((await world.local('/registrations/agents/nobody')).status).toBe(404)
  })

  it('are updated, attested, held, released and retired', async () => {
    await create('lives')
    await world.credentialsOf('agent', 'lives')
    const step = async (verb: string, body: object = {}) => (await world.local(`/agents/lives/${verb}`, body)).body
    expect(await step('update', { roles: ['writer'], instances: null, until: '2099-01-01T00:00:00Z' })).toMatchObject({
      registration: { roles: ['writer'], version: 2 },
      radius: { certificates: 0 },
      dryRun: false,
    })
    expect(await step('attest', { why: 'still needed' })).toMatchObject({ registration: { version: 3 } })
    expect(await step('hold', { dryRun: true })).toMatchObject({ dryRun: true, radius: { certificates: 1 } })
    expect(await step('hold', { expected: 0 })).toMatchObject({ code: 'radius_changed', status: 409 })
    expect(await step('hold', { expected: 1, why: 'odd' })).toMatchObject({ registration: { state: 'held' } })
    expect(await step('hold')).toMatchObject({ code: 'conflict', status: 409 })
    expect(await step('release')).toMatchObject({ registration: { state: 'active' } })
    expect(await step('retire')).toMatchObject({
      registration: { state: 'retired' },
      radius: { certificates: 1, instances: 1, registrations: [{ kind: 'agent', name: 'lives' }] },
    })
    expect(await step('update', { purpose: 'too late' })).toMatchObject({ code: 'conflict' })
  })

  it('have owners, who can be gone', async () => {
    await create('left-behind', { owner: 'leaver' })
    expect((await world.local('/owners/leaver/gone', { dryRun: true })).body).toMatchObject({
      dryRun: true,
      radius: { registrations: [{ kind: 'agent', name: 'left-behind' }] },
    })
    await world.local('/owners/leaver/gone', { why: 'left' })
    const { items } = (await world.local('/owners')).body
    expect(items.find((owner: { name: string }) => owner.name === 'leaver')).toMatchObject({ state: 'gone', agents: 1 })
    expect((await world.local('/agents/left-behind/release', {})).body.code).toBe('owner_gone')
    expect((await create('another', { owner: 'leaver' })).body.code).toBe('owner_gone')
  })
})

describe('owners', () => {
  interface Listed {
    readonly name: string
  }
  const listed = async (name: string) =>
    (await world.local('/owners')).body.items.find((owner: Listed) => owner.name === name)

  it('are made before anything is theirs, once, each with its leaf', async () => {
    const dry = await world.local('/owners', { name: 'archive', managedBy: 'shop', dryRun: true })
    expect(dry).toMatchObject({ status: 200, body: { name: 'archive', managedBy: 'shop', registrations: 0 } })
    expect(await listed('archive')).toBeUndefined()
    expect((await world.local('/owners', { name: 'archive', managedBy: 'shop' })).status).toBe(200)
    expect(await listed('archive')).toMatchObject({ state: 'active', agents: 0, registrations: 0, managedBy: 'shop' })
    expect(world.leaves(1)).toMatchObject([{ event: 'owner_created', sub: 'owner:archive', managedBy: 'shop' }])
    expect(await world.local('/owners', { name: 'archive' })).toMatchObject({
      status: 409,
      body: { code: 'already_exists', hint: 'agentca owner list' },
    })
  })

  it('are given to another set, or to none', async () => {
    await world.local('/owners', { name: 'moving', managedBy: 'shop' })
    await world.local('/owners/moving/update', { managedBy: 'bank', dryRun: true })
    expect((await listed('moving')).managedBy).toBe('shop')
    await world.local('/owners/moving/update', { managedBy: null, why: 'by hand' })
    expect((await listed('moving')).managedBy).toBeNull()
    expect(world.leaves(1)).toMatchObject([{ event: 'owner_changed', managedBy: null, why: 'by hand' }])
    expect((await world.local('/owners/nobody/update', { managedBy: null })).status).toBe(404)
  })

  it('are removed only when nothing is registered to them, and may then be owners again', async () => {
    await world.local('/owners', { name: 'closing' })
    await create('of-closing', { owner: 'closing' })
    await world.local('/services', { name: 'of-closing', owner: 'closing' })
    const refused = await world.local('/owners/closing/remove', {})
    expect(refused).toMatchObject({ status: 409, body: { code: 'conflict' } })
    expect(refused.body.detail).toContain('2 registrations')
    await world.local('/agents/of-closing/retire', {})
    await world.local('/services/of-closing/update', { owner: 'finance' })
    expect((await world.local('/owners/closing/remove', { dryRun: true })).status).toBe(200)
    expect(await listed('closing')).toMatchObject({ registrations: 0 })
    expect((await world.local('/owners/closing/remove', { why: 'merged' })).status).toBe(200)
    expect(world.leaves(1)).toMatchObject([{ event: 'owner_removed', sub: 'owner:closing', why: 'merged' }])
    expect(await listed('closing')).toBeUndefined()
    for (const [path, body] of [
      ['/owners/closing/remove', {}],
      ['/owners/closing/gone', {}],
      ['/owners/closing/update', { managedBy: 'shop' }],
      ['/revoke', { by: 'owner', value: 'closing', reason: 'superseded' }],
    ] as const)
      expect((await world.local(path, body)).body.code).toBe('not_found')
    // Whose it was is still known of what is retired.
    expect((await world.local('/registrations/agents/of-closing')).body.owner).toBe('closing')
    await create('again', { owner: 'closing' })
    expect(await listed('closing')).toMatchObject({ state: 'active', agents: 1, managedBy: null })
  })

  it('who are gone are neither made again, nor moved, nor removed', async () => {
    await world.local('/owners', { name: 'left' })
    await world.local('/owners/left/gone', {})
    for (const [path, body] of [
      ['/owners', { name: 'left' }],
      ['/owners/left/update', { managedBy: 'shop' }],
      ['/owners/left/remove', {}],
    ] as const)
      expect((await world.local(path, body)).body.code).toBe('owner_gone')
  })

  it.each([
    [{ name: ' padded' }, 'value_invalid'],
    [{ name: 'two\nlines' }, 'value_invalid'],
    [{ name: '' }, 'request_invalid'],
    [{ name: 'x', agents: 3 }, 'request_invalid'],
    [{ name: 'x', managedBy: ' y' }, 'value_invalid'],
  ])('with %j are refused as %s', async (body, code) => {
    expect((await world.local('/owners', body)).body.code).toBe(code)
  })
})

describe('instances', () => {
  it('are listed, shown, and unlocked after two holders of one key were seen', async () => {
    await create('twins')
    const { serial } = await world.credentialsOf('agent', 'twins')
    const instance = world.ledger.certificates.get(serial)!.instanceId
    await world.ledger.issuance.recordIntents<string>([
      {
        query: { evidence: { kind: 'registration', subject: 'agent', name: 'twins' }, keyHash: 'aa', now: Date.now() },
        decide: () => ({
          act: 'refuse',
          refusal: 'two holders',
          leaf: null,
          lock: { instanceId: instance, reason: 'two holders', leaf: world.ledger.audit.tail({ limit: 1 })[0]! },
        }),
      },
    ])
    const listed = await world.local('/instances?name=twins&state=locked')
    expect(listed.body.items).toMatchObject([{ id: instance, state: 'locked', lockReason: 'two holders', serial }])
    expect((await world.local(`/instances/${instance}/unlock`, { dryRun: true })).body.state).toBe('active')
    expect((await world.local(`/instances/${instance}`)).body.state).toBe('locked')
    expect((await world.local(`/instances/${instance}/unlock`, { why: 'restored backup' })).body.state).toBe('active')
    expect(world.leaves(1)).toMatchObject([{ event: 'instance_unlocked', instance, why: 'restored backup' }])
    expect((await world.local(`/instances/${instance}/unlock`, {})).body.code).toBe('conflict')
    expect((await world.local('/instances/nothing')).status).toBe(404)
    expect((await world.local('/instances?name=nobody')).status).toBe(404)
  })

  it('come in pages, by kind too', async () => {
    await world.local('/services', { name: 'paged' })
    const serials = []
    for (let i = 0; i < 3; i++) serials.push((await world.credentialsOf('service', 'paged')).serial)
    const ids = serials.map(serial => world.ledger.certificates.get(serial)!.instanceId)
    const first = (await world.local('/instances?kind=service&limit=2')).body
    expect(first.items.map((each: { id: string }) => each.id)).toEqual(ids.slice(0, 2))
    const rest = (await world.local(`/instances?kind=service&limit=2&after=${first.next}`)).body
    expect(rest).toMatchObject({ items: [{ id: ids[2], spiffeId: 'spiffe://example.org/service/paged' }], next: null })
  })
})

describe('tokens', () => {
  it('are shown once, with all that an enrolment needs', async () => {
    await create('joins')
    const { body } = await world.local('/tokens', { kind: 'agent', name: 'joins', ttlSeconds: 60, uses: 2 })
    expect(body).toMatchObject({
      uses: 2,
      subject: { kind: 'agent', name: 'joins' },
      url: 'https://ca.example:8443',
      caFingerprint: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
    })
    expect(body.token).toMatch(/^agentca-join-/)
    expect(Date.parse(body.expiresAt) - Date.now()).toBeLessThanOrEqual(60_000)
    const { items } = (await world.local('/tokens?name=joins')).body
    expect(items).toMatchObject([{ id: body.id, kind: 'agent', name: 'joins', uses: 2, usesTaken: 0, state: 'active' }])
    const everything = JSON.stringify([items, world.leaves(1000)])
    expect(everything).not.toContain(body.token.slice('agentca-join-'.length))
  })

  it('enrol whoever shows them, and are then used', async () => {
    await create('enrols')
    const { body } = await world.local('/tokens', { kind: 'agent', name: 'enrols' })
    const key = await createKey()
    const reply = await world.front.call('/v1/enroll', {
      body: { csr: key.csrText, evidence: { type: 'token', token: body.token } },
    })
    expect(reply).toMatchObject({ status: 201, body: { agent: 'enrols' } })
    expect((await world.local('/tokens?name=enrols')).body.items).toMatchObject([{ state: 'used', usesTaken: 1 }])
  })

  it('are revoked by id, expire, and come newest first in pages', async () => {
    await create('many')
    const ids = []
    for (let i = 0; i < 3; i++) ids.unshift((await world.local('/tokens', { kind: 'agent', name: 'many' })).body.id)
    const first = (await world.local('/tokens?name=many&limit=2')).body
    expect(first.items.map((each: { id: string }) => each.id)).toEqual(ids.slice(0, 2))
    const rest = (await world.local(`/tokens?name=many&limit=2&after=${first.next}`)).body
    expect(rest).toMatchObject({ items: [{ id: ids[2] }], next: null })
    expect((await world.local(`/tokens/${ids[0]}/revoke`, { why: 'lost' })).body).toMatchObject({ state: 'revoked' })
    world.front.time.offset = 3_600_000
    const states = (await world.local('/tokens?name=many')).body.items.map((each: { state: string }) => each.state)
    world.front.time.offset = 0
    expect(states).toEqual(['revoked', 'expired', 'expired'])
    expect((await world.local('/tokens/nothing/revoke', {})).status).toBe(404)
  })

  it('are not made for who is held, nor for this CA itself', async () => {
    await create('on-hold')
    await world.local('/agents/on-hold/hold', {})
    expect((await world.local('/tokens', { kind: 'agent', name: 'on-hold' })).body.code).toBe('registration_held')
    await world.register('service', 'agentca')
    expect((await world.local('/tokens', { kind: 'service', name: 'agentca' })).body.code).toBe('conflict')
    expect((await world.local('/services/agentca/retire', {})).body.code).toBe('conflict')
  })

  it('as a dry run have no text', async () => {
    await create('dry')
    const { body } = await world.local('/tokens', { kind: 'agent', name: 'dry', dryRun: true })
    expect(body.token).toBe('')
    expect((await world.local('/tokens?name=dry')).body.items).toEqual([])
  })
})

describe('what only some operators may', () => {
  it('an operator cannot become an admin by way of an admin’s token or certificate', async () => {
    const low = await world.operator('low', 'operator')
    const high = await world.operator('high', 'admin')
    const csr = (await createKey()).csrText
    for (const name of ['high', 'low']) {
      const token = { kind: 'operator', name }
      expect((await world.call('/tokens', { body: token, shown: low })).body.code).toBe('role_insufficient')
      const issue = { kind: 'operator', name, csr }
      expect((await world.call('/certificates', { body: issue, shown: low })).body.code).toBe('role_insufficient')
    }
    expect((await world.call('/tokens', { body: { kind: 'operator', name: 'low' }, shown: high })).status).toBe(200)
    await create('fine')
    expect((await world.call('/tokens', { body: { kind: 'agent', name: 'fine' }, shown: low })).status).toBe(200)
  })

  it('only an admin changes the registration of this CA itself', async () => {
    if (world.ledger.registrations.find('service', 'agentca') === null) await world.register('service', 'agentca')
    const security = await world.operator('guard', 'security')
    const admin = await world.operator('chief', 'admin')
    const asked = { body: { dns: ['ca.example'] } }
    expect((await world.call('/services/agentca/update', { ...asked, shown: security })).body.code).toBe(
      'role_insufficient',
    )
    expect((await world.call('/services/agentca/update', { ...asked, shown: admin })).body).toMatchObject({
      registration: { dns: ['ca.example'] },
    })
  })
})
