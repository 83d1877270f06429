// The life of ACME accounts and orders at a CA as it is served: what one gets, what closes it, what time does to it, and what other protocols
// see of it. Foreign clients are test/compat's, bad input is acme-bad-input's.
import { createPublicKey, sign, X509Certificate } from 'node:crypto'
import { rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseCertificate } from '../../src/pki/certificate.ts'
import { createCsr } from '../../src/pki/csr.ts'
import { dnsName, ipName, uriName } from '../../src/pki/general-names.ts'
import { serialFromHex } from '../../src/pki/serial.ts'
import type { RunningServer } from '../../src/server/serve.ts'
import { type Ask, ask, createKey, type Reply } from '../http/harness.ts'
import {
  type Account,
  AcmeRequests,
  accountKey,
  type Binding,
  createAccountKey,
  derOf,
  leafOf,
  must,
  type OrderedCertificate,
  requestFor,
  signed,
} from './acme-requests.ts'
import { createStoryHome, type StoryHome } from './ca-process.ts'
import { checkInvariants, noEvidence } from './invariants.ts'
import { createOperator, type Operator } from './operator.ts'
import { serveHere } from './served-here.ts'

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour

let home: StoryHome
let server: RunningServer
let operator: Operator
let acme: AcmeRequests
const time = { aheadMs: 0 }
const now = (): number => Date.now() + time.aheadMs

beforeAll(async () => {
  home = await createStoryHome({
    AGENTCA_AUDIT_CHECKPOINTEVERY: '1h',
    // Of no effect where external accounts are required, which they are by default.
    AGENTCA_ACME_UNBOUNDSERVICE: 'nobody',
  })
  server = await serveHere(home, time)
  operator = createOperator(home.env, dirname(home.paths.home))
  acme = await AcmeRequests.at(server.line.api)
}, 180_000)
afterAll(async () => {
  acme?.close()
  await server?.close(0)
  home?.remove()
})

let made = 0
const bindingFor = async (kind: 'agent' | 'service', more = '', eab = ''): Promise<Binding & { name: string }> => {
  const name = `life-${++made}`
  await operator.json(
    `${kind} create ${name} ${kind === 'agent' ? '--owner stories' : ''} ${more}`.trim().replace(/ +/g, ' '),
  )
  const binding = await operator.json<Binding>(`acme eab create --${kind} ${name} ${eab}`.trim())
  return { ...binding, name }
}
const accountFor = async (kind: 'agent' | 'service' = 'agent', more = '', eab = '') => {
  const binding = await bindingFor(kind, more, eab)
  return { ...(await acme.account(binding)), name: binding.name, own: `${binding.name}.${kind}.agentca.local` }
}

const urn = 'urn:ietf:params:acme:error:'
const refusal = (reply: Reply) => [reply.status, String(reply.body?.type).replace(urn, '')]
const idOf = ({ kid }: Account): string => kid.split('/').at(-1) as string
const serialOf = (pem: string): string => new X509Certificate(pem).serialNumber.toLowerCase()
/** RFC 9773 §4.1. */
const certificateId = (pem: string): string => {
  const { authorityKeyIdentifier } = parseCertificate(leafOf(pem))
  const parts = [authorityKeyIdentifier?.keyId as Uint8Array, serialFromHex(serialOf(pem))]
  return parts.map(each => Buffer.from(each).toString('base64url')).join('.')
}
const get = (url: string, asked: Ask = {}): Promise<Reply> => {
  const { port, pathname, search } = new URL(url)
  return ask(Number(port), pathname + search, { method: 'GET', ...asked })
}

describe('the directory', () => {
  it('lists resources and profiles under publicUrl, whatever the Host header says', async () => {
    const url = `${server.line.api}/acme/directory`
    const { body, headers } = await get(url, { headers: { Host: 'evil.example' } })
    expect(body).toMatchObject({
      newOrder: `${server.line.api}/acme/new-order`,
      renewalInfo: `${server.line.api}/acme/renewal-info`,
      meta: {
        externalAccountRequired: true,
        profiles: { acme: expect.any(String), 'acme-service': expect.any(String) },
      },
    })
    expect(headers).not.toHaveProperty('access-control-allow-origin')
    expect(headers).not.toHaveProperty('link')
  })

  it('gives nonces by HEAD and GET, with the statuses of RFC 8555 §7.2 and a link back', async () => {
    for (const [method, status] of [
      ['HEAD', 200],
      ['GET', 204],
    ] as const) {
      const reply = await get(acme.directory.newNonce, { method })
      expect([reply.status, reply.headers['cache-control']]).toEqual([status, 'no-store'])
      expect(reply.headers['replay-nonce']).toMatch(/^[A-Za-z0-9_-]+$/)
      expect(reply.headers.link).toBe(`<${server.line.api}/acme/directory>;rel="index"`)
    }
    expect(refusal(await get(acme.directory.newOrder))).toEqual([405, 'malformed'])
  })
})

describe('an agent without DNS names', () => {
  it('orders the name it has by itself, and its certificate carries its SPIFFE ID beside it', async () => {
    const account = await accountFor()
    const { pem, order } = await acme.certificate(account, [account.own])
    const leaf = new X509Certificate(pem)
    const spiffeId = `spiffe://agentca.local/agent/${account.name}/i/${idOf(account)}`
    expect(leaf.subjectAltName?.split(', ').sort()).toEqual([`DNS:${account.own}`, `URI:${spiffeId}`])
    expect(leaf.subject).toBe(`CN=agent-${account.name}`)
    const life = leaf.validToDate.getTime() - leaf.validFromDate.getTime()
    expect(life).toBe(7 * day + minute)
    expect(order.body.profile).toBe('acme')
    expect(await operator.json(`instance show ${idOf(account)}`)).toMatchObject({
      state: 'active',
      serial: serialOf(pem),
    })
  })

  it('may name its own SPIFFE ID in the request, and no other', async () => {
    const account = await accountFor()
    const order = must(await acme.newOrder(account, [account.own]), 201)
    const own = `spiffe://agentca.local/agent/${account.name}/i/${idOf(account)}`
    const wrong = await createKey([dnsName(account.own), uriName(`${own}0`)])
    expect(refusal(await acme.post(order.body.finalize, { csr: derOf(wrong) }, account))).toEqual([400, 'badCSR'])
    const right = await createKey([dnsName(account.own), uriName(own)])
    expect(must(await acme.post(order.body.finalize, { csr: derOf(right) }, account), 200).body.status).toBe('valid')
  })
})

describe('a service', () => {
  it('orders registered and bound names and addresses together (RFC 8738)', async () => {
    const account = await accountFor('service', '--dns a.internal', '--dns *.b.internal --ip 192.0.2.7')
    const wanted = [
      { type: 'dns', value: 'A.internal' },
      { type: 'dns', value: '*.b.internal' },
      { type: 'ip', value: '192.0.2.7' },
    ]
    const order = must(await acme.post(acme.directory.newOrder, { identifiers: wanted }, account), 201)
    expect(order.body).toMatchObject({ status: 'ready', profile: 'acme-service' })
    const wildcard = must(await acme.post(order.body.authorizations[1], undefined, account), 200).body
    expect(wildcard).toMatchObject({ status: 'valid', wildcard: true, identifier: { value: 'b.internal' } })
    const key = await createKey([dnsName('a.internal'), dnsName('*.b.internal'), ipName(Uint8Array.of(192, 0, 2, 7))])
    const done = must(await acme.post(order.body.finalize, { csr: derOf(key) }, account), 200)
    const pem = must(await acme.post(done.body.certificate, undefined, account), 200).text
    expect(new X509Certificate(pem).subjectAltName).toContain('IP Address:192.0.2.7')
  })

  it('is told which of its names nobody granted, each in a subproblem', async () => {
    const account = await accountFor('service', '--dns a.internal')
    const reply = await acme.newOrder(account, ['a.internal', 'b.internal', 'c.internal'])
    expect(refusal(reply)).toEqual([400, 'rejectedIdentifier'])
    expect(reply.body.subproblems.map((each: { identifier: { value: string } }) => each.identifier.value)).toEqual([
      'b.internal',
      'c.internal',
    ])
    expect(reply.body.detail).toContain(`agentca acme eab create --service ${account.name}`)
  })
})

describe('an order', () => {
  it('has one certificate, however often and with whatever request it is finalized', async () => {
    const account = await accountFor()
    const { order, pem } = await acme.certificate(account, [account.own])
    const other = await requestFor([account.own])
    const again = must(await acme.post(order.body.finalize, { csr: derOf(other) }, account), 200)
    expect(again.body.certificate).toBe(order.body.certificate)
    expect(await operator.json<unknown[]>(`cert list --agent ${account.name}`)).toHaveLength(1)
    const chain = await acme.post(order.body.certificate, undefined, account)
    expect([chain.text, chain.headers['content-type']]).toEqual([pem, 'application/pem-certificate-chain'])
    expect(pem.match(/BEGIN CERTIFICATE/g)).toHaveLength(2)
  })

  it('is finalized once by requests that come at once', async () => {
    const account = await accountFor()
    const order = must(await acme.newOrder(account, [account.own]), 201)
    const keys = await Promise.all(Array.from({ length: 4 }, () => requestFor([account.own])))
    const replies: Reply[] = []
    const others = await Promise.all(keys.map(() => AcmeRequests.at(server.line.api)))
    await Promise.all(
      keys.map(async (key, i) => {
        replies.push(await (others[i] as AcmeRequests).post(order.body.finalize, { csr: derOf(key) }, account))
        others[i]?.close()
      }),
    )
    expect(replies.map(({ status }) => status)).toEqual([200, 200, 200, 200])
    await acme.settled(account, order.headers.location as string)
    expect(await operator.json<unknown[]>(`cert list --agent ${account.name}`)).toHaveLength(1)
  })

  it('takes times within the profile, and no others', async () => {
    const account = await accountFor()
    const notAfter = new Date(Math.floor((now() + hour) / 1000) * 1000).toISOString()
    const { pem, order } = await acme.certificate(account, [account.own], { notAfter })
    expect(new X509Certificate(pem).validToDate.toISOString()).toBe(notAfter)
    expect(order.body.notAfter).toBe(notAfter.replace('.000Z', 'Z'))
    for (const wrong of [
      { notAfter: new Date(now() + 8 * day).toISOString() },
      { notAfter: new Date(now() + minute).toISOString() },
      { notBefore: new Date(now() + hour).toISOString() },
      { notAfter: 'tomorrow' },
    ])
      expect(refusal(await acme.newOrder(account, [account.own], wrong)), JSON.stringify(wrong)).toEqual([
        400,
        'malformed',
      ])
    const profile = await acme.newOrder(account, [account.own], { profile: 'acme-service' })
    expect(refusal(profile)).toEqual([400, 'invalidProfile'])
  })

  it('for a name that the registration has lost since is invalid, and the next one leaves it out', async () => {
    const account = await accountFor('service', '--dns kept.internal --dns lost.internal')
    const names = ['kept.internal', 'lost.internal']
    const order = must(await acme.newOrder(account, names), 201)
    await operator.json(`service update ${account.name} --dns kept.internal`)
    const finalized = await acme.post(order.body.finalize, { csr: derOf(await requestFor(names)) }, account)
    expect(refusal(finalized)).toEqual([400, 'rejectedIdentifier'])
    expect(finalized.body.subproblems).toMatchObject([{ identifier: { value: 'lost.internal' } }])
    const url = order.headers.location as string
    expect(must(await acme.post(url, undefined, account), 200).body.status).toBe('invalid')
    await acme.certificate(account, ['kept.internal'])
  })

  it('is one of a bounded number, and the list has them by pages (RFC 8555 §7.1.2.1)', async () => {
    const account = await accountFor()
    const urls: string[] = []
    for (let i = 0; i < 60; i++)
      urls.push(must(await acme.newOrder(account, [account.own]), 201).headers.location as string)
    const limited = await acme.newOrder(account, [account.own])
    expect(refusal(limited)).toEqual([429, 'rateLimited'])
    expect(Number(limited.headers['retry-after'])).toBeGreaterThan(0)
    const first = must(await acme.post(`${account.kid}/orders`, undefined, account), 200)
    const next = /<([^>]+)>;rel="next"/.exec(String(first.headers.link))?.[1] as string
    const second = must(await acme.post(next, undefined, account), 200)
    expect([...first.body.orders, ...second.body.orders]).toEqual(urls.toReversed())
    expect(second.headers.link).not.toContain('rel="next"')
  })
})

describe('renewal information (RFC 9773)', () => {
  const infoOf = async (pem: string) => {
    const reply = must(await get(`${acme.directory.renewalInfo}/${certificateId(pem)}`), 200)
    const { start, end } = reply.body.suggestedWindow
    return { start: Date.parse(start), end: Date.parse(end), retryAfter: Number(reply.headers['retry-after']) }
  }

  it('suggests the middle of a life; after a revocation and while held, what is over', async () => {
    const account = await accountFor()
    const { pem } = await acme.certificate(account, [account.own])
    const { validFromDate, validToDate } = new X509Certificate(pem)
    const [from, life] = [validFromDate.getTime(), validToDate.getTime() - validFromDate.getTime()]
    const fresh = await infoOf(pem)
    expect((fresh.start - from) / life).toBeCloseTo(0.5, 3)
    expect((fresh.end - from) / life).toBeCloseTo(0.66, 3)
    expect(fresh.retryAfter).toBe(6 * 3600)
    await operator.json(`agent hold ${account.name}`)
    expect((await infoOf(pem)).end).toBeLessThan(now())
    await operator.json(`agent release ${account.name}`)
    expect(await infoOf(pem)).toEqual(fresh)
    await operator.json(`revoke --serial ${serialOf(pem)} --reason cessationOfOperation --yes`)
    const over = await infoOf(pem)
    expect([over.start < over.end, over.end < now()]).toEqual([true, true])
  })

  it('of what is not from here is not found, and what is no identifier is malformed', async () => {
    expect(refusal(await get(`${acme.directory.renewalInfo}/AAAA.AQ`))).toEqual([404, 'malformed'])
    for (const wrong of ['AAAA', 'AAAA.AQ.AQ', '.AQ', 'AA==.AQ', 'AAAA.gQ'])
      expect((await get(`${acme.directory.renewalInfo}/${wrong}`)).status, wrong).toBeGreaterThanOrEqual(400)
  })

  it('lets one certificate be replaced once, by its own account', async () => {
    const account = await accountFor()
    const first = await acme.certificate(account, [account.own])
    const replaces = certificateId(first.pem)
    const stranger = await accountFor()
    expect(refusal(await acme.newOrder(stranger, [stranger.own], { replaces }))).toEqual([403, 'unauthorized'])
    const second = await acme.certificate(account, [account.own], { replaces })
    expect(second.order.body.replaces).toBe(replaces)
    expect(refusal(await acme.newOrder(account, [account.own], { replaces }))).toEqual([409, 'alreadyReplaced'])
    // What failed replaced nothing.
    const third = certificateId(second.pem)
    const given = must(await acme.newOrder(account, [account.own], { replaces: third }), 201)
    must(await acme.post(given.body.authorizations[0], { status: 'deactivated' }, account), 200)
    must(await acme.newOrder(account, [account.own], { replaces: third }), 201)
    expect(await operator.json(`cert show ${serialOf(second.pem)}`)).toMatchObject({
      predecessor: serialOf(first.pem),
      generation: 2,
      instance: idOf(account),
    })
  })
})

describe('an account', () => {
  it('is closed by hold and lock while they last, with the reason and its cure, and for good by retirement', async () => {
    const account = await accountFor()
    const order = must(await acme.newOrder(account, [account.own]), 201)
    await operator.json(`agent hold ${account.name}`)
    const held = await acme.post(order.body.finalize, { csr: derOf(await requestFor([account.own])) }, account)
    expect(refusal(held)).toEqual([403, 'unauthorized'])
    expect(held.body.detail).toContain(`agentca agent release ${account.name}`)
    await operator.json(`agent release ${account.name}`)
    expect((await acme.certificate(account, [account.own])).order.body.status).toBe('valid')
    const context = { requestId: 'story', who: 'system', source: 'system' }
    await server.operations.lifecycle.lock(idOf(account), 'two holders', { context, dryRun: false })
    const locked = await acme.newOrder(account, [account.own])
    expect(refusal(locked)).toEqual([403, 'unauthorized'])
    expect(locked.body.detail).toContain(`agentca instance unlock ${idOf(account)}`)
    await operator.json(`instance unlock ${idOf(account)}`)
    must(await acme.newOrder(account, [account.own]), 201)
    await operator.json(`agent retire ${account.name} --confirm 1`)
    expect(refusal(await acme.newOrder(account, [account.own]))).toEqual([401, 'unauthorized'])
    expect(refusal(await acme.newAccount(account.key, null))).toEqual([401, 'unauthorized'])
  })

  it('that is deactivated ends its instance: no certificate by ACME nor by /v1/renew, while the ones it has live on', async () => {
    const account = await accountFor()
    const { pem, key } = await acme.certificate(account, [account.own])
    const off = must(await acme.post(account.kid, { status: 'deactivated' }, account), 200)
    expect(off.body.status).toBe('deactivated')
    expect(refusal(await acme.post(account.kid, undefined, account))).toEqual([401, 'unauthorized'])
    const shown = { cert: pem, key: key.privateKey }
    const renewal = { method: 'POST', body: { csr: (await createKey()).csrText }, shown }
    const native = await get(`${server.line.api}/v1/renew`, renewal)
    expect([native.status, native.body.code]).toEqual([403, 'instance_revoked'])
    expect(await operator.json(`cert show ${serialOf(pem)}`)).toMatchObject({ state: 'issued' })
    const leaves = await operator.json<{ event: string }[]>(`audit tail -n 50 --subject instance:${idOf(account)}`)
    expect(leaves.map(({ event }) => event)).toEqual(
      expect.arrayContaining(['acme_account_created', 'acme_order_created', 'acme_account_changed']),
    )
  })

  it('is made only where an instance could enrol, and found again by its key', async () => {
    const binding = await bindingFor('agent', '--instances 1')
    const own = `${binding.name}.agent.agentca.local`
    const account = await acme.account(binding)
    await acme.certificate(account, [own])
    const second = await operator.json<Binding>(`acme eab create --agent ${binding.name}`)
    const full = await acme.newAccount(createAccountKey(), second)
    expect([...refusal(full), full.body.detail]).toEqual([
      403,
      'unauthorized',
      expect.stringContaining('1 of 1 instances'),
    ])
    const found = must(await acme.newAccount(account.key, null, { onlyReturnExisting: true }), 200)
    expect(found.headers.location).toBe(account.kid)
    const none = await acme.newAccount(createAccountKey(), null, { onlyReturnExisting: true })
    expect(refusal(none)).toEqual([400, 'accountDoesNotExist'])
  })

  it('moves to a new key; its old one is nobody’s again, and no certificate’s either', async () => {
    const account = await accountFor()
    const next = createAccountKey('EdDSA')
    const url = acme.directory.keyChange
    const inner = signed({ alg: next.alg, jwk: next.jwk, url }, { account: account.kid, oldKey: account.key.jwk }, next)
    must(await acme.post(url, inner, account), 200)
    expect((await acme.post(account.kid, undefined, account)).status).toBe(400)
    const moved = { key: next, kid: account.kid }
    must(await acme.post(account.kid, undefined, moved), 200)
    const order = must(await acme.newOrder(moved, [account.own]), 201)
    expect(refusal(await acme.newAccount(account.key, await bindingFor('agent')))).toEqual([400, 'badPublicKey'])
    const csr = await requestWith(account.key, account.own)
    expect(refusal(await acme.post(order.body.finalize, { csr }, moved))).toEqual([400, 'badCSR'])
  })

  it('cannot be made with the key of a certificate', async () => {
    const account = await accountFor()
    const { key } = await acme.certificate(account, [account.own])
    const reused = accountKey(key.privateKey, key.publicKey, 'ES256')
    expect(refusal(await acme.newAccount(reused, await bindingFor('agent')))).toEqual([400, 'badPublicKey'])
  })

  it('is not made with a binding whose sealing key is lost, and the answer says what to do', async () => {
    const binding = await bindingFor('agent')
    rmSync(home.paths.acmeKey)
    const reply = await acme.newAccount(createAccountKey(), binding)
    expect(refusal(reply)).toEqual([403, 'unauthorized'])
    expect(reply.body.detail).toContain('agentca acme eab create')
    await acme.account(await bindingFor('agent'))
  })
})

describe('a revocation', () => {
  const revoke = (pem: string, by: Parameters<AcmeRequests['post']>[2], more: object = {}): Promise<Reply> =>
    acme.post(acme.directory.revokeCert, { certificate: Buffer.from(leafOf(pem)).toString('base64url'), ...more }, by)
  const byKey = ({ key }: OrderedCertificate) => accountKey(key.privateKey, key.publicKey, 'ES256')

  it('by the account or by the certificate’s key revokes like every other one (RFC 8555 §7.6)', async () => {
    const account = await accountFor()
    const [one, two] = [
      await acme.certificate(account, [account.own]),
      await acme.certificate(account, [account.own]),
    ] as const
    must(await revoke(one.pem, account, { reason: 4 }), 200)
    must(await revoke(two.pem, byKey(two), { reason: 1 }), 200)
    const state = (of: OrderedCertificate) => operator.json(`cert show ${serialOf(of.pem)}`)
    expect(await state(one)).toMatchObject({ state: 'revoked', reason: 'superseded' })
    expect(await state(two)).toMatchObject({ state: 'revoked', reason: 'keyCompromise' })
    expect(refusal(await revoke(one.pem, account))).toEqual([400, 'alreadyRevoked'])
    // Revoking a certificate is not revoking its holder: another one can be ordered, with another key.
    expect((await acme.certificate(account, [account.own])).order.body.status).toBe('valid')
  })

  it('by an operator stops the account, and for keyCompromise bars the key, whoever revokes', async () => {
    const account = await accountFor()
    const first = await acme.certificate(account, [account.own])
    must(await revoke(first.pem, byKey(first), { reason: 1 }), 200)
    const order = must(await acme.newOrder(account, [account.own]), 201)
    const again = await acme.post(order.body.finalize, { csr: derOf(first.key) }, account)
    expect([refusal(again), again.body.detail]).toEqual([[400, 'badCSR'], expect.stringContaining('revoked')])
    const { pem } = await acme.certificate(account, [account.own])
    await operator.json(`revoke --serial ${serialOf(pem)} --reason cessationOfOperation --yes`)
    const late = must(await acme.newOrder(account, [account.own]), 201)
    const stopped = await acme.post(late.body.finalize, { csr: derOf(await requestFor([account.own])) }, account)
    expect([refusal(stopped), stopped.body.detail]).toEqual([
      [403, 'unauthorized'],
      expect.stringContaining('revoked by an operator'),
    ])
  })

  it('by another account of the same service is refused, though the service grants both the same names', async () => {
    const account = await accountFor('service', '--dns shared.internal')
    const certificate = await acme.certificate(account, ['shared.internal'])
    const sibling = await acme.account(await operator.json<Binding>(`acme eab create --service ${account.name}`))
    const bound = await accountFor('service', '--dns other.internal', '--dns shared.internal')
    expect(refusal(await revoke(certificate.pem, bound))).toEqual([403, 'unauthorized'])
    expect(refusal(await revoke(certificate.pem, sibling))).toEqual([403, 'unauthorized'])
    const own = await acme.certificate(account, [account.own, `svc-${account.name}`])
    expect(refusal(await revoke(own.pem, sibling))).toEqual([403, 'unauthorized'])
    must(await revoke(certificate.pem, account), 200)
  })

  it('for a reason that is not the subject’s to give is refused', async () => {
    const account = await accountFor()
    const certificate = await acme.certificate(account, [account.own])
    for (const reason of [2, 6, 7, 8, 9, 10, 11, -1, 'keyCompromise'])
      expect(refusal(await revoke(certificate.pem, account, { reason })), String(reason)).toEqual([
        400,
        'badRevocationReason',
      ])
  })
})

describe('the ledger', () => {
  it('holds everything together that every ledger does, whatever came by ACME', async () => {
    const account = await accountFor()
    const { pem } = await acme.certificate(account, [account.own])
    const evidence = noEvidence()
    evidence.received.push({ der: leafOf(pem), tokenId: null })
    expect(await checkInvariants(home.paths.database, evidence, home.trusted)).toEqual([])
  })
})

// The last ones: the CA's clock goes ahead, and its signer's does not.
describe('time', () => {
  it('does not end an account with its certificate: the key is the evidence, and the lineage goes on', async () => {
    const account = await accountFor()
    // As far ahead as the signer, which has the machine's clock, still signs.
    const notAfter = new Date(now() + 5 * minute + 2000).toISOString()
    const { pem: first } = await acme.certificate(account, [account.own], { notAfter })
    time.aheadMs += Date.parse(notAfter) - now() + 1
    expect(await operator.json(`cert show ${serialOf(first)}`)).toMatchObject({ state: 'expired' })
    const { pem } = await acme.certificate(account, [account.own])
    expect(await operator.json(`cert show ${serialOf(pem)}`)).toMatchObject({ generation: 2, instance: idOf(account) })
  })

  it('ends an order that nobody finalized, which is gone a week later', async () => {
    const account = await accountFor()
    const order = must(await acme.newOrder(account, [account.own]), 201)
    time.aheadMs += day + minute
    const url = order.headers.location as string
    expect(must(await acme.post(url, undefined, account), 200).body.status).toBe('invalid')
    const key = await requestFor([account.own])
    expect(refusal(await acme.post(order.body.finalize, { csr: derOf(key) }, account))).toEqual([403, 'orderNotReady'])
    expect(server.core.ledger.acme.orders.get(url.split('/').at(-1) as string)).not.toBeNull()
    expect(await server.core.ledger.acme.orders.prune(now() + 8 * day, 1000)).toBeGreaterThan(0)
    expect(refusal(await acme.post(url, undefined, account))).toEqual([404, 'malformed'])
  })
})

/** A certification request by an account key. */
const requestWith = async (key: { privateKey: Parameters<typeof accountKey>[0] }, name: string): Promise<string> => {
  const spkiDer = new Uint8Array(createPublicKey(key.privateKey).export({ type: 'spki', format: 'der' }))
  const csr = await createCsr({
    spkiDer,
    subjectAltNames: [dnsName(name)],
    sign: data => new Uint8Array(sign('sha256', data, key.privateKey)),
  })
  return Buffer.from(csr).toString('base64url')
}
