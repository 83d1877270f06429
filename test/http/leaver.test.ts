// The leaver webhook: what proves a delivery, what it does, and that nobody else makes anybody leave.
import { execFileSync } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Lifecycle } from '../../src/ca/lifecycle.ts'
import { openWebhookSecret } from '../../src/server/webhook-secret.ts'
import { StoreError } from '../../src/store/errors.ts'
import { blockWith } from '../setup/documents.ts'
import { type AdminWorld, createAdminWorld } from './admin/admin-world.ts'
import { type Ask, createCountingMetrics, type Reply, type Shown } from './harness.ts'

const secret = 's'.repeat(40)
const path = '/v1/webhooks/leaver'

let world: AdminWorld
let ask: (options: Ask) => Promise<Reply>
let unconfigured: (options: Ask) => Promise<Reply>
let operators: readonly [security: Shown, viewer: Shown]
let clockMs = Date.now()
let broken = false
const counting = createCountingMetrics()

beforeAll(async () => {
  world = await createAdminWorld('production')
  const leaver = {
    clock: { now: () => clockMs, monotonic: () => performance.now() },
    lifecycle: {
      ownerGone: (...given: Parameters<Lifecycle['ownerGone']>) =>
        broken ? Promise.reject(new StoreError('store_failed', 'no room')) : world.deps.lifecycle.ownerGone(...given),
    },
    owners: world.ledger.owners,
    registrations: world.ledger.registrations,
    audit: world.ledger.audit,
    metrics: counting.metrics,
    toleranceMs: 300_000,
  }
  const serve = async (current: string | null) => {
    const { call } = await world.front.serve({ leaver: { ...leaver, secret: () => current } })
    return (options: Ask) => call(path, options)
  }
  ask = await serve(secret)
  unconfigured = await serve(null)
  operators = [await world.operator('op-sec', 'security'), await world.operator('op-view', 'viewer')]
})
afterAll(() => world?.[Symbol.asyncDispose]())

const signed = (body: string, at = clockMs, key = secret): Ask => {
  const seconds = Math.floor(at / 1000)
  const mac = createHmac('sha256', key).update(`${seconds}.${body}`).digest('hex')
  return { body, headers: { 'Agentca-Signature': `t=${seconds},v1=${mac}` } }
}
const setup = { requestId: 'setup', who: 'operator:test', source: 'local' }
const blank = { purpose: '', profile: null, roles: [], attributes: {}, dnsNames: [], instanceLimit: null, until: null }
const leaves = (owner: string) => JSON.stringify({ owner, event: 'leaver' })

describe('a delivery', () => {
  test('that proves itself holds the agents of whoever left, and the audit log says who said so', async () => {
    await world.register('agent', 'billing')
    const held = await ask(signed(leaves('finance')))
    expect([held.status, held.body]).toEqual([
      200,
      { owner: 'finance', result: 'gone', agents: ['billing'], certificates: 0 },
    ])
    expect(world.ledger.owners.find('finance')?.state).toBe('gone')
    expect(world.ledger.registrations.find('agent', 'billing')?.state).toBe('held')
    expect(world.front.leavesOf(held)).toMatchObject([
      { event: 'owner_gone', sub: 'owner:finance', who: 'webhook:leaver', why: 'leaver' },
    ])
    clockMs += 1000
    const again = await ask(signed(leaves('finance')))
    expect([again.status, again.body.result]).toEqual([200, 'gone_already'])
  })

  test('is signed by openssl as docs/orphans.md shows', async () => {
    const { text } = blockWith('docs/orphans.md', 'sh', 'Agentca-Signature')
    const directory = mkdtempSync(join(tmpdir(), 'agentca-leaver-'))
    try {
      const file = join(directory, 'leaver.secret')
      writeFileSync(file, `${secret}\n`)
      // The clock of this test is not the machine's.
      const script = text
        .replace('/etc/agentca/leaver.secret', file)
        .replace('$(date +%s)', String(Math.floor(clockMs / 1000)))
        .replace(/^curl .*$/m, 'printf "%s\\n%s\\n" "$body" "t=$t,v1=$mac"')
      const [body, signature] = execFileSync('sh', ['-euc', script], { encoding: 'utf8' }).split('\n') as [
        string,
        string,
      ]
      const reply = await ask({ body, headers: { 'Agentca-Signature': signature } })
      expect([reply.status, reply.body]).toMatchObject([200, { owner: 'finance@example.org', result: 'unknown' }])
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })

  test.each(['nobody-here', `${'n'.repeat(64)}@${'example.'.repeat(31)}org`])(
    'about somebody who never owned anything is no error, counted, and in the audit log: %s',
    async owner => {
      const reply = await ask(signed(leaves(owner)))
      expect([reply.status, reply.body]).toEqual([200, { owner, result: 'unknown', agents: [], certificates: 0 }])
      expect(world.front.leavesOf(reply)).toMatchObject([
        { event: 'leaver_unknown', sub: `owner:${owner}`, who: 'webhook:leaver' },
      ])
      expect(counting.counted.at(-1)).toMatchObject({ name: 'agentca_leavers_total', labels: { result: 'unknown' } })
    },
  )

  test('reaches an address in every spelling of its case, and other names only as they are', async () => {
    const own = async (name: string, owner: string) =>
      world.deps.registry.create(
        { ...blank, kind: 'agent', name, owner, operatorRole: null },
        { context: setup, dryRun: false },
      )
    await own('lower', 'carol@example.org')
    await own('upper', 'CAROL@example.org')
    await own('plain', 'carol')
    const reply = await ask(signed(leaves('Carol@Example.ORG')))
    expect([reply.status, reply.body]).toMatchObject([200, { owner: 'Carol@Example.ORG', result: 'gone' }])
    expect([...(reply.body.agents as string[])].sort()).toEqual(['lower', 'upper'])
    expect((await ask(signed(leaves('Carol')))).body.result).toBe('unknown')
    const states = ['lower', 'upper', 'plain'].map(name => world.ledger.registrations.find('agent', name)?.state)
    expect(states).toEqual(['held', 'held', 'active'])
  })

  test('that could not be carried out may be sent again as it was', async () => {
    await world.ledger.owners.ensure('dave', Date.now(), {
      event: 'owner_created',
      at: Date.now(),
      subject: null,
      bytes: new TextEncoder().encode('{}'),
    })
    const delivery = signed(leaves('dave'))
    broken = true
    try {
      expect((await ask(delivery)).status).toBe(503)
    } finally {
      broken = false
    }
    const again = await ask(delivery)
    expect([again.status, again.body.result]).toEqual([200, 'gone'])
    expect((await ask(delivery)).body.code).toBe('webhook_replayed')
  })

  test.each([
    ['without a signature', () => ({ body: leaves('sales') }), 'webhook_signature_invalid'],
    ['with another secret', () => signed(leaves('sales'), clockMs, 'x'.repeat(40)), 'webhook_signature_invalid'],
    [
      'whose body was changed',
      () => ({ ...signed(leaves('marketing')), body: leaves('sales') }),
      'webhook_signature_invalid',
    ],
    ['from too long ago', () => signed(leaves('sales'), clockMs - 301_000), 'webhook_not_current'],
    ['from the future', () => signed(leaves('sales'), clockMs + 302_000), 'webhook_not_current'],
  ])('%s is refused with 401, audited, and does nothing', async (_, made, code) => {
    await world.ledger.owners.ensure('sales', Date.now(), {
      event: 'owner_created',
      at: Date.now(),
      subject: null,
      bytes: new TextEncoder().encode('{}'),
    })
    const reply = await ask(made())
    expect([reply.status, reply.body.code]).toEqual([401, code])
    expect(world.front.leavesOf(reply)).toMatchObject([{ event: 'request_refused', code, op: `POST ${path}` }])
    expect(world.ledger.owners.find('sales')?.state).toBe('active')
  })

  test('is taken once: overheard and sent again it is refused', async () => {
    const delivery = signed(leaves('twice'))
    expect((await ask(delivery)).status).toBe(200)
    const again = await ask(delivery)
    expect([again.status, again.body.code]).toEqual([401, 'webhook_replayed'])
  })

  test.each([
    ['{"owner":"sales"}', 'request_invalid'],
    ['{"owner":"sales","event":"joiner"}', 'request_invalid'],
    ['{"owner":"sales","event":"leaver","admin":true}', 'request_invalid'],
    ['no json', 'body_malformed'],
  ])('that says %s is refused as a body', async (body, code) => {
    const reply = await ask(signed(body))
    expect(reply.body.code).toBe(code)
    expect(world.ledger.owners.find('sales')?.state).toBe('active')
  })

  test('is refused where no provider is configured', async () => {
    const reply = await unconfigured(signed(leaves('sales')))
    expect([reply.status, reply.body.code, reply.body.hint]).toEqual([
      401,
      'webhook_signature_invalid',
      expect.stringContaining('webhooks.in.secretFile'),
    ])
  })

  test('needs no signature from an operator with role security, and no less than that', async () => {
    const [security, viewer] = operators
    const refused = await unconfigured({ body: leaves('sales'), shown: viewer })
    expect([refused.status, refused.body.code]).toEqual([403, 'role_insufficient'])
    const done = await unconfigured({ body: leaves('sales'), shown: security })
    expect([done.status, done.body.result]).toEqual([200, 'gone'])
    expect(world.front.leavesOf(done)).toMatchObject([{ event: 'owner_gone', who: 'operator:op-sec' }])
  })

  test('makes nobody leave who owns an operator above the one who calls, as by the admin API', async () => {
    for (const owner of ['alice', 'bob'])
      await world.deps.registry.create(
        { ...blank, kind: 'operator', name: `op-${owner}`, owner, operatorRole: 'admin' },
        { context: setup, dryRun: false },
      )
    const refused = await ask({ body: leaves('alice'), shown: operators[0] })
    expect([refused.status, refused.body.code]).toEqual([403, 'role_insufficient'])
    expect(world.ledger.owners.find('alice')?.state).toBe('active')
    const provider = await ask(signed(leaves('alice')))
    expect([provider.status, provider.body.result]).toEqual([200, 'gone'])
  })

  test('with another method is told which one there is', async () => {
    const reply = await ask({})
    expect([reply.status, reply.headers.allow]).toEqual([405, 'POST'])
  })
})

test('the secret comes from a file, is long, and is read again on demand', () => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-secret-'))
  try {
    const file = join(directory, 'secret')
    expect(() => openWebhookSecret(file)).toThrow(/webhooks\.in\.secretFile/)
    writeFileSync(file, 'short\n')
    expect(() => openWebhookSecret(file)).toThrow(/32 bytes or more/)
    writeFileSync(file, `${secret}\n`)
    const held = openWebhookSecret(file)
    expect(held.current()).toBe(secret)
    writeFileSync(file, `${'n'.repeat(40)}\n`)
    held.reload()
    expect(held.current()).toBe('n'.repeat(40))
    writeFileSync(file, '')
    expect(() => held.reload()).toThrow(/32 bytes or more/)
    expect([held.current(), openWebhookSecret(undefined).current()]).toEqual(['n'.repeat(40), null])
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
})
