// What a proxy asks about: each refusal is a judgement that observers hear of, with who called where that is known.
import { describe, expect, it } from 'vitest'
import { createJudging, type Judgement } from '../../../src/verifier/judgement.ts'
import { answerOfRefusal, type DecideDeps, decideForwarded } from '../../../src/verifier/sidecar/decide.ts'
import { parseRequirement } from '../../../src/verifier/sidecar/requirements.ts'
import { CallRefused, type Peer, type VerifiedPeer } from '../../../src/verify/decision.ts'

const leaf = Buffer.from('agent').toString('base64')
const by = {
  format: 'haproxy',
  certificateHeader: 'Certificate',
  forwardedFor: 'x-forwarded-for',
  callHeaders: { method: 'X-Method', uri: 'X-Uri' },
} as const

/** The verifier's judging itself; who calls is whatever the certificate says. */
const world = (changes: Partial<DecideDeps> = {}) => {
  const judging = createJudging({ now: () => 0, monotonic: () => 0 })
  const seen: Judgement[] = []
  judging.observe(each => seen.push(each))
  const deps: DecideDeps = {
    verifier: {
      verifyChain: ([der], demand = {}, request) =>
        judging.judge(
          { demand, request: request ?? null },
          () => {
            if (der === undefined) throw new CallRefused('identity_missing', 'no certificate')
            return { kind: Buffer.from(der).toString(), name: 'billing' } as Partial<Peer> as Peer
          },
          peer => peer as VerifiedPeer,
        ),
    },
    assert: async () => 'assertion',
    assertionHeader: 'Agentca-Assertion',
    kinds: ['agent'],
    requirements: () => [parseRequirement('GET /orders=*')],
    otherwise: 'refuse',
    intermediates: () => [new Uint8Array(Buffer.from('service'))],
    issuers: { known: () => [], learn: async () => false },
    now: () => 0,
    ...changes,
  }
  const ask = async (...rawHeaders: readonly string[]) => {
    seen.length = 0
    const told = await decideForwarded(deps, by, { method: 'GET', url: '/', rawHeaders }).then(
      () => 200,
      error => answerOfRefusal(error).status,
    )
    return [told, ...seen.map(({ outcome, rule, peer }) => [outcome, rule, peer?.name ?? null])]
  }
  return { ask, seen }
}
const call = ['X-Method', 'GET', 'X-Uri', '/orders/7', 'Certificate', leaf]

describe('a call that a proxy asks about', () => {
  it('is judged once when it is allowed', async () => {
    const { ask, seen } = world()
    expect(await ask(...call, 'X-Forwarded-For', '10.9.9.9', 'x-forwarded-for', '192.0.2.7')).toEqual([
      200,
      ['allow', null, 'billing'],
    ])
    expect(seen[0]?.call.request).toEqual({
      ...{ method: 'GET', url: '/orders/7' },
      from: { address: '192.0.2.7', proxy: null },
    })
  })

  it.each<[string, readonly string[]]>([
    ['assertion_present', [...call, 'agentca_assertion', 'x']],
    ['header_ambiguous', [...call, 'X-Uri', '/']],
    ['call_missing', call.slice(2)],
    ['path_ambiguous', ['X-Method', 'GET', 'X-Uri', '/orders/../admin', 'Certificate', leaf]],
    ['method_malformed', ['X-Method', 'get', 'X-Uri', '/orders', 'Certificate', leaf]],
    ['call_overridden', [...call, 'X-HTTP-Method-Override', 'DELETE']],
    ['rule_missing', ['X-Method', 'PUT', 'X-Uri', '/orders', 'Certificate', leaf]],
  ])('is reported with its caller when it is refused for its form: %s', async (rule, headers) => {
    expect(await world().ask(...headers)).toEqual([403, ['deny', rule, 'billing']])
  })

  it('is reported without a caller when nobody can be read', async () => {
    const { ask } = world()
    const [method, uri] = [call.slice(0, 2), call.slice(2, 4)]
    expect(await ask(...method, ...uri)).toEqual([401, ['deny', 'identity_missing', null]])
    expect(await ask(...call, 'Certificate', leaf)).toEqual([403, ['deny', 'header_ambiguous', null]])
    expect(await ask(...method, ...uri, 'Certificate', '%')).toEqual([
      401,
      ['deny', 'certificate_header_malformed', null],
    ])
  })

  it('is reported as refused when callers of its kind are not accepted', async () => {
    expect(await world({ kinds: ['service'] }).ask(...call)).toEqual([403, ['deny', 'kind_not_accepted', 'billing']])
  })
})
