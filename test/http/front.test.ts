// Who may call, decided for each request: certificates that are not ours, not current, not allowed any more, and sessions that resume.
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { Agent, createServer as createHttpsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { Router } from 'express'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createApp } from '../../src/http/app.ts'
import { callOf, contextOf } from '../../src/http/call.ts'
import { createInFlight, createLimits } from '../../src/http/limits.ts'
import { createPlainServer } from '../../src/http/listener.ts'
import { assembleCertificate, encodeTbsCertificate, parseCertificate } from '../../src/pki/certificate.ts'
import { encodePem, parsePem } from '../../src/pki/pem.ts'
import type { RegistrationState } from '../../src/store/records.ts'
import { leaf } from '../ca/authority.ts'
import { createTestKey } from '../pki/keys.ts'
import { ask, createKey, createTestFront, type Reply, type Shown, selfSigned, type TestFront } from './harness.ts'

const hour = 3_600_000

let front: TestFront
beforeAll(async () => {
  front = await createTestFront()
})
afterAll(async () => {
  await front?.[Symbol.asyncDispose]()
})

const self = (shown: Shown) => front.call('/v1/self', { shown })
const renew = async (shown: Shown) => front.call('/v1/renew', { shown, body: { csr: (await createKey()).csrText } })
const verdict = ({ status, body }: Reply) => [status, body?.code ?? 'ok']

const setState = (agent: string, state: RegistrationState) =>
  front.ledger.registrations.change({
    kind: 'agent',
    name: agent,
    at: Date.now(),
    decide: () => ({ set: {}, state }),
    leaf: () => leaf('registration_changed'),
  })

const revoke = (by: 'serial' | 'instance' | 'agent', value: string) =>
  front.ledger.revocations.revoke({
    selector: { by, value },
    reason: 'keyCompromise',
    at: Date.now(),
    expected: null,
    leaf: () => leaf('revoked'),
  })

/** A refusal by the front: its verdict, and a leaf that names the request, the caller and the reason. */
const expectRefusal = (reply: Reply, expected: readonly [number, string], agent: string | null) => {
  expect(verdict(reply)).toEqual(expected)
  expect(reply.headers['content-type']).toBe('application/problem+json')
  expect(reply.body).toMatchObject({ type: `urn:agentca:problem:${expected[1]}`, requestId: expect.any(String) })
  expect(front.leafOf(reply, 'request_refused')).toMatchObject({
    code: expected[1],
    subject: agent === null ? null : `agent:${agent}`,
    src: '127.0.0.1',
  })
}

/** Another certificate under a recorded serial: same names and times, another key, signed by that key. */
const forge = (certificatePem: string): Shown => {
  const original = parseCertificate(parsePem(certificatePem, 'CERTIFICATE')[0]!)
  const key = createTestKey('P-256')
  const tbs = encodeTbsCertificate({
    serial: original.serial,
    signatureAlgorithm: 'ecdsa-with-SHA256',
    issuerDer: original.issuerDer,
    notBefore: original.notBefore,
    notAfter: original.notAfter,
    subjectDer: original.subjectDer,
    spkiDer: key.spki.der,
    extensions: original.extensions,
  })
  const der = assembleCertificate(tbs, 'ecdsa-with-SHA256', key.signDer(tbs))
  return { cert: encodePem('CERTIFICATE', der), key: key.privateKey }
}

/** The owner's own certificate with its signature replaced by one of another key. */
const resign = ({ cert, key }: Shown): Shown => {
  const { tbs } = parseCertificate(parsePem(cert, 'CERTIFICATE')[0]!)
  const der = assembleCertificate(tbs, 'ecdsa-with-SHA256', createTestKey('P-256').signDer(tbs))
  return { cert: encodePem('CERTIFICATE', der), key }
}

describe('a certificate that this CA did not issue', () => {
  it('is refused on every route, as a stranger', async () => {
    const foreign = selfSigned('somebody')
    const shown = { cert: foreign.chain, key: foreign.key }
    expectRefusal(await self(shown), [401, 'certificate_unknown'], null)
    expectRefusal(await renew(shown), [401, 'certificate_unknown'], null)
    expectRefusal(await front.call('/v1/bundle', { shown }), [401, 'certificate_unknown'], null)
  })

  it('is refused under a serial of ours: the bytes must be the recorded ones', async () => {
    const { identity, shown } = await front.enrol('forged')
    expectRefusal(await self(forge(identity.certificate)), [401, 'client_certificate_invalid'], null)
    expectRefusal(await renew(forge(identity.certificate)), [401, 'client_certificate_invalid'], null)
    expectRefusal(await self(resign(shown)), [401, 'client_certificate_invalid'], null)
    expect(verdict(await self(shown))).toEqual([200, 'ok'])
  })

  it('is refused when it cannot be read', async () => {
    const { shown } = await front.enrol('unreadable')
    // Outside and inside name different algorithms, which OpenSSL lets through.
    const { tbs, signature } = parseCertificate(parsePem(shown.cert, 'CERTIFICATE')[0]!)
    const der = assembleCertificate(tbs, 'ecdsa-with-SHA384', signature)
    const unreadable = { cert: encodePem('CERTIFICATE', der), key: shown.key }
    expectRefusal(await self(unreadable), [401, 'client_certificate_invalid'], null)
  })
})

describe('a certificate of ours', () => {
  it('is refused on the very next call of a live connection when it was revoked', async () => {
    const { identity, shown } = await front.enrol('revoked')
    const agent = new Agent({
      keepAlive: true,
      maxSockets: 1,
      rejectUnauthorized: false,
      cert: shown.cert,
      key: shown.key.export({ type: 'pkcs8', format: 'pem' }),
    })
    expect(verdict(await front.call('/v1/self', { agent }))).toEqual([200, 'ok'])
    const [socket] = Object.values(agent.freeSockets).flat()
    await revoke('serial', identity.serial)
    expectRefusal(await front.call('/v1/self', { agent }), [403, 'certificate_revoked'], 'revoked')
    expect(Object.values(agent.freeSockets).flat()).toEqual([socket])
    agent.destroy()
    expect(verdict(await renew(shown))).toEqual([403, 'certificate_revoked'])
  })

  it('is refused with its instance, and with its agent', async () => {
    const one = await front.enrol('instance-revoked')
    await revoke('instance', one.identity.instance)
    expectRefusal(await self(one.shown), [403, 'instance_revoked'], 'instance-revoked')
    const two = await front.enrol('retired')
    await setState('retired', 'retired')
    expectRefusal(await self(two.shown), [403, 'registration_retired'], 'retired')
    expectRefusal(await renew(two.shown), [403, 'registration_retired'], 'retired')
  })

  it('is refused while its agent is held, and works again afterwards; a refused renewal used nothing up', async () => {
    const { shown } = await front.enrol('held')
    await setState('held', 'held')
    const refused = await self(shown)
    expectRefusal(refused, [403, 'registration_held'], 'held')
    expect(refused.body.hint).toBe('agentca agent release held')
    const renewal = await renew(shown)
    expectRefusal(renewal, [403, 'registration_held'], 'held')
    // By the issuance decision, which audits what it refuses.
    expect(front.leafOf(renewal, 'request_refused')).toMatchObject({ op: 'renew' })
    await setState('held', 'active')
    expect(verdict(await self(shown))).toEqual([200, 'ok'])
    expect(verdict(await renew(shown))).toEqual([201, 'ok'])
  })

  it('is refused after its end, by its own time', async () => {
    const { shown } = await front.enrol('expired')
    front.time.offset = 2 * hour
    try {
      expectRefusal(await self(shown), [401, 'certificate_expired'], 'expired')
      const renewal = await renew(shown)
      expectRefusal(renewal, [401, 'certificate_expired'], 'expired')
      expect(front.leafOf(renewal, 'request_refused')).toMatchObject({ op: 'renew' })
    } finally {
      front.time.offset = 0
    }
    front.time.offset = -2 * hour
    try {
      expectRefusal(await self(shown), [401, 'client_certificate_invalid'], 'expired')
    } finally {
      front.time.offset = 0
    }
  })

  it('locks its instance when an older one renews, and every locked answer names the cure', async () => {
    const { identity, shown } = await front.enrol('stolen')
    const key = await createKey()
    const second = await front.call('/v1/renew', { shown, body: { csr: key.csrText } })
    const secondShown = { cert: second.body.certificate, key: key.privateKey }
    expect(verdict(await renew(secondShown))).toEqual([201, 'ok'])
    const conflict = await renew(shown)
    expectRefusal(conflict, [403, 'lineage_conflict'], 'stolen')
    expect(front.leafOf(conflict, 'lineage_locked').subject).toBe(`agent:${identity.agent}`)
    const locked = await self(secondShown)
    expectRefusal(locked, [403, 'instance_locked'], 'stolen')
    expect(locked.body.hint).toBe(`agentca instance unlock ${identity.instance}`)
    expect(verdict(await renew(secondShown))).toEqual([403, 'instance_locked'])
  })
})

describe('a resumed TLS session', () => {
  it('is refused with a certificate, on every route', async () => {
    // A server as Node makes it, with tickets: what tls-server.ts prevents has to be refused here too.
    const { key, chain } = front.credentials
    const options = { key, cert: chain, requestCert: true, rejectUnauthorized: false }
    const lax = createHttpsServer(options, front.app)
    await new Promise<void>(resolve => lax.listen(0, '127.0.0.1', resolve))
    const { port } = lax.address() as AddressInfo
    try {
      const { shown } = await front.enrol('resumes')
      const client = { cert: shown.cert, key: shown.key.export({ type: 'pkcs8', format: 'pem' }) }
      // Node's agent keeps the session of its last connection and offers it for the next one.
      const agent = new Agent({ keepAlive: false, rejectUnauthorized: false, maxCachedSessions: 10, ...client })
      const replies: Reply[] = []
      for (let i = 0; i < 2; i++) replies.push(await ask(port, '/v1/self', { agent }))
      expect(verdict(replies[0]!)).toEqual([200, 'ok'])
      expectRefusal(replies[1]!, [401, 'session_resumed'], null)
      const renewal = await ask(port, '/v1/renew', { agent, body: { csr: (await createKey()).csrText } })
      expectRefusal(renewal, [401, 'session_resumed'], null)
      agent.destroy()
    } finally {
      lax.closeAllConnections()
      lax.close()
    }
  })
})

describe('every request', () => {
  it('has an id that this server drew, in the header, the problem and the leaf', async () => {
    const headers = { 'X-Request-Id': 'mine', 'X-Forwarded-For': '198.51.100.7' }
    const replies = await Promise.all([1, 2].map(() => front.call('/v1/self', { headers })))
    for (const reply of replies) {
      expect(reply.headers['x-request-id']).toMatch(/^[0-9a-f]{32}$/)
      expect(reply.body.requestId).toBe(reply.headers['x-request-id'])
      expect(front.leafOf(reply, 'request_refused')).toMatchObject({ src: '127.0.0.1' })
    }
    expect(replies[0]?.body.requestId).not.toBe(replies[1]?.body.requestId)
  })

  it('meets a path or a method that exists, exactly as it is written', async () => {
    for (const path of ['/', '/v1/Self', '/v1/self/', '/v1/admin', '/v1/%zz'])
      expect(verdict(await front.call(path))).toEqual([404, 'route_not_found'])
    const agent = new Agent({ keepAlive: true, rejectUnauthorized: false })
    expect((await front.call('/v1/nowhere', { agent })).headers.connection).toBe('keep-alive')
    agent.destroy()
    const wrong = await front.call('/v1/enroll')
    expect([...verdict(wrong), wrong.headers.allow]).toEqual([405, 'method_not_allowed', 'POST'])
    const deleted = await front.call('/v1/bundle', { method: 'DELETE' })
    expect([...verdict(deleted), deleted.headers.allow]).toEqual([405, 'method_not_allowed', 'GET, HEAD'])
    expect(deleted.headers).not.toHaveProperty('x-powered-by')
  })
})

describe('the socket face', () => {
  it('has the admin API and nothing else, and takes whoever may open it for the local operator', async () => {
    const adminRouter = Router()
    adminRouter.post('/echo', (request, response) => {
      response.json({ body: request.body, caller: callOf(response).caller, who: contextOf(response).who })
    })
    const directory = mkdtempSync(join(tmpdir(), 'agentca-socket-'))
    const socketPath = join(directory, 'admin.sock')
    const server = createPlainServer(createApp({ face: 'socket', deps: front.deps, adminRouter }))
    await server.listenOn(socketPath)
    const post = async (path: string) => {
      const asked = request({ socketPath, path, method: 'POST', agent: false })
      asked.setHeader('Content-Type', 'application/json').end('{"a":1}')
      const [response] = await once(asked, 'response')
      return { status: response.statusCode, body: await json(response) }
    }
    try {
      expect(await post('/v1/admin/echo')).toEqual({
        status: 200,
        body: { body: { a: 1 }, caller: { kind: 'local' }, who: 'operator:local' },
      })
      for (const path of ['/v1/enroll', '/v1/admin/nowhere'])
        expect(await post(path)).toMatchObject({ status: 404, body: { code: 'route_not_found' } })
    } finally {
      await server.close(0)
      rmSync(directory, { recursive: true, force: true })
    }
  })
})

describe('limits', () => {
  /** No time passes: what was taken stays taken, however slow the machine is. */
  const still = { now: () => 0, monotonic: () => 0 }

  it('refuse a source with 429 and a time to wait, certificates that are not ours included', async () => {
    const limits = createLimits(still, { anonymousPerMinute: 12, identityPerMinute: 1_000_000 })
    await using limited = await front.serve({ limits })
    const foreign = selfSigned('somebody')
    const shown = { cert: foreign.chain, key: foreign.key }
    expect(verdict(await limited.call('/v1/bundle'))).toEqual([200, 'ok'])
    expect(verdict(await limited.call('/v1/bundle', { shown }))).toEqual([401, 'certificate_unknown'])
    const refused = [await limited.call('/v1/bundle'), await limited.call('/v1/bundle', { shown })]
    for (const reply of refused) {
      expectRefusal(reply, [429, 'rate_limited'], null)
      expect(reply.headers['retry-after']).toBe('3')
    }
    const { shown: ours } = await front.enrol('not-anonymous')
    expect(verdict(await limited.call('/v1/self', { shown: ours }))).toEqual([200, 'ok'])
  })

  it('refuse one identity and leave the others alone', async () => {
    const limits = createLimits(still, { anonymousPerMinute: 1_000_000, identityPerMinute: 6 })
    await using limited = await front.serve({ limits })
    const [busy, quiet] = [await front.enrol('busy'), await front.enrol('quiet')]
    expect(verdict(await limited.call('/v1/self', { shown: busy.shown }))).toEqual([200, 'ok'])
    expectRefusal(await limited.call('/v1/self', { shown: busy.shown }), [429, 'rate_limited'], 'busy')
    expect(verdict(await limited.call('/v1/self', { shown: quiet.shown }))).toEqual([200, 'ok'])
  })

  it('refuse a revoked instance without a word to the others of its agent', async () => {
    const limits = createLimits(still, { anonymousPerMinute: 1_000_000, identityPerMinute: 6 })
    await using limited = await front.serve({ limits })
    const [stolen, honest] = [await front.enrol('shared'), await front.enrol('shared')]
    await front.ledger.revocations.revoke({
      selector: { by: 'instance', value: stolen.identity.instance },
      reason: 'keyCompromise',
      at: Date.now(),
      expected: null,
      leaf: () => leaf('revoked'),
    })
    const flood = () => limited.call('/v1/self', { shown: stolen.shown })
    expect([verdict(await flood()), verdict(await flood())]).toEqual([
      [403, 'instance_revoked'],
      [429, 'rate_limited'],
    ])
    expect(verdict(await limited.call('/v1/self', { shown: honest.shown }))).toEqual([200, 'ok'])
  })

  it('answer 503 when too many certificates are in work', async () => {
    await using full = await front.serve({ inFlight: createInFlight(0) })
    const body = front.enrolBody(await front.createToken('too-many'), (await createKey()).csrText)
    const reply = await full.call('/v1/enroll', { body })
    expect([...verdict(reply), reply.headers['retry-after']]).toEqual([503, 'overloaded', '3'])
  })
})
