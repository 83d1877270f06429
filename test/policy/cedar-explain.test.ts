import { describe, expect, it } from 'vitest'
import type { PolicyCall } from '../../src/policy/cedar-call.ts'
import { cedarString, explain, narrowestPermit } from '../../src/policy/cedar-explain.ts'
import { suggest } from '../../src/policy/cedar-suggest.ts'
import { agent, call, evaluatorOf, noon } from './cedar-world.ts'

const house = `
@id("readers") permit(principal in Role::"reader", action == Action::"orders:read", resource);
@id("team") permit(principal, action == Action::"orders:cancel", resource)
  when { principal.hasTag("team") && principal.getTag("team") == "support" };
@id("both") permit(principal in Role::"clerk", action == Action::"orders:refund", resource)
  when { principal.hasTag("level") && principal.getTag("level") == "2" };
@id("stopped") forbid(principal in Role::"stopped", action, resource);`

const waysOf = (changes: Partial<PolicyCall>) => explain(evaluatorOf(house), call(changes)).ways

describe('the smallest change that turns a decision', () => {
  it('is one role, one attribute, or both where both are needed; and the narrowest statement, always', () => {
    expect(waysOf({})).toEqual([
      [{ kind: 'add_role', role: 'reader' }],
      [
        {
          kind: 'add_statement',
          text: 'permit(principal == Agent::"billing", action == Action::"orders:read", resource);',
        },
      ],
    ])
    expect(waysOf({ action: 'orders:cancel' })[0]).toEqual([{ kind: 'set_attribute', name: 'team', value: 'support' }])
    expect(waysOf({ action: 'orders:refund' })[0]).toEqual([
      { kind: 'add_role', role: 'clerk' },
      { kind: 'set_attribute', name: 'level', value: '2' },
    ])
  })

  it('takes away what a refusal goes by, and what a grant goes by', () => {
    const stopped = agent({ roles: ['reader', 'stopped'] })
    expect(waysOf({ principal: stopped })).toEqual([
      [{ kind: 'remove_role', role: 'stopped' }],
      [{ kind: 'remove_statement', statement: 'stopped' }],
    ])
    expect(waysOf({ principal: agent({ roles: ['reader'] }) })).toEqual([
      [{ kind: 'add_role', role: 'stopped' }],
      [{ kind: 'remove_role', role: 'reader' }],
      [{ kind: 'remove_statement', statement: 'readers' }],
    ])
  })

  it('really turns it, each of them', () => {
    const evaluator = evaluatorOf(house)
    for (const roles of [[], ['reader'], ['clerk'], ['reader', 'stopped']])
      for (const action of ['orders:read', 'orders:cancel', 'orders:refund']) {
        const asked = call({ principal: agent({ roles }), action })
        const { decision, ways } = explain(evaluator, asked)
        for (const way of ways) {
          let principal = asked.principal
          for (const change of way) {
            if (change.kind === 'add_role') principal = { ...principal, roles: [...principal.roles, change.role] }
            if (change.kind === 'remove_role')
              principal = { ...principal, roles: principal.roles.filter(role => role !== change.role) }
            if (change.kind === 'set_attribute')
              principal = { ...principal, attributes: { ...principal.attributes, [change.name]: change.value } }
          }
          const text = way.flatMap(each => (each.kind === 'add_statement' ? [each.text] : [])).join('')
          const without = way.flatMap(each => (each.kind === 'remove_statement' ? [each.statement] : []))
          const kept = house.split(/\n(?=@id)/).filter(statement => !without.some(id => statement.includes(`"${id}"`)))
          const after = evaluatorOf([...kept, text].join('\n')).decide({ ...asked, principal })
          const turned = decision === 'allow' ? 'deny' : 'allow'
          expect({ roles, action, way, decision: after.decision }).toMatchObject({ decision: turned })
        }
      }
  })
})

describe('text in statements', () => {
  it('cannot end its quotation: names and resources are theirs who named them', () => {
    const id = 'a" || true || "\\\n\u0000é'
    const text = narrowestPermit(call({ resource: { type: 'Resource', id, attributes: {} } }))
    const evaluator = evaluatorOf(text)
    const decide = (other: string) =>
      evaluator.decide(call({ resource: { type: 'Resource', id: other, attributes: {} } })).decision
    expect([decide(id), decide('a')]).toEqual(['allow', 'deny'])
    expect(cedarString('plain')).toBe('"plain"')
  })
})

describe('a suggestion', () => {
  const did = (action: string, allowed = 1, denied = 0) => ({ action, allowed, denied, last: noon })

  it('grants what was done and no more, and names what was granted and not used', () => {
    const evaluator =
      evaluatorOf(`permit(principal, action in [Action::"orders:read", Action::"orders:cancel"], resource);
      permit(principal, action == Action::"orders:refund", resource) when { context has amount };`)
    const found = suggest(
      evaluator,
      agent(),
      [did('orders:read orders:refund', 3), did('orders:read', 2), did('files:call', 0, 9), did('GET', 4)],
      noon,
    )
    expect(found).toMatchObject({
      used: [
        { action: 'orders:read', allowed: 5 },
        { action: 'orders:refund', allowed: 3 },
      ],
      unused: ['orders:cancel'],
      undeclared: ['GET'],
    })
    const narrow = evaluatorOf(found.text)
    expect(narrow.scopes(agent(), noon)).toEqual(['orders:read', 'orders:refund'])
    expect(narrow.scopes(agent({ name: 'other' }), noon)).toEqual([])
  })

  it('is nothing for who did nothing, and where there are no policies', () => {
    expect(suggest(evaluatorOf(house), agent({ roles: ['reader'] }), [], noon)).toEqual({
      text: '',
      used: [],
      unused: ['orders:read'],
      undeclared: [],
    })
    expect(suggest(null, agent(), [did('orders:read')], noon)).toMatchObject({ text: '', undeclared: ['orders:read'] })
  })
})
