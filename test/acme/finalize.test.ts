// Finalizing when the HSM is slow: the client is told `processing`, and finds an end of it in the order, whatever became of it. Accounts and
// orders are a real ledger's; only the issuing is in the test's hands.
import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { AcmeDeps } from '../../src/acme/deps.ts'
import { createFinalizer, type Finalizer } from '../../src/acme/finalize.ts'
import type { AccountRequest } from '../../src/acme/request.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { noSteps } from '../../src/base/steps.ts'
import { CaError } from '../../src/ca/errors.ts'
import type { IssuanceRequest, IssuedCertificate } from '../../src/ca/issuance.ts'
import { createInFlight, type InFlight } from '../../src/http/limits.ts'
import { dnsName } from '../../src/pki/general-names.ts'
import { parseTrustDomain } from '../../src/pki/spiffe.ts'
import type { AcmeOrder } from '../../src/store/acme-port.ts'
import type { Ledger } from '../../src/store/ports.ts'
import { createKey } from '../http/harness.ts'
import {
  issue as issueIn,
  leaf,
  makeLedger,
  makeWorld,
  recordIntent,
  renewalOf,
  type World,
} from '../store/make-ledger.ts'
import { until } from '../story/until.ts'

const name = 'a.example'
const accountId = 'ab'.repeat(16)

let world: World
let ledger: Ledger
let finalizer: Finalizer
let request: AccountRequest
let order: AcmeOrder
let inFlight: InFlight
/** The issuances that were asked for and have not ended. */
let asked: { request: IssuanceRequest; end: (error?: unknown) => void }[]

const issue = (of: IssuanceRequest): Promise<IssuedCertificate> =>
  new Promise((resolve, reject) => {
    asked.push({ request: of, end: error => (error === undefined ? resolve(null as never) : reject(error)) })
  })

const orderWith = async (id: string, more: Partial<AcmeOrder> = {}): Promise<AcmeOrder> =>
  ledger.acme.orders.create(
    {
      id,
      account: accountId,
      profile: 'acme',
      authorizations: [{ identifier: { type: 'dns', value: name }, status: 'valid', challenges: [] }],
      notBefore: null,
      notAfter: null,
      replaces: null,
      certificate: null,
      error: null,
      expiresAt: Date.now() + 3_600_000,
      createdAt: Date.now(),
      ...more,
    },
    leaf('acme_order_created'),
  )

beforeEach(async () => {
  ledger = makeLedger()
  inFlight = createInFlight(2)
  asked = []
  world = await makeWorld(ledger)
  const { agent } = world
  await ledger.acme.accounts.create({
    account: {
      id: accountId,
      registrationId: agent.id,
      kid: null,
      thumbprint: 't',
      jwk: '{}',
      contacts: [],
      names: [],
      createdAt: Date.now(),
    },
    keyHash: randomBytes(32).toString('hex'),
    decide: () => ({ act: 'create', leaf: leaf('acme_account_created') }),
  })
  order = await orderWith('o1')
  finalizer = createFinalizer({
    clock: systemClock,
    log: silentLog,
    trustDomain: parseTrustDomain('example.org'),
    ports: ledger.acme,
    certificates: ledger.certificates,
    instances: ledger.instances,
    issuance: { issue },
    profiles: () => [{ name: 'acme', minLifetimeSeconds: 300 }],
    settings: { finalizeWaitMs: 0, issueWaitMs: 60_000 },
    reached: noSteps,
  } as unknown as AcmeDeps)
  const csr = Buffer.from((await createKey([dnsName(name)])).csr).toString('base64url')
  const account = ledger.acme.accounts.get(accountId)
  request = {
    account: { ...account, kid: 'k' },
    registration: { ...agent, dnsNames: [name] },
    payload: Buffer.from(JSON.stringify({ csr })),
    call: { context: () => ({ requestId: 'r', who: 'w', source: 's' }) },
  } as unknown as AccountRequest
})
afterEach(() => ledger.close())

const finalize = (of: AccountRequest, ordered: AcmeOrder): Promise<AcmeOrder> =>
  finalizer.finalize(of, ordered, inFlight)
const statusOf = (id: string) => finalizer.statusOf(ledger.acme.orders.get(id) as AcmeOrder)

describe('an order whose certificate takes long', () => {
  it('is processing, also for whoever finalizes it again, and is issued for once', async () => {
    await finalize(request, order)
    await finalize(request, order)
    expect([statusOf('o1'), asked.length]).toEqual(['processing', 1])
    expect(asked[0]?.request).toMatchObject({
      operation: 'order',
      evidence: { kind: 'account', accountId, orderId: 'o1' },
      terms: { profile: 'acme', hosts: [name], listed: [name] },
    })
    asked[0]?.end()
  })

  it('ends invalid with the reason when it is refused at last', async () => {
    await finalize(request, order)
    asked[0]?.end(new CaError('registration_held', 'agent a is held'))
    await until('the order ended', () => statusOf('o1') === 'invalid')
    expect(ledger.acme.orders.get('o1')?.error).toEqual({ type: 'unauthorized', detail: 'agent a is held' })
    const leaves = ledger.audit.tail({ event: 'acme_order_changed', limit: 10 })
    expect(leaves.map(({ bytes }) => JSON.parse(Buffer.from(bytes).toString()))).toMatchObject([
      { order: 'o1', what: 'failed', problem: 'unauthorized' },
    ])
  })

  it('ends invalid without a word about the inside when the HSM fails', async () => {
    await finalize(request, order)
    asked[0]?.end(new Error('CKR_DEVICE_ERROR at /dev/hsm'))
    await until('the order ended', () => statusOf('o1') === 'invalid')
    expect(ledger.acme.orders.get('o1')?.error?.type).toBe('serverInternal')
    expect(JSON.stringify(ledger.acme.orders.get('o1'))).not.toContain('hsm')
  })

  it('lets the next order of its account begin only at its end: a lineage has one intent at a time', async () => {
    const next = await orderWith('o2')
    await finalize(request, order)
    await finalize(request, next)
    expect([statusOf('o1'), statusOf('o2'), asked.length]).toEqual(['processing', 'processing', 1])
    asked[0]?.end()
    await until('the second began', () => asked.length === 2)
    expect(asked[1]?.request.evidence).toMatchObject({ orderId: 'o2' })
    asked[1]?.end()
  })

  it('holds its place among those in work until it ends, and who finds none can come again', async () => {
    const [next, third] = [await orderWith('o2'), await orderWith('o3')]
    await finalize(request, order)
    await finalize(request, next)
    await expect(finalize(request, third)).rejects.toMatchObject({ code: 'overloaded' })
    expect([statusOf('o3'), asked.length]).toEqual(['ready', 1])
    asked[0]?.end()
    await until('the second began', () => asked.length === 2)
    await finalize(request, third)
    expect(statusOf('o3')).toBe('processing')
    asked[1]?.end(new Error('no HSM'))
    await until('the third began', () => asked.length === 3)
    asked[2]?.end()
    await until('nothing is in work', () => statusOf('o3') === 'ready')
    // Every place is free again, the failed one's too.
    for (const id of ['o4', 'o5']) await finalize(request, await orderWith(id))
    expect([statusOf('o4'), statusOf('o5')]).toEqual(['processing', 'processing'])
    for (const at of [3, 4]) {
      await until('it began', () => asked.length > at)
      asked[at]?.end()
    }
  })

  it('takes a place that is kept for renewals once its account has had a certificate, also while the next one is in work', async () => {
    const storm = Promise.withResolvers<void>()
    inFlight = createInFlight(4)
    const beginnings = [1, 2, 3].map(() => inFlight.run(() => storm.promise))
    await expect(finalize(request, order)).rejects.toMatchObject({ code: 'overloaded' })
    const first = await issueIn(world, { instanceId: accountId, newInstance: false })
    await finalize(request, order)
    expect(statusOf('o1')).toBe('processing')
    asked[0]?.end()
    await until('it ended', () => statusOf('o1') !== 'processing')
    await recordIntent(world, renewalOf(world, first))
    await finalize(request, order)
    expect(statusOf('o1')).toBe('processing')
    asked[1]?.end()
    storm.resolve()
    await Promise.all(beginnings)
  })

  it('whose name the registration has lost is not issued for, and is over', async () => {
    const without = { ...request, registration: { ...request.registration, dnsNames: ['b.example'] } }
    await expect(finalize(without, order)).rejects.toMatchObject({ code: 'rejectedIdentifier' })
    expect([statusOf('o1'), asked.length]).toEqual(['invalid', 0])
  })

  it('whose notAfter has come too near or is over is not issued for, and is over', async () => {
    for (const [id, inMs] of [
      ['near', 200_000],
      ['over', -1],
    ] as const) {
      const late = await orderWith(id, { notAfter: Date.now() + inMs })
      await expect(finalize(request, late)).rejects.toMatchObject({ code: 'malformed' })
      expect([statusOf(id), asked.length]).toEqual(['invalid', 0])
    }
  })

  it('whose notBefore has passed begins when its profile says', async () => {
    const hourAgo = Date.now() - 3_600_000
    await finalize(request, await orderWith('old', { notBefore: hourAgo }))
    expect(asked[0]?.request.terms).toMatchObject({ notBefore: null })
    asked[0]?.end()
  })

  it('is asked for again while the ledger says that another issuance of it is in work', async () => {
    await finalize(request, order)
    asked[0]?.end(new CaError('issuance_in_progress', 'busy'))
    await until('it was asked for again', () => asked.length === 2)
    asked[1]?.end()
    await until('nothing is in work', () => statusOf('o1') === 'ready')
  })
})
