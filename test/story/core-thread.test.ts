// The core as one thread, with nothing faked: keys in SoftHSM2, a signer process, the SQLite ledger, and OpenSSL as the judge.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { emptyHead, extendHead, hashLeaf } from '../../src/audit/leaf.ts'
import { toHex } from '../../src/base/bytes.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import { createRequester, createTestAuthority, leaf, type TestAuthority } from '../ca/authority.ts'

let ca: TestAuthority
beforeAll(async () => {
  ca = await createTestAuthority(path => openSqliteLedger(path, { clock: systemClock, log: silentLog }))
})
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

const pem = (der: Uint8Array) => encodePem('CERTIFICATE', der)
const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'fulfilled',
    (error: { code?: string; message: string }) => error.code ?? error.message,
  )

/** `openssl verify` with the present CRL; the root's own CRL comes from a ceremony, so only the leaf is checked here. */
const judge = async (certificate: Uint8Array): Promise<string> => {
  const crl = await ca.publishCrl()
  try {
    return ca.openssl(
      [
        'verify',
        '-x509_strict',
        '-crl_check',
        '-CAfile',
        'root.pem',
        '-untrusted',
        'issuing.pem',
        '-CRLfile',
        'crl.pem',
        'leaf.pem',
      ],
      {
        'root.pem': pem(ca.root.der),
        'issuing.pem': pem(ca.issuing.der),
        'crl.pem': encodePem('X509 CRL', crl.der),
        'leaf.pem': pem(certificate),
      },
    )
  } catch (error) {
    return (error as { stderr: string }).stderr
  }
}

const enrolled = async (name: string) => {
  const registration = await ca.registerAgent(name)
  const token = await ca.createToken(registration.id)
  const requester = await createRequester()
  return { registration, token, requester, first: await ca.enrol(token, requester) }
}

describe('from an enrolment to a refusal', () => {
  it('issues a certificate that OpenSSL accepts, and that it refuses after the agent was revoked', async () => {
    const { first } = await enrolled('billing')
    expect(first.answer).toBe('new')
    expect(await judge(first.certificate)).toBe('leaf.pem: OK\n')
    const selector = { by: 'agent', value: 'billing' } as const
    const { radius } = await ca.ledger.revocations.revoke({
      selector,
      reason: 'keyCompromise',
      at: Date.now(),
      expected: 1,
      leaf: () => leaf('revoked'),
    })
    expect(radius).toMatchObject({ certificates: 1, instances: 1, serials: [first.record.serial] })
    expect(await judge(first.certificate)).toContain('certificate revoked')
    expect(await codeOf(ca.renew(first.record.serial, await createRequester()))).toBe('instance_revoked')
  })

  it('repeats the answer for the same token and key, and refuses another key', async () => {
    const { token, requester, first } = await enrolled('repeats')
    const again = await ca.enrol(token, requester)
    expect(again.answer).toBe('again')
    expect(again.certificate).toEqual(first.certificate)
    expect(await codeOf(ca.enrol(token, await createRequester()))).toBe('token_reuse')
    expect(ca.ledger.audit.tail({ event: 'token_reuse', limit: 1 })[0]?.subject).toBe('agent:repeats')
  })

  it('lets exactly one of 20 keys win a one-use token', async () => {
    const registration = await ca.registerAgent('race')
    const token = await ca.createToken(registration.id)
    const requesters = await Promise.all(Array.from({ length: 20 }, createRequester))
    const outcomes = await Promise.all(requesters.map(requester => codeOf(ca.enrol(token, requester))))
    expect(outcomes.filter(outcome => outcome === 'fulfilled')).toHaveLength(1)
    expect(outcomes.filter(outcome => outcome === 'token_reuse')).toHaveLength(19)
  })

  it('shows a held agent as certificateHold, and gives its certificate back at release', async () => {
    const { first } = await enrolled('pausing')
    const change = (state: 'held' | 'active') =>
      ca.ledger.registrations.change({
        kind: 'agent',
        name: 'pausing',
        at: Date.now(),
        decide: () => ({ set: {}, state }),
        leaf: () => leaf('registration_changed'),
      })
    await change('held')
    expect(await judge(first.certificate)).toContain('certificate revoked')
    expect(await codeOf(ca.renew(first.record.serial, await createRequester()))).toBe('registration_held')
    await change('active')
    expect(await judge(first.certificate)).toBe('leaf.pem: OK\n')
  })
})

describe('renewal lineage', () => {
  it('costs nothing when the answer is lost, 20 times in a row', async () => {
    let { record } = (await enrolled('loses-answers')).first
    for (let i = 0; i < 20; i++) {
      const requester = await createRequester()
      const lost = await ca.renew(record.serial, requester)
      const again = await ca.renew(record.serial, requester)
      expect(again.record.serial).toBe(lost.record.serial)
      record = again.record
    }
    expect(record.generation).toBe(21)
  })

  it('replaces a successor once, then locks that instance and no other, whoever came first', async () => {
    const registration = await ca.registerAgent('cloned')
    const token = await ca.createToken(registration.id, 2)
    const [victim, bystander] = [
      await ca.enrol(token, await createRequester()),
      await ca.enrol(token, await createRequester()),
    ]
    const thief = await ca.renew(victim.record.serial, await createRequester())
    const owner = await ca.renew(victim.record.serial, await createRequester())
    expect(ca.ledger.certificates.get(thief.record.serial)).toMatchObject({
      state: 'revoked',
      reason: 'superseded',
      replaced: true,
    })
    expect(await codeOf(ca.renew(thief.record.serial, await createRequester()))).toBe('lineage_conflict')
    expect(await codeOf(ca.renew(owner.record.serial, await createRequester()))).toBe('instance_locked')
    expect(ca.ledger.instances.get(owner.record.instanceId)?.state).toBe('locked')
    expect((await ca.renew(bystander.record.serial, await createRequester())).answer).toBe('new')
  })
})

describe('faults', () => {
  it('releases nothing that was held while the HSM was signing', async () => {
    const registration = await ca.registerAgent('held-in-flight')
    const token = await ca.createToken(registration.id)
    let settled = false
    const running = codeOf(ca.enrol(token, await createRequester())).finally(() => {
      settled = true
    })
    // Step 4 is durable once the intent is seen; the hold then lands before step 6 or the release was before the hold.
    while (
      !settled &&
      ca.ledger.certificates.list({ registration: { kind: 'agent', name: 'held-in-flight' }, limit: 1 }).rows.length ===
        0
    )
      await new Promise(setImmediate)
    await ca.ledger.registrations.change({
      kind: 'agent',
      name: 'held-in-flight',
      at: Date.now(),
      decide: () => ({ set: {}, state: 'held' }),
      leaf: () => leaf('registration_changed'),
    })
    const outcome = await running
    const [row] = ca.ledger.certificates.list({
      registration: { kind: 'agent', name: 'held-in-flight' },
      limit: 1,
    }).rows
    expect([outcome, row?.state]).toEqual(outcome === 'fulfilled' ? ['fulfilled', 'held'] : ['not_released', 'revoked'])
  })

  it('survives the death of the signer: no wrong answer, and every client succeeds after a retry', async () => {
    const clients = await Promise.all(
      Array.from({ length: 10 }, async (_, i) => {
        const registration = await ca.registerAgent(`client-${i}`)
        return { token: await ca.createToken(registration.id), requester: await createRequester() }
      }),
    )
    const pid = ca.signer.supervisor.state().pid
    const first = clients.map(client => codeOf(ca.enrol(client.token, client.requester)))
    process.kill(pid as number, 'SIGKILL')
    for (const outcome of await Promise.all(first)) expect(['fulfilled', 'signer_unavailable']).toContain(outcome)
    await ca.signer.supervisor.ready(15_000)
    for (const client of clients) {
      let outcome = ''
      for (let attempt = 0; attempt < 50 && outcome !== 'fulfilled'; attempt++) {
        outcome = await codeOf(ca.enrol(client.token, client.requester))
        if (outcome === 'signer_unavailable') await new Promise(resolve => setTimeout(resolve, 100))
      }
      expect(outcome).toBe('fulfilled')
    }
  })

  it('leaves no serial twice and an unbroken audit chain', () => {
    const rows = ca.ledger.certificates.list({ limit: 1000 }).rows
    expect(new Set(rows.map(row => row.serial)).size).toBe(rows.length)
    expect(rows.length).toBeGreaterThan(30)
    let head = emptyHead
    for (const each of ca.ledger.audit.read(0, 10_000)) {
      head = extendHead(head, hashLeaf(each.bytes))
      expect(toHex(each.head)).toBe(toHex(head))
    }
  })
})
