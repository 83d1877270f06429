// The agents' API over real mTLS: what an agent gets, in the order of its life.
import { X509Certificate } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually } from '../signer/harness.ts'
import { createCountingMetrics, createKey, createTestFront, publicUrl, signProof, type TestFront } from './harness.ts'

let front: TestFront
beforeAll(async () => {
  front = await createTestFront()
})
afterAll(async () => {
  await front?.[Symbol.asyncDispose]()
})

const pemCount = (text: string): number => text.match(/BEGIN CERTIFICATE/g)?.length ?? 0

describe('POST /v1/enroll', () => {
  it('gives an identity that OpenSSL accepts, for a token and a request', async () => {
    const key = await createKey()
    const token = await front.createToken('billing')
    const reply = await front.call('/v1/enroll', { body: front.enrolBody(token, key.csrText) })
    expect(reply.status).toBe(201)
    expect(reply.headers).toMatchObject({
      'content-type': 'application/json',
      'cache-control': 'no-store',
      'x-request-id': expect.stringMatching(/^[0-9a-f]{32}$/),
    })
    const identity = reply.body
    expect(identity).toMatchObject({ agent: 'billing', generation: 1, notGranted: [] })
    expect(identity.spiffeId).toBe(`spiffe://example.org/agent/billing/i/${identity.instance}`)
    const leaf = new X509Certificate(identity.certificate)
    expect(leaf.serialNumber.toLowerCase()).toBe(identity.serial)
    expect(leaf.publicKey.equals(key.publicKey)).toBe(true)
    expect([pemCount(identity.certificate), pemCount(identity.chain), pemCount(identity.bundle)]).toEqual([1, 1, 1])
    const verdict = front.ca.openssl(
      ['verify', '-x509_strict', '-CAfile', 'bundle.pem', '-untrusted', 'chain.pem', 'leaf.pem'],
      { 'bundle.pem': identity.bundle, 'chain.pem': identity.chain, 'leaf.pem': identity.certificate },
    )
    expect(verdict).toBe('leaf.pem: OK\n')
    const issued = front.leafOf(reply, 'certificate_issued')
    expect(issued).toMatchObject({ serial: identity.serial, src: '127.0.0.1' })
    expect(issued.who).toMatch(/^token:[0-9a-f]{16}$/)
  })

  it('takes the request as PEM or as base64 of its DER, and repeats the answer with 200', async () => {
    const key = await createKey()
    const token = await front.createToken('repeats')
    const first = await front.call('/v1/enroll', { body: front.enrolBody(token, key.csrText) })
    const again = await front.call('/v1/enroll', {
      body: front.enrolBody(token, Buffer.from(key.csr).toString('base64')),
    })
    expect([first.status, again.status]).toEqual([201, 200])
    const { renewInSeconds: _, expiresInSeconds: __, ...same } = first.body
    expect(again.body).toMatchObject(same)
  })

  it('says each time what of the request it does not grant', async () => {
    const key = await createKey([], 'postgres')
    const body = front.enrolBody(await front.createToken('asks-for-more'), key.csrText)
    for (const status of [201, 200])
      expect(await front.call('/v1/enroll', { body })).toMatchObject({ status, body: { notGranted: ['subject'] } })
  })

  it('binds an idempotency key to one request of one token', async () => {
    const [key, other] = [await createKey(), await createKey()]
    const token = await front.createToken('idempotent', { uses: 2 })
    const ask = (csr: string, idempotencyKey: string) =>
      front.call('/v1/enroll', { body: { ...front.enrolBody(token, csr), idempotencyKey } })
    expect((await ask(key.csrText, 'k1')).status).toBe(201)
    expect((await ask(key.csrText, 'k1')).status).toBe(200)
    const replayed = await ask(other.csrText, 'k1')
    expect([replayed.status, replayed.body.code]).toEqual([409, 'idempotency_key_reused'])
    expect(front.leafOf(replayed, 'request_refused')).toMatchObject({
      code: 'idempotency_key_reused',
      subject: 'agent:idempotent',
    })
    expect((await ask(other.csrText, 'k2')).status).toBe(201)
  })
})

describe('POST /v1/renew', () => {
  it('gives the next generation to the present certificate and a new key, and repeats that answer', async () => {
    const { identity, shown } = await front.enrol('renews')
    const next = await createKey()
    const first = await front.call('/v1/renew', { body: { csr: next.csrText }, shown })
    expect(first.status).toBe(201)
    expect(first.body).toMatchObject({ instance: identity.instance, generation: 2, agent: 'renews' })
    const again = await front.call('/v1/renew', { body: { csr: next.csrText }, shown })
    expect([again.status, again.body.serial]).toEqual([200, first.body.serial])
    expect(front.leafOf(first, 'certificate_issued')).toMatchObject({ who: identity.spiffeId })
  })

  it('needs a certificate', async () => {
    const reply = await front.call('/v1/renew', { body: { csr: (await createKey()).csrText } })
    expect([reply.status, reply.body.code]).toEqual([401, 'client_certificate_missing'])
    expect(front.leafOf(reply, 'request_refused')).toMatchObject({
      code: 'client_certificate_missing',
      who: 'anonymous',
    })
  })
})

describe('POST /v1/renew behind a proxy that ends TLS', () => {
  const aud = `${publicUrl}/v1/renew`

  it('takes a proof of the present key instead of a certificate, and decides as it would by the certificate', async () => {
    const { key, identity, shown } = await front.enrol('proxied')
    const [second, third] = [await createKey(), await createKey()]
    const prove = async (by: typeof key, next: typeof key) =>
      front.call('/v1/renew', { body: { csr: next.csrText, jws: await signProof(by, next.csr, { aud }) } })
    const first = await prove(key, second)
    expect(first.status).toBe(201)
    expect(first.body).toMatchObject({ instance: identity.instance, generation: 2 })
    expect(front.leafOf(first, 'intent_recorded')).toMatchObject({ op: 'renew', who: `key:${key.keyHash}` })
    // A lost answer, asked for again in either way.
    expect(await prove(key, second)).toMatchObject({ status: 200, body: { serial: first.body.serial } })
    expect((await front.call('/v1/renew', { body: { csr: second.csrText }, shown })).status).toBe(200)
    expect((await prove(second, third)).body).toMatchObject({ generation: 3 })
    const thief = await prove(key, await createKey())
    expect([thief.status, thief.body.code]).toEqual([403, 'lineage_conflict'])
  })

  it('refuses strangers, proofs for elsewhere, for other requests, and used ones', async () => {
    const { key } = await front.enrol('proxied-badly')
    const [stranger, next] = [await createKey(), await createKey()]
    const codeOf = async (jws: string) => {
      const reply = await front.call('/v1/renew', { body: { csr: next.csrText, jws } })
      return [reply.status, reply.body.code]
    }
    expect(await codeOf(await signProof(stranger, next.csr, { aud }))).toEqual([401, 'certificate_unknown'])
    expect(await codeOf(await signProof(key, next.csr))).toEqual([401, 'jws_wrong_audience'])
    expect(await codeOf(await signProof(key, stranger.csr, { aud }))).toEqual([401, 'jws_signature_invalid'])
    const jws = await signProof(key, next.csr, { aud })
    expect((await front.call('/v1/renew', { body: { csr: next.csrText, jws } })).status).toBe(201)
    expect(await codeOf(jws)).toEqual([401, 'jws_replayed'])
  })

  it('takes no proof that was made before the server started: which were used is not known any more', async () => {
    const { key } = await front.enrol('proxied-over-a-restart')
    const next = await createKey()
    await using restarted = await front.serve({})
    const renew = async (iat: number) =>
      restarted.call('/v1/renew', { body: { csr: next.csrText, jws: await signProof(key, next.csr, { aud, iat }) } })
    const now = Math.floor(Date.now() / 1000)
    expect((await renew(now - 30)).body.code).toBe('jws_not_current')
    expect((await renew(now)).status).toBe(201)
  })
})

describe('POST /v1/recover', () => {
  it('gives the next generation for a proof of the last key, without a certificate', async () => {
    const { key, identity } = await front.enrol('slept')
    const next = await createKey()
    const reply = await front.call('/v1/recover', {
      body: { csr: next.csrText, jws: await signProof(key, next.csr) },
    })
    expect(reply.status).toBe(201)
    expect(reply.body).toMatchObject({ instance: identity.instance, generation: 2 })
    expect(front.leafOf(reply, 'certificate_issued')).toMatchObject({ who: `key:${key.keyHash}` })
  })

  it('gives the same answer for the same proof and key, or for another proof of that key, and counts it once', async () => {
    const { key, identity } = await front.enrol('lost-answers')
    const next = await createKey()
    const jws = await signProof(key, next.csr)
    const recover = (by: string) => front.call('/v1/recover', { body: { csr: next.csrText, jws: by } })
    const first = await recover(jws)
    expect(first.status).toBe(201)
    for (let i = 0; i < 5; i++)
      for (const again of [jws, await signProof(key, next.csr)])
        expect(await recover(again)).toMatchObject({ status: 200, body: { serial: first.body.serial } })
    expect(front.ledger.instances.get(identity.instance)?.recoveries).toHaveLength(1)
  })

  it('takes each proof for one request', async () => {
    const { key } = await front.enrol('replays')
    const [next, other] = [await createKey(), await createKey()]
    const jti = 'ab'.repeat(16)
    const jws = await signProof(key, next.csr, { jti })
    expect((await front.call('/v1/recover', { body: { csr: next.csrText, jws } })).status).toBe(201)
    const body = { csr: other.csrText, jws: await signProof(key, other.csr, { jti }) }
    const replayed = await front.call('/v1/recover', { body })
    expect([replayed.status, replayed.body.code]).toEqual([401, 'jws_replayed'])
    expect(front.leafOf(replayed, 'request_refused')).toMatchObject({ code: 'jws_replayed', subject: 'agent:replays' })
  })

  it('wants a new key where the profile never lets one be used twice', async () => {
    const { key } = await front.enrol('same-key-again')
    front.time.offset = 2 * 3_600_000
    try {
      const iat = Math.floor(front.deps.clock.now() / 1000)
      const reply = await front.call('/v1/recover', {
        body: { csr: key.csrText, jws: await signProof(key, key.csr, { iat }) },
      })
      expect([reply.status, reply.body.code]).toEqual([403, 'key_reuse_not_allowed'])
    } finally {
      front.time.offset = 0
    }
  })

  it('under recovery: evidence takes a use of a join token of the same agent beside the proof, within its count', async () => {
    await front.ca.registerAgent('evident', 'agent-evidence')
    const { key, identity } = await front.enrol('evident')
    const keys = [key, await createKey(), await createKey(), await createKey()]
    const recover = async (from: number, token?: string) =>
      front.call('/v1/recover', {
        body: {
          csr: keys[from + 1]!.csrText,
          jws: await signProof(keys[from]!, keys[from + 1]!.csr),
          ...(token === undefined ? {} : { evidence: { type: 'token', token } }),
        },
      })
    const refusal = ({ status, body }: Awaited<ReturnType<typeof recover>>) => [status, body.code]
    const bare = await recover(0)
    expect(refusal(bare)).toEqual([403, 'recovery_not_allowed'])
    expect(bare.body.hint).toContain('agentca token create --agent evident')
    expect(refusal(await recover(0, 'nobody-made-this'))).toEqual([401, 'token_unknown'])
    await front.createToken('somebody-else')
    expect(refusal(await recover(0, await front.createToken('somebody-else')))).toEqual([403, 'recovery_not_allowed'])
    const token = await front.createToken('evident')
    const first = await recover(0, token)
    expect(first).toMatchObject({ status: 201, body: { instance: identity.instance, generation: 2 } })
    // Lost, and asked for again; then the token is spent.
    expect(await recover(0, token)).toMatchObject({ status: 200, body: { serial: first.body.serial } })
    expect(refusal(await recover(1, token))).toEqual([403, 'token_reuse'])
    expect((await recover(1, await front.createToken('evident'))).status).toBe(201)
    expect(refusal(await recover(2, await front.createToken('evident')))).toEqual([403, 'recovery_limit_reached'])
    expect(front.ledger.instances.get(identity.instance)?.recoveries).toHaveLength(2)
  })

  it('refuses a proof of a key that is no longer the last one, by the decision', async () => {
    const { key, shown } = await front.enrol('renewed-since')
    await front.call('/v1/renew', { body: { csr: (await createKey()).csrText }, shown })
    const next = await createKey()
    const reply = await front.call('/v1/recover', { body: { csr: next.csrText, jws: await signProof(key, next.csr) } })
    expect([reply.status, reply.body.code]).toEqual([403, 'recovery_not_allowed'])
    expect(front.leafOf(reply, 'request_refused')).toMatchObject({ op: 'recover', code: 'recovery_not_allowed' })
  })

  it('refuses strangers, and proofs for elsewhere, for other times and for other requests', async () => {
    const { key } = await front.enrol('proves-badly')
    const [stranger, next] = [await createKey(), await createKey()]
    const codeOf = async (jws: string) => {
      const reply = await front.call('/v1/recover', { body: { csr: next.csrText, jws } })
      expect(front.leafOf(reply, 'request_refused')).toMatchObject({ code: reply.body.code })
      return [reply.status, reply.body.code]
    }
    const seconds = Math.floor(Date.now() / 1000)
    expect(await codeOf(await signProof(stranger, next.csr))).toEqual([401, 'certificate_unknown'])
    expect(await codeOf(await signProof(key, next.csr, { aud: `${publicUrl}/v1/renew` }))).toEqual([
      401,
      'jws_wrong_audience',
    ])
    expect(await codeOf(await signProof(key, next.csr, { iat: seconds - 120 }))).toEqual([401, 'jws_not_current'])
    expect(await codeOf(await signProof(key, stranger.csr))).toEqual([401, 'jws_signature_invalid'])
    expect(await codeOf(`${(await signProof(key, next.csr)).slice(0, -86)}${'A'.repeat(86)}`)).toEqual([
      401,
      'jws_signature_invalid',
    ])
    expect(await codeOf('not.a.jws')).toEqual([400, 'jws_malformed'])
  })
})

describe('what an agent may read', () => {
  it('GET /v1/self: its registration, state and identity, with a certificate only', async () => {
    const { identity, shown } = await front.enrol('knows-itself')
    const reply = await front.call('/v1/self', { shown })
    expect(reply.status).toBe(200)
    expect(reply.body).toMatchObject({
      spiffeId: identity.spiffeId,
      serial: identity.serial,
      renewAfter: identity.renewAfter,
      certificate: identity.certificate,
      state: 'active',
      registration: { name: 'knows-itself', owner: 'finance', state: 'active', version: 1 },
      scopes: [],
    })
    const anonymous = await front.call('/v1/self')
    expect([anonymous.status, anonymous.body.code]).toEqual([401, 'client_certificate_missing'])
  })

  it('GET /v1/bundle: the roots as PEM', async () => {
    const reply = await front.call('/v1/bundle')
    expect([reply.status, reply.headers['content-type']]).toEqual([200, 'application/pem-certificate-chain'])
    expect(Buffer.from(new X509Certificate(reply.text).raw)).toEqual(Buffer.from(front.ca.root.der))
    expect(await front.call('/v1/bundle', { method: 'HEAD' })).toMatchObject({ status: 200, text: '' })
  })

  it('GET /v1/capabilities: what bodies and evidence this server knows', async () => {
    expect((await front.call('/v1/capabilities')).body).toMatchObject({
      api: 'v1',
      evidence: ['token', 'jwt', 'x509'],
      bodies: { enroll: ['csr', 'evidence', 'idempotencyKey'] },
    })
  })
})

describe('the metrics', () => {
  it('know routes by pattern, never by path', async () => {
    const { counted, metrics } = createCountingMetrics()
    await using metered = await front.serve({ metrics })
    await metered.call('/v1/bundle?x=1')
    await metered.call('/nowhere/1')
    await metered.call('/v1/renew', { body: { csr: 'x' } })
    const requests = () => counted.filter(({ name }) => name === 'agentca_http_requests_total')
    // A client may have its answer before the server hears that it went out.
    await eventually('three requests counted', () => requests().length === 3)
    expect(new Set(requests().map(({ labels }) => `${labels.route} ${labels.status}`))).toEqual(
      new Set(['/v1/bundle 200', 'none 404', '/v1/renew 401']),
    )
    const refused = counted.filter(({ name }) => name === 'agentca_requests_refused_total')
    expect(refused.map(({ labels }) => labels.code)).toEqual(['route_not_found', 'client_certificate_missing'])
  })

  it('time issuance by operation and outcome', async () => {
    const { counted, metrics } = createCountingMetrics()
    await using metered = await front.serve({ metrics })
    const token = await front.createToken('timed')
    const [key, other] = [await createKey(), await createKey()]
    for (const each of [key, key, other])
      await metered.call('/v1/enroll', { body: front.enrolBody(token, each.csrText) })
    const timed = counted.filter(({ name }) => name === 'agentca_issuance_seconds')
    expect(timed.map(({ labels }) => labels)).toEqual([
      { operation: 'enrol', outcome: 'new' },
      { operation: 'enrol', outcome: 'again' },
      { operation: 'enrol', outcome: 'refused' },
    ])
  })
})
