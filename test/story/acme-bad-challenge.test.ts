// Challenges as ways into the network of the CA: a served CA whose profile lets it probe, with loopback allowed for this story only, is
// asked to connect to where it must not, is sent elsewhere, and is told other addresses the second time. Nothing is issued, and an audit
// leaf tells of each.
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'
import { parseCertificate } from '../../src/pki/certificate.ts'
import type { LeafAnswer } from '../../src/schema/admin-answers.ts'
import { type DnsAnswer, type DnsServer, hosts, startDnsServer } from '../acme/validation/dns-server.ts'
import { type Listening, listening } from '../acme/validation/probe-world.ts'
import type { Reply } from '../http/harness.ts'
import { type AcmeStory, startAcmeStory, urn } from './acme-refusals.ts'
import {
  type Account,
  type AcmeRequests,
  type Binding,
  createAccountKey,
  derOf,
  leafOf,
  must,
  requestFor,
  thumbprintOf,
} from './acme-requests.ts'
import type { Operator } from './operator.ts'

const closing: (() => unknown)[] = []

let story: AcmeStory
let operator: Operator
let acme: AcmeRequests
let account: Account
let responder: Listening
let resolver: DnsServer

/** What the responder does, and what DNS says; each story sets its own. */
let respond: (path: string) => { status: number; headers?: Record<string, string>; body?: string }
let names: (name: string, type: string) => DnsAnswer
const visits: string[] = []

beforeAll(async () => {
  responder = await listening(
    createServer((request, response) => {
      visits.push(request.url ?? '')
      const { status, headers = {}, body = '' } = respond(request.url ?? '')
      response.writeHead(status, headers).end(body)
    }),
  )
  resolver = await startDnsServer((name, type) => names(name, type))
  const profiles = mkdtempSync(join(tmpdir(), 'agentca-profiles-'))
  closing.push(() => rmSync(profiles, { recursive: true, force: true }))
  cpSync(join(root, 'ca-config/profiles'), profiles, { recursive: true })
  writeFileSync(
    join(profiles, 'acme-probing.yaml'),
    'kind: service\nlifetime: 1d\nextendedKeyUsage: [clientAuth, serverAuth]\ndnsNames: registration\nacme:\n  description: names that are probed\n  challenges: [http-01, dns-01, tls-alpn-01]\n',
  )
  story = await startAcmeStory({
    AGENTCA_PROFILES: profiles,
    AGENTCA_ACME_REQUIREEXTERNALACCOUNT: 'false',
    AGENTCA_ACME_UNBOUNDSERVICE: 'prober',
    // 127.0.0.1 only: the rest of loopback stands for what is forbidden.
    AGENTCA_ACME_VALIDATION_ALLOWEDNETWORKS: '127.0.0.1/32',
    AGENTCA_ACME_VALIDATION_RESOLVERS: resolver.address,
    AGENTCA_ACME_VALIDATION_HTTPPORT: String(responder.port),
  })
  ;({ operator, acme } = story)
  await operator.json('service create prober')
  account = await acme.account(await operator.json<Binding>('acme eab create --service prober'))
}, 180_000)
afterAll(async () => {
  await story?.[Symbol.asyncDispose]()
  await responder?.[Symbol.asyncDispose]()
  await resolver?.[Symbol.asyncDispose]()
  for (const close of closing) await close()
})
beforeEach(() => {
  visits.length = 0
  respond = () => ({ status: 404 })
  names = () => 'NXDOMAIN'
})

interface Identifier {
  readonly type: 'dns' | 'ip'
  readonly value: string
}

const profile = { profile: 'acme-probing' }

const ordered = async (identifier: Identifier) => {
  const order = must(await acme.post(acme.directory.newOrder, { identifiers: [identifier], ...profile }, account), 201)
  const authorization = order.body.authorizations[0] as string
  const { body } = must(await acme.post(authorization, undefined, account), 200)
  const challenge = (body.challenges as { type: string; url: string; token: string }[]).find(
    each => each.type === 'http-01',
  )
  if (challenge === undefined) throw new Error(`no http-01 in ${JSON.stringify(body)}`)
  return { order, authorization, challenge }
}

const probed = async (identifier: Identifier) => {
  const { order, authorization, challenge } = await ordered(identifier)
  must(await acme.post(challenge.url, {}, account), 200)
  const end = await acme.settled(account, authorization, ['pending', 'processing'])
  return { order, challenge, end: end.body }
}

const failedOnce = async (identifier: Identifier, type: string): Promise<Reply['body']> => {
  const before = (await operator.json<unknown[]>('cert list --all')).length
  const { order, end } = await probed(identifier)
  expect(end.status).toBe('invalid')
  const error = end.challenges.find((each: { type: string }) => each.type === 'http-01').error
  expect(error.type).toBe(urn + type)
  // An order with an invalid authorization is invalid itself (RFC 8555 §7.1.6), and cannot be finalized.
  const state = must(await acme.post(order.headers.location as string, undefined, account), 200)
  expect(state.body.status).toBe('invalid')
  const csr = derOf(await requestFor([identifier.value]))
  const finalized = await acme.post(order.body.finalize, { csr }, account)
  expect([finalized.status, finalized.body.type]).toEqual([403, `${urn}orderNotReady`])
  expect((await operator.json<unknown[]>('cert list --all')).length).toBe(before)
  const leaves = await operator.json<LeafAnswer[]>('audit tail -n 20')
  expect(leaves.map(({ content }) => JSON.stringify(content)).join('\n')).toContain(identifier.value)
  return error
}

const dns = (value: string): Identifier => ({ type: 'dns', value })
const ip = (value: string): Identifier => ({ type: 'ip', value })

describe('a challenge', () => {
  it('that is answered as it should be leads to a certificate with the name, and for an address with the address', async () => {
    names = hosts({ 'probed.internal': ['127.0.0.1'] })
    respond = path => ({ status: 200, body: `${path.split('/').at(-1)}.${thumbprintOf(account.key)}` })
    const { order, end } = await probed(dns('probed.internal'))
    expect(end.status).toBe('valid')
    const key = await requestFor(['probed.internal'])
    must(await acme.post(order.body.finalize, { csr: derOf(key) }, account), 200)
    const done = await acme.settled(account, order.headers.location as string)
    const { text } = must(await acme.post(done.body.certificate, undefined, account), 200)
    expect(parseCertificate(leafOf(text)).dnsNames).toEqual(['probed.internal'])
    // RFC 8555 §7.6: whoever proved all of its names as well may revoke it, and nobody before that.
    const binding = await operator.json<Binding>('acme eab create --service prober')
    const first = account
    account = await acme.account(binding)
    const certificate = Buffer.from(leafOf(text)).toString('base64url')
    expect((await acme.post(acme.directory.revokeCert, { certificate }, account)).status).toBe(403)
    expect((await probed(dns('probed.internal'))).end.status).toBe('valid')
    must(await acme.post(acme.directory.revokeCert, { certificate }, account), 200)
    account = first
    const { end: address } = await probed(ip('127.0.0.1'))
    expect(address.status).toBe('valid')
    expect(visits).toHaveLength(3)
  })

  it('of an account without a binding is needed for every name; the common name is granted beside one that is proved, for renewals', async () => {
    const key = createAccountKey()
    const open = { key, kid: must(await acme.newAccount(key, null), 201).headers.location as string }
    const statuses = async (...order: readonly string[]): Promise<readonly string[]> => {
      const { body } = must(await acme.newOrder(open, order, profile), 201)
      const urls = body.authorizations as readonly string[]
      const states: string[] = []
      for (const url of urls) states.push(must(await acme.post(url, undefined, open), 200).body.status)
      return states
    }
    expect(await statuses('svc-prober')).toEqual(['pending'])
    expect(await statuses('svc-prober', 'probed.internal')).toEqual(['valid', 'pending'])
  })

  it.each(['127.0.0.2', '169.254.169.254', '::1', '10.0.0.1', '0.0.0.0'])(
    'for the address %s connects to nothing',
    async address => {
      await failedOnce(ip(address), 'rejectedIdentifier')
      expect(visits).toEqual([])
    },
  )

  it('for a name that means a metadata service, or has one such address among others, connects to nothing', async () => {
    for (const addresses of [
      ['169.254.169.254'],
      ['127.0.0.1', '169.254.169.254'],
      ['127.0.0.1', '::ffff:127.0.0.1'],
    ]) {
      names = hosts({ 'inner.internal': addresses })
      const error = await failedOnce(dns('inner.internal'), 'rejectedIdentifier')
      for (const address of addresses) expect(error.detail).not.toContain(address)
    }
    expect(visits).toEqual([])
  })

  it('that is redirected is not followed', async () => {
    let inside = 0
    await using inner = await listening(
      createServer((_, response) => {
        inside++
        response.end('secret of the network')
      }),
    )
    names = hosts({ 'redirects.internal': ['127.0.0.1'] })
    respond = () => ({ status: 302, headers: { Location: `http://127.0.0.1:${inner.port}/` } })
    await failedOnce(dns('redirects.internal'), 'incorrectResponse')
    expect([visits.length, inside]).toEqual([1, 0])
  })

  it('is told nothing of what was answered', async () => {
    names = hosts({ 'tells.internal': ['127.0.0.1'] })
    respond = () => ({ status: 200, body: 'secret of the network' })
    const error = await failedOnce(dns('tells.internal'), 'incorrectResponse')
    expect(JSON.stringify(error)).not.toContain('secret')
  })

  it('under a name whose address changes between two questions uses the one that was checked (DNS rebinding)', async () => {
    let asked = 0
    names = (_, type) => {
      if (type !== 'A') return []
      asked++
      return [{ type: 'A', value: asked === 1 ? '127.0.0.1' : '169.254.169.254' }]
    }
    // The first answer is allowed and leads to a responder that does not know the token; the second is never asked for.
    await failedOnce(dns('rebinds.internal'), 'incorrectResponse')
    expect([asked, visits.length]).toEqual([1, 1])
    // By the next order it has the other address.
    await failedOnce(dns('rebinds.internal'), 'rejectedIdentifier')
    expect(visits).toHaveLength(1)
  })

  it('of a profile that does not probe is not offered: the name is rejected', async () => {
    const reply = await acme.newOrder(account, ['not-granted.internal'])
    expect([reply.status, reply.body.type]).toEqual([400, `${urn}rejectedIdentifier`])
    expect(reply.body.subproblems).toMatchObject([{ identifier: dns('not-granted.internal') }])
  })

  it('of another account is not answered', async () => {
    const { challenge } = await ordered(dns('mine.internal'))
    await operator.json('service create stranger')
    const other = await acme.account(await operator.json<Binding>('acme eab create --service stranger'))
    const reply = await acme.post(challenge.url, {}, other)
    expect([reply.status, reply.body.type]).toEqual([403, `${urn}unauthorized`])
    expect(visits).toEqual([])
  })
})
