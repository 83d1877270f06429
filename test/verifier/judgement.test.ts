// Judgements: observers hear of every one, conditions refuse what the state allows, and neither lets in what was refused before.
import { expect, it } from 'vitest'
import { createJudging, type Judgement } from '../../src/verifier/judgement.ts'
import { CallRefused, type Peer, type VerifiedPeer } from '../../src/verify/decision.ts'

const peer = { spiffeId: 'spiffe://example.org/agent/caller/i/1', name: 'caller' } as unknown as Peer
const verified = { ...peer, roles: ['reader'] } as unknown as VerifiedPeer
const request = { method: 'GET', url: '/orders' }
const create = () => {
  let at = 0
  return createJudging({ now: () => 1000, monotonic: () => at++ })
}

it('tells observers who called what, with which outcome, and how long it took', () => {
  const judging = create()
  const seen: Judgement[] = []
  const end = judging.observe(each => seen.push(each))
  const call = { demand: { scopes: ['orders:read'] }, request }
  judging.judge(
    call,
    () => peer,
    () => verified,
  )
  const missing = new CallRefused('scope_missing', 'no scope')
  const refusing = () =>
    judging.judge(
      call,
      () => peer,
      () => {
        throw missing
      },
    )
  expect(refusing).toThrow(missing)
  const unknown = () =>
    judging.judge(
      call,
      () => {
        throw new CallRefused('identity_missing', 'no certificate')
      },
      () => verified,
    )
  expect(unknown).toThrow('no certificate')
  expect(seen).toEqual([
    { outcome: 'allow', rule: null, peer: verified, call, at: 1000, latencyMs: 1 },
    { outcome: 'deny', rule: 'scope_missing', peer, call, at: 1000, latencyMs: 1 },
    { outcome: 'deny', rule: 'identity_missing', peer: null, call, at: 1000, latencyMs: 1 },
  ])
  end()
  expect(refusing).toThrow(missing)
  expect(seen).toHaveLength(3)
})

it('asks conditions only about who is allowed otherwise, and refuses by the first that says so', () => {
  const judging = create()
  const asked: string[] = []
  const rules: (string | null)[] = []
  judging.observe(({ rule }) => rules.push(rule))
  judging.addCondition(({ name }, call) => {
    const url = call.request?.url
    asked.push(`${name} ${url}`)
    if (url === '/orders') throw new CallRefused('condition_failed', 'not at night')
  })
  const ask = (url: string, allowed = true) =>
    judging.judge(
      { demand: {}, request: { url } },
      () => peer,
      () => {
        if (!allowed) throw new CallRefused('certificate_revoked', 'revoked')
        return verified
      },
    )
  expect(() => ask('/orders')).toThrow('not at night')
  expect(ask('/else')).toBe(verified)
  expect(() => ask('/else', false)).toThrow('revoked')
  expect(asked).toEqual(['caller /orders', 'caller /else'])
  expect(rules).toEqual(['condition_failed', null, 'certificate_revoked'])
})
