// Challenges that are asked for at once: the ledger is a real one, which does in one commit what comes together; only the probing is in the
// test's hands.
import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Challenges, createChallenges } from '../../src/acme/challenges.ts'
import type { AcmeDeps, ProbeResult } from '../../src/acme/deps.ts'
import { createOrders } from '../../src/acme/orders.ts'
import type { AccountRequest } from '../../src/acme/request.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import type { AcmeAuthorization } from '../../src/store/acme-port.ts'
import type { Ledger } from '../../src/store/ports.ts'
import { leaf, makeLedger, makeWorld } from '../store/make-ledger.ts'
import { until } from '../story/until.ts'

let ledger: Ledger
let challenges: Challenges
let registrationId: number
/** The probes that were begun and have not ended, by token. */
let probing: Map<string, (result: ProbeResult) => void>

beforeEach(async () => {
  ledger = makeLedger()
  probing = new Map()
  registrationId = (await makeWorld(ledger)).agent.id
  const deps = {
    clock: systemClock,
    log: silentLog,
    ports: ledger.acme,
    settings: { orders: { burst: 1, perMinute: 1 } },
    validate: ({ token }: { token: string }) => new Promise(resolve => probing.set(token, resolve)),
  } as unknown as AcmeDeps
  challenges = createChallenges(
    deps,
    createOrders(deps, () => 'pending'),
  )
})
afterEach(async () => {
  const closed = challenges.close()
  for (const end of probing.values()) end({ ok: true })
  await closed
  ledger.close()
})

const authorization = (index: number, status: 'pending' | 'processing' = 'pending'): AcmeAuthorization => ({
  identifier: { type: 'dns', value: `n${index}.example` },
  status: 'pending',
  challenges: [{ type: 'http-01', token: `token-${index}`, status }],
})

/** An account with one order. */
const accountWith = async (
  authorizations: readonly AcmeAuthorization[],
  id = 'ab'.repeat(16),
  kid: string | null = `kid of ${id}`,
) => {
  if (kid !== null)
    await ledger.acme.bindings.create(
      {
        ...{ kid, registrationId, sealedKey: new Uint8Array([1]), names: [], createdBy: 'operator:alice' },
        ...{ createdAt: 0, expiresAt: 1 },
      },
      leaf('acme_binding_created'),
    )
  const account = { id, registrationId, kid, thumbprint: id, jwk: '{}', contacts: [], names: [], createdAt: 0 }
  await ledger.acme.accounts.create({
    account,
    keyHash: randomBytes(32).toString('hex'),
    decide: () => ({ act: 'create', leaf: leaf('acme_account_created') }),
  })
  const order = { id: `o-${id}`, account: id, profile: 'acme', authorizations, createdAt: 0 }
  const none = { notBefore: null, notAfter: null, replaces: null, certificate: null, error: null }
  await ledger.acme.orders.create({ ...order, ...none, expiresAt: Date.now() + 3_600_000 }, leaf('acme_order_created'))
  const call = { context: () => ({ requestId: 'r', who: 'w', source: 's' }) }
  const request = {
    account,
    registration: { name: 'a' },
    payload: Buffer.from('{}'),
    call,
  } as unknown as AccountRequest
  return {
    respond: (index: number) => challenges.respond(request, order.id, index, 'http-01'),
    statuses: () =>
      ledger.acme.orders.get(order.id)?.authorizations.map(each => [each.status, each.challenges[0]?.status]),
  }
}

describe('challenges that are asked for at once', () => {
  it('of one order are all probed, each once, and none goes back', async () => {
    const { respond, statuses } = await accountWith([authorization(0), authorization(1), authorization(2)])
    const replies = await Promise.all([0, 1, 2, 1, 0].map(respond))
    expect(replies.map(({ order }) => order.id)).toHaveLength(5)
    expect(statuses()).toEqual(Array(3).fill(['pending', 'processing']))
    expect(probing.size).toBe(3)
    for (const end of probing.values()) end({ ok: true })
    await until('all were decided', () => statuses()?.every(([status]) => status === 'valid') === true)
  })

  it('of one account are bounded, and leave room for another’s', async () => {
    const many = await accountWith(Array.from({ length: 40 }, (_, index) => authorization(index)))
    const replies = await Promise.allSettled(Array.from({ length: 40 }, (_, index) => many.respond(index)))
    const refused = replies.filter(({ status }) => status === 'rejected')
    expect(refused).toHaveLength(24)
    for (const each of refused) expect(each).toMatchObject({ reason: { code: 'rateLimited' } })
    const other = await accountWith([authorization(100)], 'cd'.repeat(16))
    await other.respond(0)
    expect(other.statuses()).toEqual([['pending', 'processing']])
    expect(probing.size).toBe(17)
  })

  it('of accounts without a binding share a few places, and those with one have the rest', async () => {
    const add = (account: number, kid?: null) =>
      accountWith(
        Array.from({ length: 10 }, (_, index) => authorization(account * 10 + index)),
        `${account}`.repeat(32),
        kid,
      )
    const ask = async (each: Awaited<ReturnType<typeof add>>) =>
      (await Promise.allSettled(Array.from({ length: 10 }, (_, index) => each.respond(index))))
        .flatMap(settled => (settled.status === 'fulfilled' ? [] : [settled.reason.code]))
        .join(' ')
    expect(await ask(await add(0, null))).toBe('')
    expect(await ask(await add(1, null))).toBe(Array(4).fill('rateLimited').join(' '))
    for (const index of [2, 3, 4, 5]) expect(await ask(await add(index))).toBe('')
    expect(await ask(await add(6))).toBe(Array(2).fill('rateLimited').join(' '))
    expect(probing.size).toBe(64)
  })

  it('begin anew where a process left them in the middle, while the order’s others are probed', async () => {
    const { respond, statuses } = await accountWith([authorization(0), authorization(1, 'processing')])
    await Promise.all([respond(0), respond(1)])
    expect(statuses()).toEqual(Array(2).fill(['pending', 'processing']))
    expect([...probing.keys()].sort()).toEqual(['token-0', 'token-1'])
  })
})
