// One call, rule by rule: each refusal by what alone differs from a call that is let in.
import { expect, test } from 'vitest'
import { parseSpiffeId } from '../../src/pki/spiffe.ts'
import { type CallToDecide, decideCall, type Peer } from '../../src/verify/decision.ts'
import type { PrincipalEntry } from '../../src/verify/feed-event.ts'
import { type Confirmations, freshnessAt, type StalenessPolicy } from '../../src/verify/freshness.ts'
import { serialKeyOf } from '../../src/verify/serial-table.ts'

const now = Date.UTC(2026, 10, 24)
const serial = `01${'7'.repeat(30)}`
const peer: Peer = {
  spiffeId: parseSpiffeId('spiffe://example.org/agent/billing/i/1'),
  kind: 'agent',
  name: 'billing',
  instance: '1',
  serial,
  serialKey: serialKeyOf(serial),
  notBefore: now - 60_000,
  notAfter: now + 3_600_000,
  scopesVersion: 3,
}
const entry: PrincipalEntry = {
  kind: 'agent',
  name: 'billing',
  state: 'active',
  version: 3,
  roles: ['reader'],
  attributes: { region: 'eu' },
  scopes: ['orders:read'],
}
const stateOf = (status: 'revoked' | 'held' | null, principal: PrincipalEntry | null) => ({
  status: () => status,
  principal: () => principal,
})
const call: CallToDecide = {
  peer,
  state: stateOf(null, entry),
  freshness: { rung: 'live', trusted: true, ageMs: 0 },
  now,
  rules: { kinds: ['agent'], roles: ['reader'], scopes: ['orders:read'] },
}
const codeOf = (changes: Partial<CallToDecide>): string => {
  try {
    decideCall({ ...call, ...changes })
    return 'allowed'
  } catch (error) {
    return (error as { code: string }).code
  }
}

test('a call that breaks no rule is let in with what its registration says', () => {
  expect(decideCall(call)).toMatchObject({ name: 'billing', roles: ['reader'], attributes: { region: 'eu' } })
})

test.each<[string, Partial<CallToDecide>]>([
  ['certificate_not_yet_valid', { now: peer.notBefore - 1 }],
  ['certificate_expired', { now: peer.notAfter + 1000 }],
  ['certificate_revoked', { state: stateOf('revoked', entry) }],
  [
    'certificate_revoked',
    { state: stateOf('revoked', entry), freshness: { rung: 'unknown', trusted: false, ageMs: null } },
  ],
  ['certificate_held', { state: stateOf('held', entry) }],
  ['state_unknown', { freshness: { rung: 'unknown', trusted: false, ageMs: null } }],
  ['state_stale', { freshness: { rung: 'stale', trusted: false, ageMs: 1 } }],
  ['kind_not_accepted', { rules: { ...call.rules, kinds: ['service'] } }],
  ['principal_unknown', { state: stateOf(null, null) }],
  ['principal_held', { state: stateOf(null, { ...entry, state: 'held' }) }],
  ['principal_retired', { state: stateOf(null, { ...entry, state: 'retired' }) }],
  ['principal_outdated', { state: stateOf(null, { ...entry, version: 2 }) }],
  ['role_missing', { rules: { ...call.rules, roles: ['reader', 'writer'] } }],
  ['scope_missing', { rules: { ...call.rules, scopes: ['orders:write'] } }],
])('%s', (code, changes) => {
  expect(codeOf(changes)).toBe(code)
})

test('both ends of the validity are included', () => {
  expect([codeOf({ now: peer.notBefore }), codeOf({ now: peer.notAfter + 999 })]).toEqual(['allowed', 'allowed'])
})

const policy: StalenessPolicy = { onStale: 'refuse', maxStalenessMs: 300_000 }
const none: Confirmations = { confirmedAt: null, leaseUntil: null, publishedUntil: null }
const at = (monotonic: number, wall = now) => ({ wall, monotonic })

test.each<[string, Confirmations, number, StalenessPolicy, object]>([
  ['nothing known', none, 0, { ...policy, onStale: 'allow' }, { rung: 'unknown', trusted: false }],
  [
    'within the lease',
    { ...none, confirmedAt: 0, leaseUntil: 15_000 },
    14_999,
    policy,
    { rung: 'live', trusted: true },
  ],
  [
    'after the lease, published',
    { confirmedAt: 0, leaseUntil: 15_000, publishedUntil: now + 1 },
    15_000,
    policy,
    { rung: 'published' },
  ],
  [
    'after both, young',
    { confirmedAt: 0, leaseUntil: 15_000, publishedUntil: now },
    300_000,
    policy,
    { rung: 'aging', trusted: true },
  ],
  [
    'too old, refuse',
    { confirmedAt: 0, leaseUntil: 15_000, publishedUntil: now },
    300_001,
    policy,
    { rung: 'stale', trusted: false },
  ],
  [
    'too old, allow',
    { ...none, confirmedAt: 0 },
    300_001,
    { ...policy, onStale: 'allow' },
    { rung: 'stale', trusted: true, ageMs: 300_001 },
  ],
])('freshness: %s', (_what, known, monotonic, rules, expected) => {
  expect(freshnessAt(known, rules, at(monotonic))).toMatchObject(expected)
})
