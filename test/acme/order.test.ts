// The state machines of orders, authorizations and challenges (RFC 8555 §7.1.6), walked at random: whatever clients, probes and time do in
// whatever order, nothing final changes, and nothing is ready that was not proved or granted.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  authorizationStatus,
  beginChallenge,
  deactivateAuthorization,
  endChallenge,
  failOrder,
  type OrderStatus,
  orderStatus,
  resetChallenges,
} from '../../src/acme/order.ts'
import type { AcmeAuthorization, AcmeOrder } from '../../src/store/acme-port.ts'

const types = ['http-01', 'dns-01', 'tls-alpn-01'] as const

const authorization = (index: number, granted: boolean): AcmeAuthorization => ({
  identifier: { type: 'dns', value: `n${index}.example` },
  status: granted ? 'valid' : 'pending',
  challenges: granted ? [] : types.map(type => ({ type, token: `${index}-${type}`, status: 'pending' as const })),
})

const orderOf = (granted: readonly boolean[]): AcmeOrder => ({
  id: 'o',
  account: 'a',
  profile: 'acme',
  authorizations: granted.map((each, index) => authorization(index, each)),
  notBefore: null,
  notAfter: null,
  replaces: null,
  certificate: null,
  error: null,
  expiresAt: 1000,
  createdAt: 0,
})

type Certificate = { state: 'intent' | 'issued' | 'orphaned' | 'void' | 'revoked'; issuedAt: number | null } | null

interface World {
  order: AcmeOrder
  certificate: Certificate
  running: boolean
  now: number
}

const viewOf = ({ now, certificate, running }: World) => ({ now, certificate, running })
const statusOf = (world: World): OrderStatus => orderStatus(world.order, viewOf(world))

const problem = { type: 'connection', detail: 'no answer' }
const where = { index: fc.nat(3), type: fc.constantFrom(...types) }
const step = fc.oneof(
  fc.record({ act: fc.constant('begin' as const), ...where }),
  fc.record({ act: fc.constant('prove' as const), ...where }),
  fc.record({ act: fc.constant('disprove' as const), ...where }),
  fc.record({ act: fc.constant('deactivate' as const), ...where }),
  fc.record({ act: fc.constantFrom('reset' as const, 'wait' as const, 'issue' as const, 'orphan' as const), ...where }),
  fc.record({ act: fc.constant('fail' as const), ...where }),
)

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

/** What the rest of ACME does with an order, each only where it does it. */
const take = (world: World, { act, index, type }: Step): World => {
  const token = `${index}-${type}`
  switch (act) {
    case 'begin':
      return { ...world, order: beginChallenge(world.order, index, token) }
    case 'prove':
      return { ...world, order: endChallenge(world.order, index, { token, at: world.now, problem: null }) }
    case 'disprove':
      return { ...world, order: endChallenge(world.order, index, { token, at: world.now, problem }) }
    case 'deactivate':
      return { ...world, order: deactivateAuthorization(world.order, index) }
    case 'reset':
      return { ...world, order: resetChallenges(world.order, index, each => each === token) }
    case 'wait':
      return { ...world, now: world.now + 300 }
    case 'issue':
      return statusOf(world) === 'ready' ? { ...world, certificate: { state: 'issued', issuedAt: world.now } } : world
    case 'orphan':
      return statusOf(world) === 'ready' ? { ...world, certificate: { state: 'orphaned', issuedAt: null } } : world
    case 'fail':
      return { ...world, order: failOrder(world.order, problem) }
  }
}

const walks = fc.record({ granted: fc.array(fc.boolean(), { minLength: 1, maxLength: 4 }), steps: fc.array(step) })
const start = (granted: readonly boolean[]): World => ({
  order: orderOf(granted),
  certificate: null,
  running: false,
  now: 0,
})

/** RFC 8555 §7.1.6, with what time and a failed attempt may do. */
const mayFollow: Readonly<Record<OrderStatus, readonly OrderStatus[]>> = {
  pending: ['pending', 'ready', 'invalid'],
  ready: ['ready', 'processing', 'valid', 'invalid'],
  processing: ['processing', 'ready', 'valid', 'invalid'],
  valid: ['valid'],
  invalid: ['invalid'],
}

describe('an order', () => {
  it('goes only where RFC 8555 §7.1.6 lets it go, and stays valid or invalid for ever', () => {
    fc.assert(
      fc.property(walks, ({ granted, steps }) => {
        let world = start(granted)
        for (const each of steps) {
          const before = statusOf(world)
          world = take(world, each)
          expect(mayFollow[before]).toContain(statusOf(world))
        }
      }),
    )
  })

  it('is never ready while one of its names is neither granted nor proved', () => {
    fc.assert(
      fc.property(walks, ({ granted, steps }) => {
        const world = steps.reduce(take, start(granted))
        if (statusOf(world) !== 'ready') return
        world.order.authorizations.forEach((each, index) => {
          const proved = each.challenges.some(({ status }) => status === 'valid')
          expect(granted[index] === true || proved).toBe(true)
        })
      }),
    )
  })

  it('has no two probes of one authorization at once', () => {
    fc.assert(
      fc.property(walks, ({ granted, steps }) => {
        let world = start(granted)
        for (const each of steps) {
          world = take(world, each)
          for (const { challenges } of world.order.authorizations)
            expect(challenges.filter(({ status }) => status === 'processing').length).toBeLessThanOrEqual(1)
        }
      }),
    )
  })

  it('is processing while it is issued for, here or by an intent that is recorded', () => {
    const world = start([true])
    expect(statusOf({ ...world, running: true })).toBe('processing')
    expect(statusOf({ ...world, certificate: { state: 'intent', issuedAt: null } })).toBe('processing')
  })

  it('is ready again after an attempt that came to nothing', () => {
    expect(statusOf({ ...start([true]), certificate: { state: 'orphaned', issuedAt: null } })).toBe('ready')
  })

  it('stays valid when its certificate is revoked, and after its time', () => {
    expect(statusOf({ ...start([true]), certificate: { state: 'revoked', issuedAt: 1 }, now: 5000 })).toBe('valid')
  })
})

describe('an authorization', () => {
  it('never leaves a final status', () => {
    fc.assert(
      fc.property(walks, ({ granted, steps }) => {
        let world = start(granted)
        for (const each of steps) {
          const before = world.order.authorizations
          world = take(world, each)
          before.forEach(({ status }, index) => {
            const after = world.order.authorizations[index]?.status
            if (status === 'invalid' || status === 'deactivated') expect(after).toBe(status)
            if (status === 'valid') expect(['valid', 'deactivated']).toContain(after)
          })
        }
      }),
    )
  })

  it('that was not decided in its time is invalid, one that was valid is expired', () => {
    const order = orderOf([true, false])
    const [valid, pending] = order.authorizations as [AcmeAuthorization, AcmeAuthorization]
    expect(authorizationStatus(valid, order, 1000)).toBe('expired')
    expect(authorizationStatus(pending, order, 1000)).toBe('invalid')
    expect(authorizationStatus(valid, order, 999)).toBe('valid')
  })

  it('ignores the result of a probe that nobody waits for', () => {
    const order = orderOf([false])
    expect(endChallenge(order, 0, { token: '0-http-01', at: 1, problem: null })).toBe(order)
  })
})
