// Policies over HTTP: what is taken and what is not, who changed what, and what a service may read of them.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type AdminWorld, createAdminWorld } from './admin-world.ts'

let world: AdminWorld
beforeAll(async () => {
  world = await createAdminWorld()
  for (const name of ['billing', 'crawler']) await world.register('agent', name)
  for (const name of ['orders', 'files']) await world.register('service', name)
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
})

const actions = 'orders: {actions: [read, refund], context: {amount: Long}}\nfiles: {actions: [call]}\n'
const statements = `
@id("billing-reads") permit(principal == Agent::"billing", action == Action::"orders:read", resource);
@id("refunds") permit(principal in Role::"clerk", action == Action::"orders:refund", resource) when { context has amount };
@id("files") permit(principal in Role::"clerk", action == Action::"files:call", resource);
@id("stop") forbid(principal in Role::"stopped", action, resource);`
const files = { 'actions.yaml': actions, 'a.cedar': statements }

describe('policies', () => {
  it('are none at first: nothing can be explained, and everything says so', async () => {
    expect((await world.local('/policies')).body).toEqual({ items: [], next: null })
    const explained = await world.local('/policies/explain', { name: 'billing', action: 'orders:read' })
    expect([explained.status, explained.body.code, explained.body.hint]).toEqual([
      404,
      'not_found',
      'agentca policy apply DIRECTORY',
    ])
    const { checks } = (await world.local('/why?agent=billing&service=orders&action=read')).body
    expect(checks).toContainEqual(expect.objectContaining({ check: 'policy', result: 'failed' }))
  })

  it('are compared, then put in force, with who gained what in the answer and in the audit', async () => {
    const difference = { kind: 'agent', name: 'billing', gains: ['orders:read'], loses: [] }
    const planned = await world.local('/policies/plan', { files })
    expect(planned.body).toMatchObject({ active: null, faults: [], differences: [difference] })
    expect(world.ledger.policies.active()).toBeNull()
    const dry = await world.local('/policies', { files, dryRun: true })
    expect(dry.body).toMatchObject({ version: null, dryRun: true, differences: [difference] })
    const applied = await world.local('/policies', { files, why: 'first' })
    expect(applied.body).toMatchObject({ version: 1, dryRun: false, changed: 1 })
    expect(world.leaves(1)).toMatchObject([
      { event: 'policy_activated', sub: 'policy', from: null, to: 1, why: 'first', registrations: 1 },
    ])
    expect(world.ledger.registrations.find('agent', 'billing')?.scopes).toEqual(['orders:read'])
  })

  it('with faults are refused with all of them, and stay as they were', async () => {
    const wrong = {
      ...files,
      'b.cedar': 'permit(principal, action resource);\n\npermit(principal, action == Action::"orders:reed", resource);',
    }
    const refused = await world.local('/policies', { files: wrong })
    expect([refused.status, refused.body.code, refused.body.facts.faults]).toEqual([
      422,
      'policy_malformed',
      [expect.stringMatching(/^b\.cedar:1: /), expect.stringMatching(/^b\.cedar:3: .*orders:reed/)],
    ])
    expect(world.ledger.policies.active()?.id).toBe(1)
  })

  it('with a case that fails are refused, registrations being looked up and those that are not there told', async () => {
    const tests =
      '- {agent: billing, action: orders:read, expect: allow}\n- {agent: nobody, action: orders:read, expect: deny}\n'
    const refused = await world.local('/policies', { files: { ...files, 'tests/a.yaml': tests } })
    expect([refused.status, refused.body.code, refused.body.facts.faults]).toEqual([
      422,
      'policy_test_failed',
      ['tests/a.yaml #2 (nobody orders:read deny): no agent is registered as nobody'],
    ])
  })

  it.each([
    ['a file that is none of theirs', { files: { '../x.cedar': '' } }, 'policy_malformed'],
    ['no files', {}, 'request_invalid'],
    ['an unknown member', { files, force: true }, 'request_invalid'],
  ])('with %s are refused', async (_, body, code) => {
    const refused = await world.local('/policies', body)
    expect([refused.status, refused.body.code]).toEqual([422, code])
  })

  it('may be large, within a bound that is told', async () => {
    const large = (size: number) => ({ files: { ...files, 'b.cedar': `//${'x'.repeat(size)}` } })
    expect((await world.local('/policies/plan', large(200_000))).status).toBe(200)
    expect((await world.local('/policies/plan', large(300_000))).body.code).toBe('request_invalid')
    expect((await world.local('/policies/plan', large(1_600_000))).status).toBe(413)
    expect((await world.local('/policies/explain', large(100_000))).status).toBe(413)
  })

  it('are explained with the command that would change the answer, which keeps the roles that are there', async () => {
    const asked = { name: 'crawler', action: 'files:call' }
    const { body } = await world.local('/policies/explain', asked)
    expect(body).toMatchObject({
      decision: 'deny',
      grant: 'none',
      by: [],
      ways: [
        { changes: ['add role clerk'], command: 'agentca agent update crawler --role clerk', statement: null },
        {
          changes: ['add a statement'],
          statement: 'permit(principal == Agent::"crawler", action == Action::"files:call", resource);',
        },
      ],
    })
    await world.local('/agents/crawler/update', { roles: ['clerk', 'night shift'] })
    const allowed = (await world.local('/policies/explain', asked)).body
    expect(allowed).toMatchObject({
      decision: 'allow',
      grant: 'scope',
      by: [{ id: 'files', file: 'a.cedar', line: 4 }],
    })
    expect(allowed.ways[0].command).toBe(
      "agentca agent update crawler --role clerk --role 'night shift' --role stopped",
    )
  })

  it.each([
    ['an agent that is not there', { name: 'nobody', action: 'orders:read' }, 404, 'not_found'],
    ['an action that nobody declares', { name: 'billing', action: 'orders:reed' }, 422, 'value_invalid'],
    ['a source that is no address', { name: 'billing', action: 'orders:read', source: 'home' }, 422, 'value_invalid'],
    [
      'a value that Cedar has no form for',
      { name: 'billing', action: 'orders:read', context: { a: 1.5 } },
      422,
      'request_invalid',
    ],
  ])('are not explained for %s', async (_, body, status, code) => {
    const refused = await world.local('/policies/explain', body)
    expect([refused.status, refused.body.code]).toEqual([status, code])
  })

  it('can be an earlier version again; the one in force, and one that never was, cannot', async () => {
    await world.local('/policies', {
      files: { 'actions.yaml': actions, 'a.cedar': 'forbid(principal, action, resource);' },
    })
    expect(world.ledger.registrations.find('agent', 'billing')?.scopes).toEqual([])
    const back = await world.local('/policies/rollback', { version: 1 })
    expect(back.body).toMatchObject({
      version: 1,
      differences: expect.arrayContaining([expect.objectContaining({ name: 'billing', gains: ['orders:read'] })]),
    })
    expect((await world.local('/policies/rollback', { version: 1 })).body.code).toBe('conflict')
    expect((await world.local('/policies/rollback', { version: 9 })).body.code).toBe('not_found')
    expect((await world.local('/policies/active')).body).toMatchObject({ version: 1, state: 'active', files })
    expect((await world.local('/policies/nothing')).status).toBe(404)
  })
})

describe('what a service reads of them', () => {
  it('are the statements that may decide about its own actions, and nobody else reads any', async () => {
    await using tls = await world.front.serve({ policies: world.deps.policies })
    const read = async (kind: 'service' | 'agent', name: string) =>
      tls.call('/v1/policies', { shown: await world.credentialsOf(kind, name) })
    const ids = async (name: string) =>
      (await read('service', name)).body.statements.map(({ id }: { id: string }) => id)
    expect(await ids('orders')).toEqual(['billing-reads', 'refunds', 'stop'])
    expect(await ids('files')).toEqual(['files', 'stop'])
    expect((await read('agent', 'billing')).body.code).toBe('service_only')
    expect((await tls.call('/v1/policies')).body.code).toBe('client_certificate_missing')
  })
})
