// What policies say of enrolment and renewal, and when they are not asked at all.
import { describe, expect, it } from 'vitest'
import { addressOf, createIssuancePolicy } from '../../src/ca/scopes-issuance.ts'
import type { JoinToken, Registration } from '../../src/store/records.ts'
import { evaluatorOf, noon } from '../policy/cedar-world.ts'

const registration = (changes: Partial<Registration> = {}): Registration => ({
  id: 1,
  kind: 'agent',
  name: 'billing',
  owner: 'finance',
  purpose: '',
  profile: 'agent',
  roles: [],
  attributes: {},
  scopes: [],
  boundKeyHash: null,
  managedBy: null,
  dnsNames: [],
  instanceLimit: null,
  operatorRole: null,
  until: null,
  state: 'active',
  version: 1,
  createdAt: 0,
  changedAt: 0,
  ...changes,
})

type Question = Parameters<ReturnType<typeof createIssuancePolicy>['refusal']>[0]

const ask = (text: string | null, changes: Partial<Question> = {}) => {
  let counted = 0
  const evaluator = text === null ? null : evaluatorOf(text)
  const refusal = createIssuancePolicy(() => (evaluator === null ? null : { evaluator })).refusal({
    operation: 'enrol',
    registration: registration(),
    source: '10.0.0.1',
    facts: {
      get liveInstances() {
        counted++
        return 2
      },
    },
    now: noon,
    ...changes,
  })
  return { refusal, counted }
}

const lan = `@id("lan") permit(principal, action == Action::"agentca:enroll", resource)
  when { context has source && context.source.isInRange(ip("10.0.0.0/8")) && context.profile == "agent" };
  @id("three") forbid(principal, action == Action::"agentca:enroll", resource) when { context.instances >= 3 };`

describe('policies about enrolment', () => {
  it.each([
    ['there are no policies', null],
    ['none of them names it', 'forbid(principal, action, resource);'],
    ['they are about renewal', 'permit(principal in Role::"x", action == Action::"agentca:renew", resource);'],
  ])('are not asked when %s, and instances are not counted for them', (_, text) => {
    expect(ask(text)).toEqual({ refusal: null, counted: 0 })
  })

  it('decide by source, profile and instances once they speak of it', () => {
    expect(ask(lan).refusal).toBeNull()
    expect(ask(lan, { source: '::ffff:10.0.0.1' }).refusal).toBeNull()
    expect(ask(lan, { facts: { liveInstances: 3 } }).refusal).toMatchObject({
      code: 'policy_denied',
      statements: ['three'],
    })
    expect(ask(lan, { source: '192.0.2.1' }).refusal).toMatchObject({ code: 'policy_denied', statements: [] })
    expect(ask(lan, { source: 'unknown' }).refusal?.code).toBe('policy_denied')
    expect(ask(lan, { registration: registration({ profile: 'other' }) }).refusal?.code).toBe('policy_denied')
  })

  it('can ask which attestor vouched for whoever enrols, and whether one did', () => {
    const attested = 'permit(principal, action == Action::"agentca:enroll", resource) when { context has attestor };'
    const github = `permit(principal, action == Action::"agentca:enroll", resource)
      when { context has attestor && context.attestor == "github" };`
    const by = (evidence: JoinToken['evidence']) => ({ facts: { liveInstances: 0, token: { evidence } as JoinToken } })
    const evidence = { type: 'jwt', attestor: 'github', issuer: 'https://id.test', subject: 'job' } as const
    expect(ask(attested, by(evidence)).refusal).toBeNull()
    expect(ask(attested, by(null)).refusal?.code).toBe('policy_denied')
    expect(ask(github, by(evidence)).refusal).toBeNull()
    expect(ask(github, by({ ...evidence, attestor: 'gitlab' })).refusal?.code).toBe('policy_denied')
  })

  it('tell the caller nothing of their statements', () => {
    const { message, hint, facts } = ask(lan, { facts: { liveInstances: 3 } }).refusal!
    expect(`${message} ${hint} ${JSON.stringify(facts)}`).not.toContain('three')
  })

  it('go for an operator’s issuance and for recovery as for enrolment and renewal', () => {
    const nobody = 'permit(principal in Role::"x", action in Action::"agentca:*", resource);'
    for (const operation of ['enrol', 'issue', 'renew', 'recover'] as const)
      expect(ask(nobody, { operation }).refusal?.code).toBe('policy_denied')
  })

  it('never lock out operators, nor this CA itself', () => {
    const nobody = 'permit(principal in Role::"x", action in Action::"agentca:*", resource);'
    expect(ask(nobody, { registration: registration({ kind: 'operator', operatorRole: 'admin' }) }).refusal).toBeNull()
    expect(ask(nobody, { registration: registration({ kind: 'service', name: 'agentca' }) }).refusal).toBeNull()
    expect(ask(nobody, { registration: registration({ kind: 'service', name: 'orders' }) }).refusal?.code).toBe(
      'policy_denied',
    )
  })
})

it.each([
  ['10.0.0.1', '10.0.0.1'],
  ['::ffff:10.0.0.1', '10.0.0.1'],
  ['2001:db8::1', '2001:db8::1'],
  ['local', null],
  [undefined, null],
])('the address of %s is %s', (source, address) => {
  expect(addressOf(source)).toBe(address)
})
