import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { toBase64 } from '../../../src/base/bytes.ts'
import { parseCertificate } from '../../../src/pki/certificate.ts'
import { encodePem, parseOnePem } from '../../../src/pki/pem.ts'
import { leaf } from '../../ca/authority.ts'
import { recordIntent, recordIssued, intentOf as storedIntent } from '../../store/make-ledger.ts'
import { createKey } from '../harness.ts'
import { type AdminWorld, createAdminWorld } from './admin-world.ts'

let world: AdminWorld
beforeAll(async () => {
  world = await createAdminWorld()
  await world.register('agent', 'billing')
  await world.register('service', 'orders')
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
})

interface Item {
  readonly serial: string
  readonly state: string
}
const list = async (query: string): Promise<readonly Item[]> => (await world.local(`/certificates?${query}`)).body.items
const serials = async (query: string) => (await list(query)).map(each => each.serial)

describe('issuing for a request that an operator vouches for', () => {
  it.each(['PEM', 'base64'])('gives an identity for %s, and says who vouched', async form => {
    const key = await createKey()
    const csr = form === 'PEM' ? key.csrText : toBase64(key.csr)
    const { status, body } = await world.local('/certificates', { kind: 'service', name: 'orders', csr })
    expect(status).toBe(200)
    expect(body).toMatchObject({ spiffeId: 'spiffe://example.org/service/orders', agent: 'orders', generation: 1 })
    const certificate = parseCertificate(parseOnePem(body.certificate, 'CERTIFICATE'))
    expect([certificate.serialHex, certificate.spkiHashHex]).toEqual([body.serial, key.keyHash])
    const shown = (await world.local(`/certificates/${body.serial}`)).body
    expect(shown).toMatchObject({ requester: 'operator:local', keyHash: key.keyHash, profile: 'service' })
  })

  it('as a dry run decides the same, and records nothing', async () => {
    const key = await createKey()
    const body = { kind: 'agent', name: 'billing', csr: key.csrText, dryRun: true }
    const size = world.ledger.audit.head().size
    const before = (await list('limit=1000')).length
    const planned = await world.local('/certificates', body)
    expect(planned.body).toMatchObject({ agent: 'billing', serial: '', certificate: '', instance: 'new' })
    expect(planned.body.spiffeId).toBe('spiffe://example.org/agent/billing/i/new')
    expect([world.ledger.audit.head().size, (await list('limit=1000')).length]).toEqual([size, before])
    const done = await world.local('/certificates', { ...body, dryRun: false })
    expect(Object.keys(done.body)).toEqual(Object.keys(planned.body))
    const again = await world.local('/certificates', body)
    expect(again.body.code).toBe('conflict')
  })

  it('gives the same certificate for the same key again, also after an attempt that the signer did not finish', async () => {
    const key = await createKey()
    const issue = (name: string) => world.local('/certificates', { kind: 'agent', name, csr: key.csrText })
    // The intents of two attempts that were answered with 503: one that the HSM never saw, and one that it may have seen.
    const [issuer] = world.ledger.issuers.list().filter(each => each.kind === 'issuing')
    const store = { ledger: world.ledger, issuer: issuer!, agent: world.ledger.registrations.find('agent', 'billing')! }
    const at = Date.now()
    const times = { notBefore: at, notAfter: at + 3_600_000, createdAt: at, deadline: at + 60_000 }
    const lost = storedIntent(store, { ...times, keyHash: key.keyHash })
    await recordIntent(store, lost)
    await world.ledger.issuance.recordVoid([{ serial: lost.serial, leaf: leaf('certificate_void') }])
    const orphan = storedIntent(store, {
      ...times,
      keyHash: key.keyHash,
      instanceId: lost.instanceId,
      newInstance: false,
    })
    await recordIntent(store, orphan)
    await world.ledger.issuance.recordOrphaned([{ serial: orphan.serial, at, leaf: leaf('certificate_orphaned') }])
    const done = await issue('billing')
    expect([done.status, done.body.code]).toEqual([200, undefined])
    expect(done.body).toMatchObject({ instance: lost.instanceId, generation: 1 })
    expect((await issue('billing')).body).toMatchObject({ serial: done.body.serial, instance: done.body.instance })
    await world.register('agent', 'another')
    expect((await issue('another')).body.code).toBe('key_in_use')
  })

  it('is refused with one leaf a refusal, whoever decides it', async () => {
    await world.register('agent', 'paused')
    await world.local('/agents/paused/hold', {})
    const { csrText: csr, csr: der } = await createKey()
    const forged = Uint8Array.from(der)
    forged[forged.length - 1]! ^= 1
    for (const [body, code] of [
      [{ kind: 'agent', name: 'paused', csr }, 'registration_held'],
      [{ kind: 'agent', name: 'billing', csr: 'AAAA' }, 'csr_malformed'],
      [{ kind: 'agent', name: 'billing', csr: toBase64(forged) }, 'csr_signature_invalid'],
      [{ kind: 'agent', name: 'billing', csr: toBase64(forged), dryRun: true }, 'csr_signature_invalid'],
      [{ kind: 'agent', name: 'paused', csr, dryRun: true }, 'registration_held'],
      [{ kind: 'service', name: 'agentca', csr }, 'conflict'],
    ] as const) {
      const size = world.ledger.audit.head().size
      expect((await world.local('/certificates', body)).body.code).toBe(code)
      expect(world.ledger.audit.head().size - size, code).toBe(1)
      expect(world.leaves(1)).toMatchObject([{ event: 'request_refused', code, who: 'operator:local' }])
    }
    expect((await world.local('/certificates', { kind: 'agent', name: 'nobody', csr })).status).toBe(404)
  })
})

describe('listing', () => {
  it('shows the newest first, in pages', async () => {
    await world.register('agent', 'paged')
    const made = []
    for (let i = 0; i < 3; i++) made.unshift((await world.credentialsOf('agent', 'paged')).serial)
    const first = (await world.local('/certificates?name=paged&limit=2')).body
    expect(first.items.map((each: Item) => each.serial)).toEqual(made.slice(0, 2))
    expect(first.items[0]).toEqual({
      serial: made[0],
      state: 'issued',
      kind: 'agent',
      agent: 'paged',
      instance: expect.stringMatching(/^[0-9a-f]{32}$/),
      generation: 1,
      notBefore: expect.any(String),
      notAfter: expect.any(String),
      issuedAt: expect.any(String),
      revokedAt: null,
      reason: null,
    })
    const rest = (await world.local(`/certificates?name=paged&limit=2&after=${first.next}`)).body
    expect(rest.items.map((each: Item) => each.serial)).toEqual([made[2]])
    expect(rest.next).toBeNull()
  })

  it('goes by kind, instance and name', async () => {
    const service = (await world.credentialsOf('service', 'orders')).serial
    expect(await serials('kind=service')).toContain(service)
    expect((await list('kind=service')).every(each => 'kind' in each && each.kind === 'service')).toBe(true)
    expect(await serials('kind=operator')).toEqual([])
    const { instanceId } = world.ledger.certificates.get(service)!
    expect(await serials(`instance=${instanceId}`)).toEqual([service])
    expect((await world.local('/certificates?name=nobody')).status).toBe(404)
    expect((await world.local('/certificates?after=xyz')).body.code).toBe('serial_malformed')
  })

  it('finds each state, expired ones by the clock, and never two states for one', async () => {
    const agent = await world.register('agent', 'states')
    const issuer = world.ledger.issuers.list().find(each => each.name === 'issuing-1')!
    const store = { ledger: world.ledger, issuer, agent }
    const at = Date.now()
    const times = { notBefore: at, notAfter: at + 3_600_000, createdAt: at, deadline: at + 60_000 }
    const make = async (name: 'issued' | 'intent', more = {}) => {
      const intent = storedIntent(store, { ...times, ...more })
      await recordIntent(store, intent)
      if (name === 'issued') await recordIssued(store, intent)
      return intent.serial
    }
    const wanted: Record<string, string> = {
      issued: await make('issued'),
      expired: await make('issued', { notAfter: at - 1000, notBefore: at - 2000 }),
      intent: await make('intent'),
      revoked: await make('issued'),
    }
    await world.local('/revoke', { by: 'serial', value: wanted.revoked, reason: 'superseded' })
    for (const [state, serial] of Object.entries(wanted)) {
      expect(await list(`name=states&state=${state}`), state).toMatchObject([{ serial, state }])
      expect((await world.local(`/certificates/${serial}`)).body.state).toBe(state)
    }
    await world.local('/agents/states/hold', {})
    expect(await list('name=states&state=held')).toMatchObject([{ serial: wanted.issued, reason: 'certificateHold' }])
    world.front.time.offset = 7_200_000
    const later = await list('name=states&state=expired')
    expect(await list('name=states&state=held')).toEqual([])
    world.front.time.offset = 0
    expect(later.map(each => each.serial).sort()).toEqual([wanted.issued, wanted.expired].sort())
    for (const state of ['orphaned', 'void']) expect(await list(`name=states&state=${state}`)).toEqual([])
    // Never released: there is a row, and no certificate.
    expect((await world.local(`/certificates/${wanted.intent}`)).body.certificate).toBeNull()
  })
})

describe('one certificate', () => {
  it('is found by its serial as people write it, with its chain', async () => {
    const { serial, cert } = await world.credentialsOf('agent', 'billing')
    const typed = serial.toUpperCase().match(/../g)!.join(':')
    const { body } = await world.local(`/certificates/${typed}`)
    expect(body).toMatchObject({ serial, issuer: 'issuing-1', predecessor: null, replaced: false, certificate: cert })
    expect(body.chain).toBe(encodePem('CERTIFICATE', world.front.ca.issuing.der))
    expect((await world.local(`/certificates/${'ab'.repeat(16)}`)).status).toBe(404)
    expect((await world.local('/certificates/not-a-serial')).body.code).toBe('serial_malformed')
  })
})

describe('a certificate whose signature came after its agent was retired', () => {
  it('was never released, and is not handed out afterwards', async () => {
    const agent = await world.register('agent', 'late')
    const issuer = world.ledger.issuers.list().find(each => each.name === 'issuing-1')!
    const at = Date.now()
    const times = { notBefore: at, notAfter: at + 3_600_000, createdAt: at, deadline: at + 60_000 }
    const store = { ledger: world.ledger, issuer, agent }
    const intent = storedIntent(store, times)
    await recordIntent(store, intent)
    await world.local('/agents/late/retire', {})
    expect(await recordIssued(store, intent)).toBe('refused')
    expect((await world.local(`/certificates/${intent.serial}`)).body).toMatchObject({
      state: 'revoked',
      issuedAt: null,
      certificate: null,
    })
  })
})

describe('revocation', () => {
  it('shows what it hits, does it with a place in the feed, and refuses the next call', async () => {
    await world.register('agent', 'stolen')
    const stolen = await world.credentialsOf('agent', 'stolen')
    const ask = { by: 'serial', value: stolen.serial.toUpperCase(), reason: 'keyCompromise' }
    const planned = (await world.local('/revoke', { ...ask, dryRun: true })).body
    expect(planned).toMatchObject({ dryRun: true, feed: null, value: stolen.serial, radius: { certificates: 1 } })
    expect((await world.front.call('/v1/self', { shown: stolen })).status).toBe(200)
    const done = (await world.local('/revoke', { ...ask, why: 'laptop stolen', expected: 1 })).body
    expect(done).toMatchObject({
      by: 'serial',
      value: stolen.serial,
      reason: 'keyCompromise',
      dryRun: false,
      radius: { certificates: 1, serials: [stolen.serial], registrations: [{ kind: 'agent', name: 'stolen' }] },
      feed: world.ledger.feed.head(),
    })
    expect((await world.front.call('/v1/self', { shown: stolen })).body.code).toBe('certificate_revoked')
    expect((await list('name=stolen'))[0]).toMatchObject({ state: 'revoked', reason: 'keyCompromise' })
  })

  it('refuses a reason that is no end, an unknown name, and more than was confirmed', async () => {
    await world.register('agent', 'kept')
    await world.credentialsOf('agent', 'kept')
    const revoke = async (more: object) =>
      (await world.local('/revoke', { by: 'agent', value: 'kept', reason: 'superseded', ...more })).body
    expect(await revoke({ reason: 'certificateHold' })).toMatchObject({
      status: 422,
      code: 'value_invalid',
      hint: expect.stringContaining('agentca agent hold'),
    })
    expect(await revoke({ value: 'nobody' })).toMatchObject({ status: 404, code: 'not_found' })
    expect(await revoke({ expected: 0 })).toMatchObject({ status: 409, code: 'radius_changed', facts: { found: 1 } })
    expect(await revoke({ by: 'colour' })).toMatchObject({ code: 'request_invalid' })
    expect((await list('name=kept'))[0]).toMatchObject({ state: 'issued' })
  })
})
