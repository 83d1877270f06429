// Which answers of issuance get a leaf of their own, when they are repeated for ever.
import { expect, test } from 'vitest'
import { createSampler, defaultSamplerLimits } from '../../src/audit/sampler.ts'
import type { IssuanceRequest } from '../../src/ca/issuance.ts'
import { createIssuanceEvents } from '../../src/ca/issuance-events.ts'
import type { IntentRecord } from '../../src/store/ports.ts'
import type { Registration } from '../../src/store/records.ts'

const at = 1_000_000
const agent = { kind: 'agent', name: 'crawler', profile: 'agent', version: 3 } as Registration
const under = { registration: agent, profileHash: 'c0ffee' }
const refusal = { code: 'token_reuse', message: '', hint: undefined, facts: {} } as const

const requestOf = (who: string, operation: IssuanceRequest['operation'], source: string): IssuanceRequest => ({
  operation,
  evidence: { kind: 'token', tokenHash: '00' },
  csr: new Uint8Array(0),
  context: { requestId: 'r', who, source },
})

const recorded = {
  serial: '03',
  instanceId: 'i',
  keyHash: '00',
  tbs: new Uint8Array(1),
  profile: 'agent',
  profileHash: 'c0ffee',
  registrationVersion: 3,
  createdAt: at,
} as IntentRecord

const events = () => createIssuanceEvents(createSampler({ now: () => 0, monotonic: () => 0 }).admit)

/** How many of 1,000, each from a network of its own, left a leaf. */
const leavesOf = (write: (source: string) => unknown): number =>
  Array.from({ length: 1000 }, (_, i) => write(`10.${i >> 8}.${i & 255}.1`)).filter(leaf => leaf !== null).length

test.each([
  ['a join token that is used up', 'token:a', 'enrol'],
  ['a certificate whose renewal is refused', 'spiffe://example.org/agent/crawler/i/1', 'renew'],
  ['a key that may not recover', 'key:00', 'recover'],
] as const)('%s gives its holder a few leaves, from however many networks', (_, who, operation) => {
  const { refused } = events()
  const written = leavesOf(source => refused(requestOf(who, operation, source), refusal, under, at))
  expect(written).toBe(defaultSamplerLimits.burst)
})

test('an answer that is asked for again and again leaves a few leaves', () => {
  const { repeated } = events()
  const written = leavesOf(source =>
    repeated(requestOf('token:a', 'enrol', source), { serial: '01', registration: agent }, at),
  )
  expect(written).toBe(defaultSamplerLimits.burst)
})

test('the first misuse of a token is written however many others are misused', () => {
  const { refused } = events()
  const misuse = (who: string) => refused(requestOf(who, 'enrol', '192.0.2.1'), refusal, under, at)
  for (let i = 0; i < 1000; i++) misuse(`token:${i}`)
  expect(misuse('token:last')).toMatchObject({ event: 'token_reuse', subject: 'agent:crawler' })
})

test('every refusal of what an operator asked for is written', () => {
  const { refused } = events()
  const issue = (source: string) => refused(requestOf('operator:alice', 'issue', source), refusal, under, at)
  expect(leavesOf(issue)).toBe(1000)
})

test('a leaf is found by whom it is about, and a refusal says under which profile and version it was decided', () => {
  const { refused, repeated, issued, releaseRefused, voided, locked, orphaned } = events()
  const [request, of] = [requestOf('token:a', 'enrol', '192.0.2.1'), { serial: '01', registration: agent }]
  const leaves = [
    refused(request, refusal, under, at),
    repeated(request, of, at),
    issued(request, of, new Uint8Array(0), at),
    releaseRefused(request, of, at),
    voided(request, of, at),
    locked(request, { instanceId: 'i', reason: 'two holders' }, agent, at),
    orphaned(of, at),
  ]
  expect(leaves.map(leaf => leaf?.subject)).toEqual(leaves.map(() => 'agent:crawler'))
  expect(JSON.parse(Buffer.from(leaves[0]!.bytes).toString())).toMatchObject({
    code: 'token_reuse',
    profile: 'agent',
    profileHash: 'c0ffee',
    version: 3,
  })
})

test('the intent of a replacement names the certificate that its release revokes, and no other intent names one', () => {
  const { intentRecorded } = events()
  const factsOf = (supersedes: string | null) => {
    const intent = { ...recorded, supersedes }
    const leaf = intentRecorded(requestOf('token:a', 'renew', '192.0.2.1'), intent, agent)
    return JSON.parse(new TextDecoder().decode(leaf.bytes))
  }
  expect(factsOf('02')).toMatchObject({ serial: '03', supersedes: '02' })
  expect(Object.keys(factsOf(null))).not.toContain('supersedes')
})
