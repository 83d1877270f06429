// EST over real TLS: what clients get that know nothing of agentca, read by openssl; and what each wrong request is answered with.
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { toBase64 } from '../../src/base/bytes.ts'
import { CaError } from '../../src/ca/errors.ts'
import { createLimits } from '../../src/http/limits.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { leaf } from '../ca/authority.ts'
import { until } from '../story/until.ts'
import { badRequests } from './bad-requests.ts'
import { type AgentKey, type Ask, createKey, createTestFront, type TestFront } from './harness.ts'

const keyAlgorithmsOf = () => ['P-256', 'P-384'] as const

let front: TestFront
let est: Awaited<ReturnType<TestFront['serve']>>
beforeAll(async () => {
  front = await createTestFront()
  est = await front.serve({ est: { keyAlgorithmsOf, patienceMs: 30_000 } })
})
afterAll(async () => {
  await est?.[Symbol.asyncDispose]()
  await front?.[Symbol.asyncDispose]()
})

const at = '/.well-known/est'
const pkcs10 = { 'Content-Type': 'application/pkcs10' }
const basic = (user: string, token: string) => ({
  Authorization: `Basic ${Buffer.from(`${user}:${token}`).toString('base64')}`,
})
const inLines = (bytes: Uint8Array): string => toBase64(bytes).replace(/.{64}/g, '$&\r\n')

const enrol = (body: string, headers: Ask['headers'], more: Ask = {}) =>
  est.call(`${at}/simpleenroll`, { body, headers: { ...pkcs10, ...headers }, ...more })
const reenrol = (key: AgentKey, shown: Ask['shown']) =>
  est.call(`${at}/simplereenroll`, { body: toBase64(key.csr), headers: pkcs10, shown })

/** What openssl finds in an answer, as PEM. */
const certificatesIn = (text: string): readonly string[] => {
  const read = front.ca.openssl(['pkcs7', '-inform', 'DER', '-in', 'answer.p7', '-print_certs'], {
    'answer.p7': Buffer.from(text, 'base64'),
  })
  return read.match(/-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+?-----END CERTIFICATE-----\n/g) ?? []
}

describe('cacerts', () => {
  it('gives every CA between a leaf and the roots to anybody (RFC 7030 §4.1.3), as openssl pkcs7 and cms read it', async () => {
    const reply = await est.call(`${at}/cacerts`)
    expect(reply.status).toBe(200)
    expect(reply.headers).toMatchObject({
      'content-type': 'application/pkcs7-mime',
      'content-transfer-encoding': 'base64',
    })
    const { issuers } = front.deps
    const expected = issuers.all().map(({ certificate }) => encodePem('CERTIFICATE', certificate.der))
    expect(new Set(certificatesIn(reply.text))).toEqual(new Set(expected))
    const cms = front.ca.openssl(['cms', '-cmsout', '-print', '-noout', '-inform', 'DER', '-in', 'answer.p7'])
    expect(cms).toContain('pkcs7-signedData')
    expect(cms).toMatch(/signerInfos:\s+<ABSENT>|signerInfos:\s+<EMPTY>/)
  })
})

describe('csrattrs', () => {
  it('asks for the first kind of key of the profile, and for nothing where there is no such profile', async () => {
    const reply = await est.call(`${at}/csrattrs`)
    expect(reply.headers['content-type']).toBe('application/csrattrs')
    const read = front.ca.openssl(['asn1parse', '-inform', 'DER', '-in', 'attributes'], {
      attributes: Buffer.from(reply.text, 'base64'),
    })
    expect(read.match(/OBJECT +:(\S+)/g)).toEqual([
      'OBJECT            :id-ecPublicKey',
      'OBJECT            :prime256v1',
      'OBJECT            :ecdsa-with-SHA256',
    ])
    await using none = await front.serve({ est: { keyAlgorithmsOf: () => null, patienceMs: 1000 } })
    expect((await none.call(`${at}/csrattrs`)).status).toBe(204)
  })

  it('goes by the profile of whoever shows a token or certificate', async () => {
    const asked: string[] = []
    const noting = (profile: string) => {
      asked.push(profile)
      return ['RSA'] as const
    }
    await using other = await front.serve({ est: { keyAlgorithmsOf: noting, patienceMs: 1000 } })
    const { shown } = await front.enrol('attributed')
    const token = await front.createToken('attributed')
    await other.call(`${at}/csrattrs`)
    await other.call(`${at}/csrattrs`, { shown })
    await other.call(`${at}/csrattrs`, { headers: basic('', token) })
    const { profile } = front.ledger.registrations.find('agent', 'attributed')!
    expect(asked).toEqual(['agent', profile, profile])
  })
})

describe('simpleenroll', () => {
  it('gives the one certificate that was issued, for a join token as the password', async () => {
    const key = await createKey()
    const token = await front.createToken('gateway')
    const reply = await enrol(inLines(key.csr), basic('gateway', token))
    expect([reply.status, reply.headers['content-type']]).toEqual([
      200,
      'application/pkcs7-mime; smime-type=certs-only',
    ])
    const issued = certificatesIn(reply.text)
    expect(issued.length).toBe(1)
    const leaf = front.leafOf(reply, 'certificate_issued')
    expect(leaf.who).toMatch(/^token:[0-9a-f]{16}$/)
    const text = front.ca.openssl(['x509', '-noout', '-subject', '-ext', 'subjectAltName', '-in', 'leaf.pem'], {
      'leaf.pem': issued[0]!,
    })
    expect(text).toContain('CN = agent-gateway')
    expect(text).toContain('URI:spiffe://example.org/agent/gateway/i/')
    // A lost answer: the same token and key, without line breaks and a user name, under a header that lies.
    const lies = { ...basic('', token), 'Content-Transfer-Encoding': 'binary' }
    expect(certificatesIn((await enrol(toBase64(key.csr), lies)).text)).toEqual(issued)
  })

  it('wants a token before anything else, and says how to show it (RFC 7030 §3.2.3)', async () => {
    const key = await createKey()
    for (const [headers, code] of [
      [{}, 'basic_credentials_missing'],
      [{ Authorization: 'Bearer abc' }, 'basic_credentials_missing'],
      [{ Authorization: 'Basic !!!!' }, 'basic_credentials_missing'],
      [{ Authorization: `Basic ${Buffer.from('no colon').toString('base64')}` }, 'basic_credentials_missing'],
      [{ Authorization: `Basic ${Buffer.from([0xff, 0x3a, 0xff]).toString('base64')}` }, 'basic_credentials_missing'],
      [basic('', randomBytes(32).toString('base64url')), 'token_unknown'],
    ] as const) {
      const reply = await enrol(toBase64(key.csr), headers)
      expect([reply.status, reply.headers['content-type']]).toEqual([401, 'text/plain; charset=utf-8'])
      expect(reply.headers['www-authenticate']).toMatch(/^Basic realm="/)
      expect(reply.text).toContain(`code ${code}, `)
      expect(front.leafOf(reply, 'request_refused')).toMatchObject({ code, op: `POST ${at}/simpleenroll` })
    }
  })

  it('refuses a token under another name than its own, and leaves it unused', async () => {
    const key = await createKey()
    const token = await front.createToken('printer')
    const reply = await enrol(toBase64(key.csr), basic('scanner', token))
    expect([reply.status, reply.text]).toEqual([401, expect.stringContaining('code basic_credentials_mismatched, ')])
    expect(front.leafOf(reply, 'request_refused')).toMatchObject({ subject: 'agent:printer' })
    expect((await enrol(toBase64(key.csr), basic('printer', token))).status).toBe(200)
  })

  it('decides as /v1/enroll does: a used token with another key is refused, under the same leaf', async () => {
    const token = await front.createToken('once')
    expect((await enrol(toBase64((await createKey()).csr), basic('once', token))).status).toBe(200)
    const reply = await enrol(toBase64((await createKey()).csr), basic('once', token))
    expect([reply.status, reply.text]).toEqual([403, expect.stringContaining('code token_reuse, ')])
    expect(front.leafOf(reply, 'token_reuse')).toMatchObject({ subject: 'agent:once' })
  })

  it.each(badRequests.filter(({ refusedAs }) => refusedAs === 'request'))(
    'refuses a request that is $is',
    async ({ text, answer: [status, code] }) => {
      const token = await front.createToken('bad-requests')
      const body = text().replace(/-----[A-Z ]+-----/g, '')
      const reply = await enrol(body, { ...basic('', token), Accept: 'application/problem+json' })
      expect([reply.status, reply.headers['content-type']]).toEqual([status, 'application/problem+json'])
      expect(reply.body.code).toBe(code)
      expect(front.leavesOf(reply).some(leaf => leaf.event === 'certificate_issued')).toBe(false)
    },
  )

  it('refuses bodies that are not base64 of a request, too large or of another type', async () => {
    const headers = basic('', await front.createToken('bad-bodies'))
    const { csr, csrText } = await createKey()
    for (const [body, more, status, code] of [
      ['', {}, 400, 'csr_malformed'],
      ['!!!!', {}, 400, 'csr_malformed'],
      [csrText, {}, 400, 'csr_malformed'],
      [Buffer.from(csr).toString('latin1'), {}, 400, 'csr_malformed'],
      [toBase64(new Uint8Array(9216)), {}, 413, 'csr_too_large'],
      ['A'.repeat(100_000), {}, 413, 'body_too_large'],
      [toBase64(csr), { 'Content-Type': 'application/json' }, 415, 'content_type_not_supported'],
      [toBase64(csr), { 'Content-Encoding': 'gzip' }, 415, 'content_type_not_supported'],
    ] as const) {
      const reply = await enrol(body, { ...headers, ...more })
      expect([reply.status, reply.text]).toEqual([status, expect.stringContaining(`code ${code}, `)])
    }
  })
})

describe('simplereenroll', () => {
  it('renews under the certificate of the connection, with its names asked for again (RFC 7030 §4.2.2)', async () => {
    const { identity, shown } = await front.enrol('renews-by-est')
    const next = await createKey([{ kind: 'uri', value: identity.spiffeId }], 'agent-renews-by-est')
    const reply = await reenrol(next, shown)
    expect(reply.status).toBe(200)
    expect(front.leafOf(reply, 'certificate_issued')).toMatchObject({ who: identity.spiffeId })
    const issued = certificatesIn(reply.text)
    expect(certificatesIn((await reenrol(next, shown)).text)).toEqual(issued)
    // The lineage is the one that /v1/renew goes on with.
    const natively = await front.call('/v1/renew', {
      body: { csr: (await createKey()).csrText },
      shown: { cert: issued[0]!, key: next.privateKey },
    })
    expect(natively.body).toMatchObject({ instance: identity.instance, generation: 3 })
    // Now the first one is old: whoever uses it has a copy.
    const thief = await reenrol(await createKey(), shown)
    expect([thief.status, thief.text]).toEqual([403, expect.stringContaining('code lineage_conflict, ')])
    expect(front.ledger.instances.get(identity.instance)?.state).toBe('locked')
  })

  it('is by certificate alone: a token is no substitute', async () => {
    const key = await createKey()
    const token = await front.createToken('tokens-only')
    const headers = { ...pkcs10, ...basic('', token) }
    const reply = await est.call(`${at}/simplereenroll`, { body: toBase64(key.csr), headers })
    expect([reply.status, reply.text]).toEqual([401, expect.stringContaining('code client_certificate_missing, ')])
    expect(reply.headers['www-authenticate']).toBeUndefined()
  })

  it("refuses a revoked certificate and a request for another agent's name", async () => {
    const { identity, shown } = await front.enrol('asks-too-much')
    const other = await front.enrol('somebody-else')
    const named = await createKey([{ kind: 'uri', value: other.identity.spiffeId }])
    const refused = await reenrol(named, shown)
    expect([refused.status, refused.text]).toEqual([403, expect.stringContaining('code name_not_granted, ')])
    expect(refused.text).toContain(other.identity.spiffeId)
    await front.ledger.revocations.revoke({
      selector: { by: 'serial', value: identity.serial },
      reason: 'keyCompromise',
      at: Date.now(),
      expected: null,
      leaf: () => leaf('revoked'),
    })
    const revoked = await reenrol(await createKey(), shown)
    expect([revoked.status, revoked.text]).toEqual([403, expect.stringContaining('code certificate_revoked, ')])
  })
})

describe('limits and trouble', () => {
  it('a key that another agent has is refused (409), and a challenge password (422)', async () => {
    const key = await createKey()
    expect((await enrol(toBase64(key.csr), basic('', await front.createToken('has-the-key')))).status).toBe(200)
    const token = await front.createToken('wants-the-key')
    const taken = await enrol(toBase64(key.csr), basic('', token))
    expect([taken.status, taken.text]).toEqual([409, expect.stringContaining('code key_in_use, ')])
    const config =
      '[req]\ndistinguished_name=dn\nattributes=at\nprompt=no\n[dn]\nCN=x\n[at]\nchallengePassword=secret\n'
    const args = ['req', '-new', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'x.key', '-config', 'req.cnf']
    const pem = front.ca.openssl(args, { 'req.cnf': config })
    const reply = await enrol(pem.replace(/-----[A-Z ]+-----/g, ''), basic('', token))
    expect([reply.status, reply.text]).toEqual([422, expect.stringContaining('challengePassword')])
  })

  it('too many requests are told to wait, as text with Retry-After', async () => {
    const limits = createLimits(front.deps.clock, { anonymousPerMinute: 6, identityPerMinute: 6 })
    await using strict = await front.serve({ limits, est: { keyAlgorithmsOf, patienceMs: 1000 } })
    expect((await strict.call(`${at}/cacerts`)).status).toBe(200)
    const reply = await strict.call(`${at}/cacerts`)
    expect([reply.status, reply.headers['content-type']]).toEqual([429, 'text/plain; charset=utf-8'])
    expect(Number(reply.headers['retry-after'])).toBeGreaterThan(0)
  })

  it('while the HSM is away the client hears 503 with Retry-After, and its token is still good', async () => {
    const issue = async () => {
      throw new CaError('signer_unavailable', 'the signer does not answer')
    }
    await using dead = await front.serve({ issuance: { issue }, est: { keyAlgorithmsOf, patienceMs: 1000 } })
    const body = toBase64((await createKey()).csr)
    const headers = { ...pkcs10, ...basic('', await front.createToken('patient')) }
    const reply = await dead.call(`${at}/simpleenroll`, { body, headers })
    expect([reply.status, reply.text]).toEqual([503, expect.stringContaining('code signer_unavailable, ')])
    expect(Number(reply.headers['retry-after'])).toBeGreaterThan(0)
    expect((await enrol(body, headers)).status).toBe(200)
  })
})

describe('what takes long or does not exist', () => {
  it('is answered 202 with Retry-After, and by the certificate when the same request comes again', async () => {
    let release = (): void => {}
    const held = new Promise<void>(resolve => {
      release = resolve
    })
    const { issuance } = front.deps
    const slow = { issue: (request: Parameters<typeof issuance.issue>[0]) => held.then(() => issuance.issue(request)) }
    await using server = await front.serve({ issuance: slow, est: { keyAlgorithmsOf, patienceMs: 1 } })
    const body = toBase64((await createKey()).csr)
    const headers = { ...pkcs10, ...basic('', await front.createToken('slow-hsm')) }
    const first = await server.call(`${at}/simpleenroll`, { body, headers })
    expect([first.status, first.headers['retry-after']]).toEqual([202, expect.stringMatching(/^[1-5]$/)])
    release()
    let answer = first
    await until('the certificate', async () => {
      answer = await enrol(body, headers)
      return answer.status !== 202
    })
    expect(certificatesIn(answer.text).length).toBe(1)
  })

  it.each([
    [`${at}/serverkeygen`, 'POST', 'a key is made, and stays, where it is used'],
    [`${at}/fullcmc`, 'POST', 'a key is made, and stays, where it is used'],
    [`${at}/label/simpleenroll`, 'POST', 'no labels'],
    [`${at}/`, 'GET', 'no labels'],
  ])('%s is not found, and says what is', async (path, method, why) => {
    const reply = await est.call(path, { method })
    expect([reply.status, reply.text]).toEqual([404, expect.stringContaining(why)])
    expect(reply.text).toContain(`${at}/simpleenroll`)
  })

  it('a wrong method is refused with the right one', async () => {
    const reply = await est.call(`${at}/simpleenroll`)
    expect([reply.status, reply.headers.allow]).toEqual([405, 'POST'])
  })
})
