import { createPublicKey } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { encodeCheckpoint, encodeNote, originOf, verifyNote } from '../../../src/audit/checkpoint.ts'
import { verifyLog } from '../../../src/audit/verify-log.ts'
import { fromBase64, fromHex } from '../../../src/base/bytes.ts'
import { systemClock } from '../../../src/base/clock.ts'
import type { AdminDeps } from '../../../src/http/admin/deps.ts'
import { encodePem } from '../../../src/pki/pem.ts'
import type { LeafAnswer } from '../../../src/schema/admin-answers.ts'
import { hsmKeys, hsmStatus, hsmTestSign, hsmUnlock } from '../../../src/signer/inspect.ts'
import { caId, profiles } from '../../ca/authority.ts'
import {
  createTokenFixture,
  eventually,
  type RunningSigner,
  signerConfig,
  startSigner,
  type TokenFixture,
} from '../../signer/harness.ts'
import { createKey } from '../harness.ts'
import { type AdminWorld, createAdminWorld } from './admin-world.ts'

// A second signer with keys that the authority lacks: a log key, and test signatures.
let fixture: TokenFixture
let signer: RunningSigner
let world: AdminWorld
beforeAll(async () => {
  fixture = await createTokenFixture()
  signer = startSigner(signerConfig(fixture))
  await signer.supervisor.ready(15_000)
  const { client } = signer
  const hsm: AdminDeps['hsm'] = {
    status: () => hsmStatus(client),
    restarts: () => 3,
    keys: () => hsmKeys(client),
    testSign: key => hsmTestSign(client, { monotonic: systemClock.monotonic, ...(key === undefined ? {} : { key }) }),
    unlock: pin => hsmUnlock(client, pin),
  }
  const sign = async () => {
    const { ledger } = world
    const { size, head } = ledger.audit.head()
    const at = Math.floor(Date.now() / 1000) * 1000
    const origin = originOf(caId)
    const tbs = encodeCheckpoint({ origin, size, head, at })
    const signature = await client.sign({
      purpose: 'checkpoint',
      key: 'log-1',
      tbs,
      priority: 'status',
      deadlineMs: 5000,
    })
    const checkpoint = { size, head, at, note: encodeNote(tbs, origin, signature) }
    await ledger.audit.recordCheckpoint(checkpoint)
    return checkpoint
  }
  const publicKeyPem = encodePem('PUBLIC KEY', fixture.logSpki)
  world = await createAdminWorld('development', { hsm, checkpoints: { now: sign, publicKeyPem } })
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await signer?.[Symbol.asyncDispose]()
  fixture?.remove()
})

const get = async (path: string) => (await world.local(path)).body
const post = async (path: string, body: object = {}) => (await world.local(path, body)).body

describe('the server', () => {
  it('tells its status in one answer', async () => {
    await world.register('agent', 'counted')
    await world.credentialsOf('agent', 'counted')
    await post('/crl/publish')
    const status = await get('/status')
    expect(status).toMatchObject({
      caId,
      trustDomain: 'example.org',
      mode: 'development',
      certificates: { issued: 1, held: 0, revoked: 0, intent: 0, orphaned: 0, void: 0 },
      registrations: { agent: { active: 1, held: 0, retired: 0 }, service: { active: 0 } },
      signer: { state: 'ready', restarts: 3 },
      clock: { state: 'ok' },
      feed: world.ledger.feed.head(),
      audit: { size: world.ledger.audit.head().size },
    })
    expect(status.issuers).toMatchObject([
      { name: 'root-1', kind: 'root', crl: null },
      { name: 'issuing-1', kind: 'issuing', state: 'active', daysLeft: 364, crl: { entries: 0 } },
    ])
  })

  it('knows who asks', async () => {
    expect(await get('/whoami')).toEqual({ name: 'local', role: 'admin', mode: 'development' })
    const eve = await world.operator('eve', 'security')
    expect((await world.call('/whoami', { shown: eve })).body).toMatchObject({ name: 'eve', role: 'security' })
  })

  it('lists profiles with what their files say', async () => {
    const { items } = await get('/profiles')
    expect(items.map((each: { name: string }) => each.name)).toEqual(profiles.list().map(each => each.name))
    expect(await get('/profiles/agent')).toMatchObject({
      kind: 'agent',
      lifetimeSeconds: 3600,
      hash: profiles.get('agent').hash,
      content: { kind: 'agent', recovery: { mode: 'same-key' } },
    })
    expect(await get('/profiles/nothing')).toMatchObject({ code: 'not_found', status: 404 })
  })

  it('publishes CRLs on demand and says who demanded it', async () => {
    const first = await post('/crl/publish')
    expect(first.items).toMatchObject([{ issuer: 'issuing-1', url: 'http://ca.example:8081/crl/issuing-1.crl' }])
    const second = await post('/crl/publish')
    expect(BigInt(second.items[0].number)).toBeGreaterThan(BigInt(first.items[0].number))
    expect(await get('/crl')).toEqual(second)
    expect(world.leaves(4).filter(each => each.action === 'crl_publish')).toMatchObject([{ who: 'operator:local' }, {}])
  })

  it('has its clock looked at and accepted', async () => {
    expect(await get('/clock')).toMatchObject({ state: 'ok' })
    expect(await post('/clock/accept', { why: 'NTP was off' })).toMatchObject({ state: 'ok' })
    expect(world.leaves(1)).toMatchObject([{ event: 'clock_accepted', who: 'operator:local', why: 'NTP was off' }])
  })
})

describe('the CAs', () => {
  it('are listed and shown', async () => {
    const { items } = await get('/issuers')
    expect(items.map((each: { name: string }) => each.name)).toEqual(['root-1', 'issuing-1'])
    expect(await get('/issuers/issuing-1')).toMatchObject({
      kind: 'issuing',
      state: 'active',
      parent: 'root-1',
      keyLabel: 'issuing-1',
      subject: 'CN=agentca test issuing 1',
      fingerprint: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
      certificate: expect.stringContaining('BEGIN CERTIFICATE'),
    })
    expect(await get('/issuers/nothing')).toMatchObject({ code: 'not_found' })
  })

  it('are changed only under their own name', async () => {
    expect(await post('/issuers/issuing-1/retire', { confirm: 'issuing-2' })).toMatchObject({
      code: 'confirmation_needed',
      hint: 'agentca ca retire issuing-1 --confirm issuing-1',
    })
    expect(await post('/issuers/issuing-1/retire', { confirm: 'issuing-1' })).toMatchObject({ code: 'conflict' })
    expect(await post('/issuers/issuing-1/activate', { confirm: 'issuing-1' })).toMatchObject({ code: 'conflict' })
    const { certificate } = await get('/issuers/issuing-1')
    const again = { name: 'issuing-2', keyLabel: 'issuing-1', certificate, confirm: 'issuing-2' }
    expect(await post('/issuers', again)).toMatchObject({ code: 'key_in_use', status: 409 })
  })
})

describe('the signer', () => {
  it('shows its state, its keys with their attributes, and nothing more', async () => {
    expect(await get('/hsm')).toMatchObject({ state: 'ready', pinLatched: false, restarts: 3 })
    const { items } = await get('/hsm/keys')
    expect(items.map((each: { label: string }) => each.label).sort()).toEqual(['issuing-1', 'log-1', 'ocsp-1'])
    expect(Object.keys(items[0]).sort()).toEqual(
      [
        'label',
        'id',
        'curve',
        'sign',
        'sensitive',
        'extractable',
        'alwaysSensitive',
        'neverExtractable',
        'local',
      ].sort(),
    )
    for (const key of items) expect(key).toMatchObject({ sensitive: true, extractable: false, local: true })
  })

  it('signs a test, by name or with each key, and the log says who asked', async () => {
    expect((await post('/hsm/test-sign', { key: 'log-1' })).items).toMatchObject([{ key: 'log-1' }])
    expect(world.leaves(1)).toMatchObject([{ event: 'operator_action', action: 'hsm_test_sign', key: 'log-1' }])
    expect((await post('/hsm/test-sign')).items).toHaveLength(3)
    const before = world.ledger.audit.head()
    const dry = await post('/hsm/test-sign', { key: 'log-1', dryRun: true })
    expect(dry.items).toEqual([{ key: 'log-1', signed: '', signature: '', milliseconds: 0 }])
    expect((await post('/hsm/test-sign', { dryRun: true })).items).toHaveLength(3)
    expect(await post('/hsm/test-sign', { key: 'nothing', dryRun: true })).toMatchObject({ code: 'not_found' })
    expect(world.ledger.audit.head()).toEqual(before)
    expect(await post('/hsm/test-sign', { key: 'nothing' })).toMatchObject({ code: 'not_found', status: 404 })
  })

  it('is unlocked without the PIN reaching the log', async () => {
    expect(await post('/hsm/unlock')).toMatchObject({ state: 'ready' })
    expect(world.leaves(1)).toMatchObject([{ action: 'hsm_unlock', pin: 'pin-source' }])
    // A wrong PIN latches; the right one from pin-source cures it.
    await post('/hsm/unlock', { pin: '0000-wrong' })
    expect(JSON.stringify(world.leaves(50))).not.toContain('0000-wrong')
    await post('/hsm/unlock')
    await eventually('the signer is ready again', async () => (await get('/hsm')).state === 'ready')
  })
})

describe('the audit log', () => {
  it('shows its end, searched by subject and event', async () => {
    await world.local('/agents', { name: 'searched', owner: 'finance' })
    const { items } = await get('/audit/tail?subject=agent:searched&event=registration_created')
    expect(items).toMatchObject([
      { event: 'registration_created', subject: 'agent:searched', content: { who: 'operator:local' } },
    ])
    expect((await get('/audit/tail?limit=3')).items).toHaveLength(3)
    expect((await get('/audit/tail?event=nothing')).items).toEqual([])
  })

  it('finds by an agent what was done to its instances and certificates, and to all agents of its owner', async () => {
    const leavesOf = async (subject: string) => (await get(`/audit/tail?subject=${subject}`)).items
    const registered = async (name: string) => {
      await world.register('agent', name)
      const { serial } = await world.credentialsOf('agent', name)
      return { name, serial, instance: world.ledger.certificates.get(serial)!.instanceId }
    }
    const [one, two] = [await registered('found-1'), await registered('found-2')]
    await post('/revoke', { by: 'serial', value: one.serial, reason: 'superseded' })
    await post('/revoke', { by: 'instance', value: two.instance, reason: 'superseded' })
    await post('/owners/finance/gone', {})
    const eventsOf = async (subject: string) => (await leavesOf(subject)).map((each: LeafAnswer) => each.event)
    expect((await eventsOf('agent:found-1')).slice(0, 2)).toEqual(['owner_gone', 'revoked'])
    expect((await eventsOf('agent:found-2')).slice(0, 2)).toEqual(['owner_gone', 'revoked'])
    expect(await eventsOf(`instance:${two.instance}`)).toEqual(['revoked'])
    await post('/revoke', { by: 'owner', value: 'finance', reason: 'cessationOfOperation' })
    for (const subject of ['owner:finance', 'agent:found-1', 'agent:found-2'])
      expect((await eventsOf(subject)).slice(0, 2)).toEqual(['revoked', 'owner_gone'])
    const [newest] = await leavesOf('agent:found-2')
    expect(newest).toMatchObject({ subject: 'owner:finance', content: { by: 'owner' } })
    expect((await get('/audit/tail?subject=agent:found-1&event=owner_gone&limit=1')).items).toHaveLength(1)
  })

  it('gives its exact bytes in pages, which verify against its signed checkpoint', async () => {
    const before = world.ledger.audit.head()
    expect(await post('/audit/checkpoint', { dryRun: true })).toMatchObject({ size: before.size, note: '' })
    expect(world.ledger.audit.head()).toEqual(before)
    const checkpoint = await post('/audit/checkpoint')
    const log = {
      origin: originOf(caId),
      spki: new Uint8Array(createPublicKey(checkpoint.publicKey).export({ type: 'spki', format: 'der' })),
    }
    expect(verifyNote(checkpoint.note, log)).toMatchObject({ size: checkpoint.size })
    const answers: LeafAnswer[] = []
    let next: string | null = '0'
    while (next !== null) {
      const page = await get(`/audit/leaves?from=${next}&limit=7`)
      answers.push(...page.items)
      next = page.next
    }
    const leaves = answers.map(({ index, event, at, subject, bytes, head }) => ({
      index,
      event,
      at: Date.parse(at),
      subject,
      bytes: fromBase64(bytes!)!,
      leafHash: world.ledger.audit.read(index, 1)[0]!.leafHash,
      head: fromHex(head!)!,
    }))
    const verdict = await verifyLog({ leaves, checkpoints: [checkpoint.note], log })
    expect(verdict).toEqual({ size: world.ledger.audit.head().size, checkpoints: 1, findings: [] })
    expect((await get('/audit/checkpoints')).items[0]).toEqual(checkpoint)
    expect((await get(`/audit/leaves?from=${verdict.size - 1}&limit=1`)).next).toBeNull()
    expect(await get(`/audit/leaves?from=${verdict.size}`)).toEqual({ items: [], next: null })
  })
})

describe('the router', () => {
  it('names the method that a path takes, and refuses what no schema knows', async () => {
    const wrong = await world.local('/revoke')
    expect([wrong.status, wrong.headers.allow]).toEqual([405, 'POST'])
    expect((await world.local('/status', {})).status).toBe(405)
    expect(await get('/status?verbose=1')).toMatchObject({
      code: 'request_invalid',
      facts: { faults: ['verbose: unknown key'] },
    })
    expect(await post('/crl/publish', { force: true })).toMatchObject({ code: 'request_invalid' })
    const { facts } = await post('/operators', { name: 'x', role: 'root', until: 'soon' })
    expect(facts.faults).toEqual([
      expect.stringMatching(/^role: .*"viewer"\|"operator"\|"security"\|"admin"/),
      expect.stringMatching(/^until: .*ISO/),
    ])
    expect((await world.local('/nothing')).status).toBe(404)
    expect((await world.local('/STATUS')).status).toBe(404)
    expect((await world.local('/status/')).status).toBe(404)
    expect((await world.local('/certificates/%ff')).status).toBe(404)
  })
})

describe('production', () => {
  it('lets the socket make the first operator, an admin, and nothing after that', async () => {
    await using production = await createAdminWorld('production')
    const create = (name: string, role: string) => production.local('/operators', { name, role })
    expect((await create('first', 'viewer')).body).toMatchObject({ code: 'conflict' })
    expect((await create('first', 'admin')).body).toMatchObject({ name: 'first', role: 'admin' })
    expect((await create('second', 'admin')).body).toMatchObject({ code: 'operator_certificate_needed', status: 403 })
    expect(production.leaves(1)).toMatchObject([{ event: 'request_refused', code: 'operator_certificate_needed' }])
    expect((await production.local('/whoami')).body).toEqual({ name: 'local', role: 'viewer', mode: 'production' })
    expect((await production.local('/status')).status).toBe(200)
    const shown = await production.credentialsOf('operator', 'first')
    const second = await production.call('/operators', { body: { name: 'second', role: 'viewer' }, shown })
    expect(second.body).toMatchObject({ name: 'second', role: 'viewer' })
    expect(production.leaves(1)).toMatchObject([{ event: 'registration_created', who: 'operator:first' }])
  })

  it('lets an admin in again through the socket: one enrolment, on record, and nobody else', async () => {
    await using production = await createAdminWorld('production')
    const create = (name: string, role: string, shown?: Awaited<ReturnType<AdminWorld['operator']>>) =>
      production.call('/operators', { body: { name, role }, shown })
    const ann = await production.operator('ann', 'admin')
    await create('sam', 'security', ann)
    const recover = (name: string, body: object = {}) => production.local(`/operators/${name}/recover`, body)
    for (const name of ['sam', 'nobody']) {
      const refused = (await recover(name)).body
      expect(refused).toMatchObject({ code: 'conflict', hint: expect.stringContaining('agentca operator recover ann') })
    }
    const size = production.ledger.audit.head().size
    expect((await recover('ann', { dryRun: true })).body).toMatchObject({ token: '', created: false })
    expect(production.ledger.audit.head().size).toBe(size)
    const { status, body } = await recover('ann', { why: 'certificate ended' })
    expect([status, body.created, body.uses]).toEqual([200, false, 1])
    expect(Date.parse(body.expiresAt) - Date.now()).toBeLessThanOrEqual(3_600_000)
    expect(production.leaves(1)).toMatchObject([
      {
        event: 'operator_recovered',
        sub: 'operator:ann',
        who: 'operator:local',
        why: 'certificate ended',
        token: body.id,
      },
    ])
    expect((await production.local('/status')).body.recovered).toMatchObject([{ operator: 'ann' }])
    const key = await createKey()
    const enrolled = await production.front.call('/v1/enroll', {
      body: production.front.enrolBody(body.token, key.csrText),
    })
    expect([enrolled.status, enrolled.body.agent]).toEqual([201, 'ann'])
    const over = await production.call('/operators/ann/recover', { body: {}, shown: ann })
    expect([over.status, over.body.code]).toEqual([403, 'socket_only'])
  })

  it('registers a new admin through the socket where none is left, and no other', async () => {
    await using production = await createAdminWorld('production')
    await production.operator('sam', 'security')
    const recover = async (name: string, body: object = {}) =>
      (await production.local(`/operators/${name}/recover`, body)).body
    expect(await recover('sam')).toMatchObject({ code: 'conflict' })
    expect(await recover('eve', { dryRun: true })).toMatchObject({ created: true, token: '' })
    expect(production.ledger.registrations.find('operator', 'eve')).toBeNull()
    expect(await recover('eve')).toMatchObject({ created: true, token: expect.stringMatching(/./) })
    expect(production.ledger.registrations.find('operator', 'eve')).toMatchObject({ operatorRole: 'admin' })
    expect(await recover('mallory')).toMatchObject({ code: 'conflict' })
  })
})
