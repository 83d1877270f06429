// Which calls are taken for the same as one before, and which are not.
import { describe, expect, it } from 'vitest'
import type { Call, Judgement } from '../../src/verifier/judgement.ts'
import { createRepeatedCalls } from '../../src/verifier/repeated-calls.ts'

const scopes = ['orders:read']
interface Different {
  readonly outcome?: 'allow' | 'deny'
  readonly caller?: string
  readonly request?: Partial<NonNullable<Call['request']>> | null
  readonly demand?: Call['demand']
  readonly from?: Call['from']
}
const judgement = ({ outcome = 'allow', caller = 'a', request = {}, demand = { scopes }, from }: Different = {}) =>
  ({
    outcome,
    rule: null,
    peer: { spiffeId: `spiffe://example.org/agent/${caller}/i/1` },
    call: {
      demand,
      request: request === null ? null : { method: 'GET', url: '/x', socket: { remoteAddress: '::1' }, ...request },
      ...(from === undefined ? {} : { from }),
    },
    at: 0,
    latencyMs: 0,
  }) as unknown as Judgement

describe('a call', () => {
  it('is the same as one of the same caller, place, URL, method and demand, until all are forgotten', () => {
    const repeated = createRepeatedCalls<string>()
    expect(repeated.find(judgement())).toBeNull()
    repeated.keep(judgement(), 'first')
    expect(repeated.find(judgement())).toBe('first')
    repeated.forget()
    expect(repeated.find(judgement())).toBeNull()
  })

  it.each<[string, Different]>([
    ['caller', { caller: 'b' }],
    ['outcome', { outcome: 'deny' }],
    ['URL', { request: { url: '/y' } }],
    ['method', { request: { method: 'POST' } }],
    ['place', { request: { socket: { remoteAddress: '::2' } } }],
    ['demand', { demand: { scopes: ['orders:write'] } }],
    ['demand of roles', { demand: { scopes, roles: ['reader'] } }],
    ['condition', { demand: { scopes, conditional: { action: 'orders:read' } } }],
    ['way to it', { from: { address: '192.0.2.1' } as never }],
    ['lack of a request', { request: null }],
  ])('is another one for its %s', (_, different) => {
    const repeated = createRepeatedCalls<string>()
    repeated.keep(judgement(), 'first')
    expect(repeated.find(judgement(different))).toBeNull()
  })

  it('of an outcome, a condition or a proxy that may differ each time is never kept', () => {
    const repeated = createRepeatedCalls<string>()
    for (const different of [
      { outcome: 'deny' } as const,
      { demand: { conditional: { action: 'orders:read' } } },
      { from: { address: '192.0.2.1' } as never },
      { request: null },
    ]) {
      repeated.keep(judgement(different), 'kept')
      expect(repeated.find(judgement(different))).toBeNull()
    }
  })

  it('with ever new URLs takes a bounded place', () => {
    const repeated = createRepeatedCalls<number>()
    const at = (i: number) => judgement({ caller: `${i % 7}`, request: { url: `/${i}` } })
    for (let i = 0; i <= 2000; i++) repeated.keep(at(i), i)
    expect(repeated.find(at(0))).toBeNull()
    expect(repeated.find(at(2000))).toBe(2000)
  })
})
