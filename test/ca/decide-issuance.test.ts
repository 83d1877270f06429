import { describe, expect, it } from 'vitest'
import { type DecisionInput, decideIssuance } from '../../src/ca/decide-issuance.ts'
import type { IssuanceFacts } from '../../src/store/ports.ts'
import type { CertificateRecord, Instance, JoinToken, Registration } from '../../src/store/records.ts'

const now = 1_800_000_000_000
const hour = 3_600_000

const registration: Registration = {
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
  createdAt: now - hour,
  changedAt: now - hour,
}
const instance: Instance = {
  id: 'i1',
  registrationId: 1,
  state: 'active',
  headSerial: 's1',
  lockReason: null,
  recoveries: [],
  createdAt: now - hour,
  changedAt: now - hour,
}
const certificate = (serial: string, more: Partial<CertificateRecord> = {}): CertificateRecord => ({
  serial,
  issuerId: 1,
  kind: 'agent',
  registrationId: 1,
  instanceId: 'i1',
  generation: 1,
  predecessor: null,
  replaced: false,
  keyHash: `key-of-${serial}`,
  state: 'issued',
  profile: 'agent',
  profileHash: 'p',
  requester: 'token:t1',
  tokenId: null,
  registrationVersion: 1,
  epoch: 1,
  deadline: now,
  createdAt: now - hour,
  issuedAt: now - hour,
  notBefore: now - hour,
  notAfter: now + hour,
  revokedAt: null,
  reason: null,
  ...more,
})
const token: JoinToken = {
  id: 't1',
  hash: 'h',
  registrationId: 1,
  audience: 'ca1',
  uses: 1,
  usesTaken: 0,
  evidence: null,
  boundKeyHash: null,
  state: 'active',
  expiresAt: now + hour,
  createdAt: now - hour,
  createdBy: 'operator:root',
}
const nothing: IssuanceFacts = {
  registration,
  owner: { name: 'finance', state: 'active', createdAt: 0 },
  token: null,
  tokenUse: null,
  presented: null,
  instance: null,
  head: null,
  replacements: 0,
  keySeenWith: null,
  keyRevoked: false,
  liveInstances: 0,
  liveInstancesBefore: 0,
}
const input = (operation: DecisionInput['operation'], keyHash = 'new-key'): DecisionInput => ({
  operation,
  keyHash,
  caId: 'ca1',
  now,
  rules: {
    profileHash: 'p',
    instanceLimit: 10,
    keyReuse: 'never',
    recovery: { mode: 'same-key', count: 2, windowSeconds: 3600 },
  },
})
const codeOf = (facts: Partial<IssuanceFacts>, of: DecisionInput): string => {
  const decision = decideIssuance({ ...nothing, ...facts }, of)
  // Whoever is refused is told what to do about it.
  if (decision.act === 'refuse') expect([decision.refusal.code, decision.refusal.hint]).not.toContain(undefined)
  return decision.act === 'refuse'
    ? `${decision.refusal.code}${decision.lock === null ? '' : ' and lock'}`
    : decision.act
}

describe('enrolment', () => {
  const claimed = { ...token, usesTaken: 1 }
  const use = { tokenId: 't1', keyHash: 'new-key', serial: 's1', released: true }
  const first = certificate('s1', { keyHash: 'new-key' })

  it('starts a lineage with a good token', () => expect(codeOf({ token }, input('enrol'))).toBe('start'))

  it.each([
    ['token_unknown', {}],
    ['registration_not_found', { token, registration: null }],
    ['token_wrong_audience', { token: { ...token, audience: 'another' } }],
    ['token_expired', { token: { ...token, expiresAt: now } }],
    ['token_expired', { token: { ...token, createdAt: now + 11 * 60_000, expiresAt: now + 400 * 24 * hour } }],
    ['token_revoked', { token: { ...token, state: 'revoked' as const } }],
    ['token_reuse', { token: { ...token, boundKeyHash: 'other' } }],
    ['token_reuse', { token: claimed }],
    ['registration_held', { token, registration: { ...registration, state: 'held' as const } }],
    ['registration_retired', { token, registration: { ...registration, state: 'retired' as const } }],
    ['registration_ended', { token, registration: { ...registration, until: now } }],
    ['owner_gone', { token, owner: { name: 'finance', state: 'gone' as const, createdAt: 0 } }],
    ['instance_limit_reached', { token, liveInstances: 10 }],
    ['instance_limit_reached', { token, liveInstances: 2, registration: { ...registration, instanceLimit: 2 } }],
    ['key_in_use', { token, keySeenWith: { instanceId: 'i9', registrationId: 9, released: true } }],
    ['key_in_use', { token, keySeenWith: 'issuer' as const }],
    ['key_revoked', { token, keyRevoked: true }],
  ])('is refused: %s', (code, facts) => expect(codeOf(facts, input('enrol'))).toBe(code))

  const seen = { instanceId: 'i1', registrationId: 1, released: true }
  it('gives the same key the same answer again, even after the token has expired', () =>
    expect(
      codeOf(
        { token: { ...claimed, expiresAt: now - 1 }, tokenUse: use, instance, head: first, keySeenWith: seen },
        input('enrol'),
      ),
    ).toBe('repeat'))

  it('resumes the claim of a key whose intent came to nothing, where there is still a place', () => {
    const facts = { token: claimed, tokenUse: { ...use, serial: '', released: false }, instance, head: null }
    const of = (liveInstances: number) => codeOf({ ...facts, keySeenWith: seen, liveInstances }, input('enrol'))
    expect([of(9), of(10)]).toEqual(['continue', 'instance_limit_reached'])
  })

  it('says pending while the same request is being signed', () =>
    expect(
      codeOf(
        { token: claimed, tokenUse: use, instance, head: { ...first, state: 'intent' }, keySeenWith: seen },
        input('enrol'),
      ),
    ).toBe('pending'))

  it('does not repeat an answer once the identity has renewed', () =>
    expect(
      codeOf(
        {
          token: claimed,
          tokenUse: use,
          instance,
          head: certificate('s2', { generation: 2, predecessor: 's1' }),
          keySeenWith: seen,
        },
        input('enrol'),
      ),
    ).toBe('token_reuse'))
})

describe('renewal lineage', () => {
  const s1 = certificate('s1')
  const s2 = certificate('s2', { generation: 2, predecessor: 's1' })
  const at = (presented: CertificateRecord, head: CertificateRecord | null, more: Partial<IssuanceFacts> = {}) => ({
    presented,
    instance,
    head,
    ...more,
  })

  it('continues from the newest certificate with a new key', () => {
    const decision = decideIssuance({ ...nothing, ...at(s2, s2) }, input('renew'))
    expect(decision).toMatchObject({ act: 'continue', generation: 3, supersedes: null })
  })

  it('gives the same pair of predecessor and key the same certificate again', () =>
    expect(codeOf(at(s1, s2), input('renew', s2.keyHash))).toBe('repeat'))

  it('lets another key replace the successor once', () => {
    const decision = decideIssuance({ ...nothing, ...at(s1, s2) }, input('renew'))
    expect(decision).toMatchObject({ act: 'continue', generation: 2, supersedes: 's2' })
  })

  it('locks at a second replacement', () =>
    expect(codeOf(at(s1, s2, { replacements: 1 }), input('renew'))).toBe('lineage_conflict and lock'))

  it('locks when a replaced certificate is used, although it is revoked', () =>
    expect(codeOf(at({ ...s2, replaced: true, state: 'revoked' }, s1), input('renew'))).toBe(
      'lineage_conflict and lock',
    ))

  it('locks when an older certificate is used', () =>
    expect(codeOf(at(s1, certificate('s3', { generation: 3, predecessor: 's2' })), input('renew'))).toBe(
      'lineage_conflict and lock',
    ))

  it('never locks for an expired certificate, however old', () =>
    expect(codeOf(at({ ...s1, notAfter: now }, certificate('s3', { predecessor: 's2' })), input('renew'))).toBe(
      'certificate_expired',
    ))

  it.each([
    ['certificate_unknown', { presented: null, instance: null, head: null }],
    ['certificate_revoked', at({ ...s2, state: 'revoked' }, s2)],
    ['certificate_held', at({ ...s2, state: 'held' }, s2)],
    ['registration_held', at(s2, s2, { registration: { ...registration, state: 'held' } })],
    ['instance_locked', at(s2, s2, { instance: { ...instance, state: 'locked' } })],
    ['instance_revoked', at(s2, s2, { instance: { ...instance, state: 'revoked' } })],
    ['key_in_use', at(s2, s2, { keySeenWith: { instanceId: 'i2', registrationId: 1, released: true } })],
  ])('is refused without a lock: %s', (code, facts) => expect(codeOf(facts, input('renew'))).toBe(code))

  it('is within a lowered limit for those who came first, and its lost answer is given again to all', () => {
    const lowered = { liveInstances: 20, registration: { ...registration, version: 2, instanceLimit: 3 } }
    const [within, beyond] = [2, 3].map(liveInstancesBefore => ({ ...lowered, liveInstancesBefore }))
    expect(codeOf(at(s2, s2, within), input('renew'))).toBe('continue')
    expect(codeOf(at(s2, s2, beyond), input('renew'))).toBe('instance_limit_reached')
    expect(codeOf(at(s1, s2, beyond), input('renew'))).toBe('instance_limit_reached')
    expect(codeOf(at(s1, s2, beyond), input('renew', s2.keyHash))).toBe('repeat')
  })

  it('is within the limit of a profile that changed, and counts nobody where nothing changed', () => {
    const of = input('renew')
    const tightened = { ...of, rules: { ...of.rules, profileHash: 'tightened', instanceLimit: 3 } }
    expect(codeOf(at(s2, s2, { liveInstancesBefore: 3 }), tightened)).toBe('instance_limit_reached')
    const counted = {
      ...nothing,
      ...at(s2, s2),
      get liveInstancesBefore(): number {
        throw new Error('a fleet was counted')
      },
    }
    expect(decideIssuance(counted, of).act).toBe('continue')
  })

  it('wants a key that was never certified, at a replacement too, unless the profile allows reuse', () => {
    const keySeenWith = { instanceId: 'i1', registrationId: 1, released: true }
    const reused = { ...input('renew'), rules: { ...input('renew').rules, keyReuse: 'allowed' as const } }
    for (const facts of [at(s2, s2, { keySeenWith }), at(s1, s2, { keySeenWith })]) {
      expect(codeOf(facts, input('renew'))).toBe('key_reuse_not_allowed')
      expect(codeOf(facts, reused)).toBe('continue')
    }
  })

  it('lets a key ask again whose certificate was never given out', () =>
    expect(
      codeOf(at(s2, s2, { keySeenWith: { instanceId: 'i1', registrationId: 1, released: false } }), input('renew')),
    ).toBe('continue'))
})

describe('recovery', () => {
  const expired = certificate('s1', { notAfter: now - hour })
  const facts = { presented: expired, instance, head: expired }

  it('continues the lineage after its certificate expired', () =>
    expect(decideIssuance({ ...nothing, ...facts }, input('recover'))).toMatchObject({
      act: 'continue',
      recovery: true,
      generation: 2,
    }))

  it('is limited by count within the window', () =>
    expect(codeOf({ ...facts, instance: { ...instance, recoveries: [now - 2, now - 1] } }, input('recover'))).toBe(
      'recovery_limit_reached',
    ))

  it('counts an expired instance as a new one, and one that lives by its place', () => {
    const living = { ...facts, head: certificate('s1'), registration: { ...registration, version: 2 } }
    expect(codeOf({ ...facts, liveInstances: 10 }, input('recover'))).toBe('instance_limit_reached')
    expect(codeOf({ ...living, liveInstances: 10, liveInstancesBefore: 9 }, input('recover'))).toBe('continue')
    expect(codeOf({ ...living, liveInstances: 10, liveInstancesBefore: 10 }, input('recover'))).toBe(
      'instance_limit_reached',
    )
  })

  it('does not open a lock', () =>
    expect(codeOf({ ...facts, instance: { ...instance, state: 'locked' } }, input('recover'))).toBe('instance_locked'))

  it('needs the last registered key', () =>
    expect(codeOf({ ...facts, head: certificate('s2', { predecessor: 's1' }) }, input('recover'))).toBe(
      'recovery_not_allowed',
    ))

  it('is off where the profile says so', () => {
    const of = input('recover')
    expect(codeOf(facts, { ...of, rules: { ...of.rules, recovery: { ...of.rules.recovery, mode: 'none' } } })).toBe(
      'recovery_not_allowed',
    )
  })
})

describe('an order', () => {
  const revoked = certificate('s1', { state: 'revoked', revokedAt: now - 1, reason: 'superseded' })
  const facts = { instance, ordered: null }

  it('goes on from the last certificate, also after its holder revoked it', () => {
    expect(codeOf({ ...facts, head: certificate('s1') }, input('order'))).toBe('continue')
    expect(codeOf({ ...facts, head: { ...revoked, revokedBySubject: true } }, input('order'))).toBe('continue')
  })

  it('is refused after an operator revoked the last certificate, expired or not', () => {
    const byOperator = { ...revoked, reason: 'keyCompromise' }
    expect(codeOf({ ...facts, head: byOperator }, input('order'))).toBe('certificate_revoked')
    expect(codeOf({ ...facts, head: { ...byOperator, notAfter: now - 1 } }, input('order'))).toBe('certificate_revoked')
    expect(codeOf({ ...facts, head: { ...revoked, reason: 'superseded' } }, input('order'))).toBe('continue')
  })
})
