import { describe, expect, it } from 'vitest'
import { agent, call, evaluatorOf, noon } from './cedar-world.ts'

const readers = 'permit(principal in Role::"reader", action in Action::"orders:*", resource);'

const secret = { type: 'Resource', id: 'secret', attributes: {} } as const

describe('scopes', () => {
  it('are what is permitted and not forbidden, by role, owner, attribute and name; nothing by default', () => {
    const house = evaluatorOf(`
      permit(principal in Role::"reader", action == Action::"orders:read", resource);
      permit(principal in Owner::"finance", action == Action::"orders:refund", resource);
      permit(principal, action == Action::"orders:cancel", resource)
        when { principal.hasTag("team") && principal.getTag("team") == "support" };
      permit(principal == Agent::"billing", action == Action::"files:call", resource);
      forbid(principal, action, resource) when { principal.hasTag("suspended") };`)
    const scopes = (...changes: Parameters<typeof agent>) => house.scopes(agent(...changes), noon)
    expect(scopes({ owner: 'x', name: 'other' })).toEqual([])
    expect(scopes({ owner: 'x', name: 'other', roles: ['reader'] })).toEqual(['orders:read'])
    expect(scopes({ name: 'other' })).toEqual(['orders:refund'])
    expect(scopes({ owner: 'x', name: 'other', attributes: { team: 'support' } })).toEqual(['orders:cancel'])
    expect(scopes({ owner: 'x' })).toEqual(['files:call'])
    expect(scopes({ roles: ['reader'], attributes: { suspended: 'yes' } })).toEqual([])
  })

  it('tell a service that calls from an agent of the same name', () => {
    const house = evaluatorOf('permit(principal == Service::"billing", action == Action::"orders:read", resource);')
    expect(house.scopes(agent(), noon)).toEqual([])
    expect(house.scopes(agent({ kind: 'service' }), noon)).toEqual(['orders:read'])
  })

  it('hold for every call: what a grant asks of the call is granted to none without it', () => {
    const house = evaluatorOf(`
      permit(principal, action == Action::"orders:refund", resource)
        when { context has amount && context.amount <= 100 };`)
    expect(house.grants(agent(), noon)).toEqual({ scopes: [], conditional: ['orders:refund'] })
    const decide = (amount: number) => house.decide(call({ action: 'orders:refund', context: { amount } })).decision
    expect([decide(100), decide(101)]).toEqual(['allow', 'deny'])
  })

  it.each([
    [
      'unless the call says',
      'resource',
      'unless { context has amount && context.amount > 100 }',
      { context: { amount: 101 } },
    ],
    [
      'when the call does not say',
      'resource',
      'when { !(context has amount && context.amount > 100) }',
      { context: { amount: 101 } },
    ],
    [
      'unless it comes from',
      'resource',
      'unless { context has source && context.source.isInRange(ip("203.0.113.0/24")) }',
      { source: '203.0.113.1' },
    ],
    ['unless it is about', 'resource', 'unless { resource == Resource::"secret" }', { resource: secret }],
    ['for the service itself', 'resource == Service::"orders"', '', { resource: secret }],
    ['for services', 'resource is Service', '', { resource: secret }],
  ])('are not granted where a permit leaves some call out: %s', (_, head, condition, changes) => {
    const house = evaluatorOf(`permit(principal, action == Action::"orders:refund", ${head}) ${condition};`)
    const decide = (more: Parameters<typeof call>[0]) =>
      house.decide(call({ action: 'orders:refund', ...more })).decision
    expect([decide({}), decide(changes)]).toEqual(['allow', 'deny'])
    expect(house.grants(agent(), noon)).toEqual({ scopes: [], conditional: ['orders:refund'] })
  })

  it('hold for every call: what may be forbidden for some call is no scope, only for those whom it may concern', () => {
    const house = evaluatorOf(`${readers}
      forbid(principal in Role::"contractor", action == Action::"orders:read", resource)
        when { principal.hasTag("abroad") && resource has region && resource.region == "eu" };`)
    const everything = ['orders:read', 'orders:refund', 'orders:cancel']
    expect(house.grants(agent({ roles: ['reader'] }), noon)).toEqual({ scopes: everything, conditional: [] })
    expect(house.scopes(agent({ roles: ['reader', 'contractor'] }), noon)).toEqual(everything)
    const abroad = agent({ roles: ['reader', 'contractor'], attributes: { abroad: 'yes' } })
    expect(house.grants(abroad, noon)).toEqual({
      scopes: ['orders:refund', 'orders:cancel'],
      conditional: ['orders:read'],
    })
  })

  it.each([
    ['a service that the head names', 'resource in Service::"files"', ''],
    ['a service that a condition names', 'resource', 'when { resource in Service::"files" }'],
  ])('are not lost to what is forbidden at another service: %s', (_, head, condition) => {
    const house = evaluatorOf(`${readers} forbid(principal, action, ${head}) ${condition};`)
    expect(house.scopes(agent({ roles: ['reader'] }), noon)).toContain('orders:read')
  })

  it('are lost to a tool or resource that is forbidden: who only looks up cannot tell which it is', () => {
    const house = evaluatorOf(`
      permit(principal, action == Action::"files:call", resource);
      forbid(principal, action == Action::"files:call", resource == Tool::"delete");`)
    expect(house.grants(agent(), noon)).toEqual({ scopes: [], conditional: ['files:call'] })
    const decide = (id: string) =>
      house.decide(call({ action: 'files:call', resource: { type: 'Tool', id, attributes: {} } }))
    expect(decide('read')).toMatchObject({ decision: 'allow' })
    expect(decide('delete')).toMatchObject({ decision: 'deny', by: ['house.cedar:3'] })
  })

  it('end with the time of their grant, to the millisecond, and the moment is known before', () => {
    const end = Date.parse('2026-12-01T00:00:00Z')
    const house = evaluatorOf(`@until("2026-12-01T01:00:00+01:00") ${readers}`)
    expect(house.nextChange(noon)).toBe(end)
    expect(house.scopes(agent({ roles: ['reader'] }), end - 1)).toContain('orders:read')
    expect(house.scopes(agent({ roles: ['reader'] }), end)).toEqual([])
    expect(house.nextChange(end + 1)).toBeNull()
  })

  it('follow the time of the day from minute to minute', () => {
    const house = evaluatorOf(`permit(principal, action == Action::"orders:read", resource)
      when { context.time.toTime() >= duration("8h") && context.time.toTime() < duration("18h") };`)
    expect(house.scopes(agent(), noon)).toEqual(['orders:read'])
    expect(house.scopes(agent(), noon + 7 * 3_600_000)).toEqual([])
    expect(house.nextChange(noon + 1)).toBe(noon + 60_000)
  })
})

describe('a decision', () => {
  it('names the statements that made it', () => {
    const house = evaluatorOf(
      `@id("readers") ${readers} @id("all-stop") forbid(principal in Role::"stopped", action, resource);`,
    )
    expect(house.decide(call({ principal: agent({ roles: ['reader'] }) }))).toEqual({
      decision: 'allow',
      by: ['readers'],
      failed: [],
    })
    expect(house.decide(call({ principal: agent({ roles: ['reader', 'stopped'] }) })).by).toEqual(['all-stop'])
    expect(house.decide(call())).toEqual({ decision: 'deny', by: [], failed: [] })
  })

  it('is no when a refusal cannot be evaluated, although Cedar would pass over it', () => {
    const house = evaluatorOf(`permit(principal, action, resource);
      @id("limit") forbid(principal, action == Action::"orders:refund", resource) when { context has amount && context.amount > 100 };`)
    const wrong = house.decide(call({ action: 'orders:refund', context: { amount: 'much' } }))
    expect(wrong).toMatchObject({ decision: 'deny', by: ['limit'] })
    expect(wrong.failed[0]?.statement).toBe('limit')
  })

  it('goes by the source and the time that the verifier knows, whatever the service says of them', () => {
    const house = evaluatorOf(`permit(principal, action, resource)
      when { context has source && context.source.isInRange(ip("10.0.0.0/8")) };`)
    const decide = (source: string | null) => house.decide(call({ source, context: { source: '10.0.0.1' } })).decision
    expect([decide('10.1.2.3'), decide('192.0.2.1'), decide(null)]).toEqual(['allow', 'deny', 'deny'])
  })

  it('is refused for a value that Cedar has no form for', () => {
    const house = evaluatorOf('permit(principal, action, resource);')
    expect(() => house.decide(call({ context: { amount: 1.5 } }))).toThrow(
      expect.objectContaining({ code: 'policy_call_malformed' }),
    )
  })
})
