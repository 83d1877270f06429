// What is decided about ACME's accounts and orders, rule by rule: the same ones as natively, and what an account has of its own.
import { describe, expect, it } from 'vitest'
import { refusedAccount } from '../../src/ca/admit-account.ts'
import { decideIssuance } from '../../src/ca/decide-issuance.ts'
import { noIssuancePolicy } from '../../src/ca/scopes-issuance.ts'
import type { IssuanceFacts } from '../../src/store/ports.ts'
import type { CertificateRecord, Instance, Registration } from '../../src/store/records.ts'

const now = 1_800_000_000_000
const hour = 3_600_000

const registration = {
  id: 1,
  kind: 'agent',
  name: 'billing',
  owner: 'finance',
  profile: 'acme',
  boundKeyHash: null,
  instanceLimit: null,
  until: null,
  state: 'active',
  version: 1,
} as unknown as Registration
const instance = { id: 'i1', registrationId: 1, state: 'active', headSerial: null, lockReason: null } as Instance
const certificate = (serial: string, more: Partial<CertificateRecord> = {}) =>
  ({
    serial,
    instanceId: 'i1',
    generation: 3,
    predecessor: null,
    replaced: false,
    keyHash: `key-of-${serial}`,
    state: 'issued',
    profileHash: 'p',
    registrationVersion: 1,
    issuedAt: now - hour,
    notBefore: now - hour,
    notAfter: now + hour,
    ...more,
  }) as CertificateRecord

const facts = (more: Partial<IssuanceFacts> = {}): IssuanceFacts => ({
  registration,
  owner: { name: 'finance', state: 'active', createdAt: 0 },
  token: null,
  tokenUse: null,
  presented: null,
  instance,
  head: null,
  ordered: null,
  replacements: 0,
  keySeenWith: null,
  keyRevoked: false,
  liveInstances: 0,
  liveInstancesBefore: 0,
  ...more,
})
const rules = {
  profileHash: 'p',
  instanceLimit: 2,
  keyReuse: 'never',
  recovery: { mode: 'none', count: 1, windowSeconds: 1 },
} as const
const decide = (more: Partial<IssuanceFacts> = {}, keyReuse: 'never' | 'allowed' = 'never') =>
  decideIssuance(facts(more), { operation: 'order', keyHash: 'new', caId: 'ca', now, rules: { ...rules, keyReuse } })
const codeOf = (decision: ReturnType<typeof decide>) =>
  decision.act === 'refuse' ? decision.refusal.code : decision.act

describe('an order of an account', () => {
  it('begins the lineage of its instance, and goes on from its newest certificate, expired or revoked by its holder as that may be', () => {
    expect(decide()).toMatchObject({ act: 'continue', generation: 1, predecessor: null, tokenId: null })
    for (const head of [
      certificate('s3'),
      certificate('s3', { notAfter: now - 1 }),
      certificate('s3', { state: 'revoked', revokedBySubject: true }),
    ])
      expect(decide({ head })).toMatchObject({
        act: 'continue',
        generation: 4,
        predecessor: { serial: 's3' },
        recovery: false,
      })
  })

  it('that has its certificate gets it again, whatever key is shown now', () => {
    const ordered = certificate('s3')
    expect(decide({ ordered, head: ordered })).toEqual({ act: 'repeat', serial: 's3' })
    expect(decide({ ordered, head: certificate('s4', { predecessor: 's3' }) })).toEqual({ act: 'repeat', serial: 's3' })
    expect(codeOf(decide({ ordered: certificate('s3', { state: 'revoked' }) }))).toBe('certificate_revoked')
  })

  it('waits for its own intent, and for another one of its lineage', () => {
    const intent = certificate('s4', { state: 'intent', issuedAt: null })
    expect(decide({ ordered: intent, head: intent })).toEqual({ act: 'pending', serial: 's4' })
    expect(decide({ head: intent })).toEqual({ act: 'pending', serial: 's4' })
  })

  it('whose attempt came to nothing is decided anew', () => {
    for (const state of ['orphaned', 'void', 'revoked'] as const)
      expect(decide({ ordered: certificate('s1', { state, issuedAt: null }) }).act, state).toBe('continue')
  })

  it.each<[string, Partial<IssuanceFacts>]>([
    ['registration_held', { registration: { ...registration, state: 'held' } }],
    ['registration_retired', { registration: { ...registration, state: 'retired' } }],
    ['registration_ended', { registration: { ...registration, until: now } }],
    ['owner_gone', { owner: { name: 'finance', state: 'gone', createdAt: 0 } }],
    ['instance_locked', { instance: { ...instance, state: 'locked' } }],
    ['instance_revoked', { instance: { ...instance, state: 'revoked' } }],
    ['instance_revoked', { instance: { ...instance, closedAt: now } }],
    ['certificate_unknown', { instance: null }],
    ['key_revoked', { keyRevoked: true }],
    ['key_in_use', { keySeenWith: 'issuer' }],
    ['key_in_use', { keySeenWith: { instanceId: 'i2', registrationId: 1, released: true } }],
    ['key_reuse_not_allowed', { keySeenWith: { instanceId: 'i1', registrationId: 1, released: true } }],
    ['key_not_bound', { registration: { ...registration, boundKeyHash: 'another' } }],
    ['instance_limit_reached', { liveInstances: 2 }],
    ['instance_limit_reached', { head: certificate('s3', { notAfter: now - 1 }), liveInstances: 2 }],
    ['instance_limit_reached', { head: certificate('s3', { profileHash: 'before' }), liveInstancesBefore: 2 }],
  ])('is refused with %s', (code, more) => {
    expect(codeOf(decide(more))).toBe(code)
  })

  it('may use its own key again where the profile says so, and holds nothing up by a full house while it lives', () => {
    const keySeenWith = { instanceId: 'i1', registrationId: 1, released: true }
    expect(decide({ keySeenWith }, 'allowed').act).toBe('continue')
    expect(decide({ head: certificate('s3'), liveInstances: 2 }).act).toBe('continue')
  })
})

describe('an account', () => {
  const admission = { keyHash: 'k', now, rules, profile: 'acme', source: '127.0.0.1', policy: noIssuancePolicy }

  it('is admitted where an instance could enrol', () => {
    expect(refusedAccount(facts({ instance: null }), admission)).toBeNull()
  })

  it.each<[string, Partial<IssuanceFacts>]>([
    ['registration_held', { registration: { ...registration, state: 'held' } }],
    ['key_in_use', { keySeenWith: { instanceId: 'i1', registrationId: 1, released: false } }],
    ['key_revoked', { keyRevoked: true }],
    ['instance_limit_reached', { liveInstances: 2 }],
  ])('is refused with %s', (code, more) => {
    expect(refusedAccount(facts(more), admission)?.code).toBe(code)
  })

  it('is asked about as an enrolment under its profile, by the policies in force', () => {
    const asked: unknown[] = []
    const policy = {
      refusal: (question: unknown) => {
        asked.push(question)
        return { code: 'policy_denied', message: 'no', hint: undefined, facts: {} } as const
      },
    }
    expect(refusedAccount(facts(), { ...admission, policy })?.code).toBe('policy_denied')
    expect(asked).toMatchObject([{ operation: 'enrol', terms: { profile: 'acme' }, source: '127.0.0.1' }])
  })
})
