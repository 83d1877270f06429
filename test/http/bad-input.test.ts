// Bad input over the wire: each has its status and code, one audit leaf, and leaves the token that came with it usable.
import { once } from 'node:events'
import { connect } from 'node:tls'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { leaf } from '../ca/authority.ts'
import { badRequests, base64 } from './bad-requests.ts'
import { type Ask, createKey, createTestFront, type Reply, type TestFront } from './harness.ts'

let front: TestFront
beforeAll(async () => {
  front = await createTestFront()
})
afterAll(async () => {
  await front?.[Symbol.asyncDispose]()
})

const verdict = ({ status, body }: Reply) => [status, body?.code ?? 'ok']

const expectRefusal = (reply: Reply, expected: readonly [number, string], subject: string | null) => {
  expect(verdict(reply)).toEqual(expected)
  expect(reply.body).toMatchObject({ type: `urn:agentca:problem:${expected[1]}`, title: expect.any(String) })
  expect(reply.body.detail).toMatch(/^[^A-Z]/)
  expect(front.leafOf(reply, 'request_refused')).toMatchObject({ code: expected[1], subject })
}

describe('a certification request', () => {
  it.each(badRequests)('that is $is is refused', async ({ is, text, answer, refusedAs }) => {
    const agent = `asks-${badRequests.findIndex(each => each.is === is)}`
    const token = await front.createToken(agent)
    const reply = await front.call('/v1/enroll', { body: front.enrolBody(token, text()) })
    expectRefusal(reply, answer, refusedAs === 'text' ? null : `agent:${agent}`)
    const key = await createKey()
    expect(verdict(await front.call('/v1/enroll', { body: front.enrolBody(token, key.csrText) }))).toEqual([201, 'ok'])
  })
})

describe('a join token', () => {
  const enrol = async (token: string) =>
    front.call('/v1/enroll', { body: front.enrolBody(token, (await createKey()).csrText) })

  it('that nobody made is refused, before the request is read', async () => {
    expectRefusal(await enrol('never-made'), [401, 'token_unknown'], null)
    const reply = await front.call('/v1/enroll', { body: front.enrolBody('never-made', base64(new Uint8Array([1]))) })
    expectRefusal(reply, [401, 'token_unknown'], null)
  })

  it('that expired, was revoked, is for another CA, or was used by another key is refused', async () => {
    const expired = await front.createToken('token-expired', { expiresAt: Date.now() - 1 })
    expectRefusal(await enrol(expired), [401, 'token_expired'], 'agent:token-expired')
    const foreign = await front.createToken('token-foreign', { audience: 'another-ca' })
    expectRefusal(await enrol(foreign), [401, 'token_wrong_audience'], 'agent:token-foreign')
    const revoked = await front.createToken('token-revoked')
    const { id } = front.ledger.registrations.find('agent', 'token-revoked')!
    for (const row of front.ledger.tokens.list({ registrationId: id, limit: 10 }))
      await front.ledger.tokens.revoke(row.id, Date.now(), leaf('token_revoked'))
    expectRefusal(await enrol(revoked), [401, 'token_revoked'], 'agent:token-revoked')
    const used = await front.createToken('token-used')
    expect(verdict(await enrol(used))).toEqual([201, 'ok'])
    const again = await enrol(used)
    expect(verdict(again)).toEqual([403, 'token_reuse'])
    expect(front.leafOf(again, 'token_reuse').subject).toBe('agent:token-used')
  })
})

describe('a body', () => {
  const post = (body: unknown, headers: Ask['headers'] = {}) => front.call('/v1/enroll', { body, headers })

  it('with unknown members is refused, each named', async () => {
    const { csrText } = await createKey()
    const body = { ...front.enrolBody('t', csrText), colour: 'red', admin: true }
    const reply = await post(body)
    expectRefusal(reply, [422, 'request_invalid'], null)
    expect(reply.body.facts.faults).toEqual(['colour: unknown key', 'admin: unknown key'])
    const polluted = await post(`{"__proto__": {"csr": "x"}, "csr": "y", "evidence": {"type": "token", "token": "t"}}`)
    expect(verdict(polluted)).toEqual([422, 'request_invalid'])
  })

  it('with evidence that this server does not know is refused with what it knows', async () => {
    const reply = await post({ csr: 'x', evidence: { type: 'jwt', jwt: 'x' } })
    expectRefusal(reply, [422, 'evidence_type_not_supported'], null)
    expect(reply.body.facts.supported).toEqual(['token'])
  })

  it('that is no JSON, or not in UTF-8, is refused without a word of it in the answer', async () => {
    for (const text of ['{"csr": ', 'secret', '\ufeff{}']) {
      const reply = await post(text)
      expectRefusal(reply, [400, 'body_malformed'], null)
      expect(reply.body.detail).toBe('the body is not JSON in UTF-8')
    }
    expectRefusal(await postBytes(Buffer.from([0x22, 0xff, 0x22])), [400, 'body_malformed'], null)
  })

  it('that is missing, or not an object, is refused', async () => {
    expect(verdict(await front.call('/v1/enroll', { method: 'POST' }))).toEqual([422, 'request_invalid'])
    for (const text of ['null', '[]', '"text"', '1'])
      expect(verdict(await post(text))).toEqual([422, 'request_invalid'])
    // As deep as 64 KiB allow.
    expect(verdict(await post('['.repeat(30_000) + ']'.repeat(30_000)))).toEqual([422, 'request_invalid'])
  })

  it('of another type or encoding is refused', async () => {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/json; charset=utf-16'])
      expectRefusal(await post('{}', { 'Content-Type': type }), [415, 'content_type_not_supported'], null)
    const zipped = await postBytes(gzipSync('{}'), { 'Content-Encoding': 'gzip' })
    expectRefusal(zipped, [415, 'content_type_not_supported'], null)
    expect(verdict(await post('{}', { 'Content-Type': 'application/json; charset=UTF-8' }))).toEqual([
      422,
      'request_invalid',
    ])
  })

  it('of 1 MB is refused with an answer that arrives, and so is one of 1 GB', async () => {
    const reply = await post(front.enrolBody('t', 'A'.repeat(1_000_000)))
    expectRefusal(reply, [413, 'body_too_large'], null)
    const announced = await rawPost(['Content-Type: application/json', 'Content-Length: 1000000000'], '{')
    expect(announced).toMatch(/^HTTP\/1\.1 413 /)
    expect(announced).toContain('Connection: close')
  })

  it('in chunks is read like any other, and refused when they do not end', async () => {
    const headers = ['Content-Type: application/json', 'Transfer-Encoding: chunked']
    const small = await rawPost(['Connection: close', ...headers], '2\r\n{}\r\n0\r\n\r\n')
    expect(small).toMatch(/^HTTP\/1\.1 422 /)
    const chunk = `80000\r\n${'x'.repeat(0x80000)}\r\n`
    const endless = await rawPost(headers, `${chunk.repeat(8)}1\r\nx\r\n`)
    expect(endless).toMatch(/^HTTP\/1\.1 413 /)
    expect(endless).toContain('Connection: close')
  })

  it('is not waited for where the request is refused without it', async () => {
    const headers = ['Content-Type: application/json', 'Content-Length: 1000000000']
    const answer = await rawPost(headers, '{', front.port, '/v1/nowhere')
    expect(answer).toMatch(/^HTTP\/1\.1 404 /)
    expect(answer).toContain('Connection: close')
    const kept = await front.call('/v1/nowhere', { body: {} })
    expect(kept.status).toBe(404)
  })

  it('that never ends is refused in time, and its connection closed', async () => {
    await using impatient = await front.serve({}, { bodyDeadlineMs: 50 })
    const answer = await rawPost(['Content-Type: application/json', 'Content-Length: 100'], '{"csr":', impatient.port)
    expect(answer).toMatch(/^HTTP\/1\.1 408 /)
    expect(answer).toContain('Connection: close')
    const id = /x-request-id: ([0-9a-f]{32})/i.exec(answer)?.[1] as string
    expect(answer).toContain('"code":"request_timeout"')
    expect(front.leafOf({ headers: { 'x-request-id': id } }, 'request_refused').code).toBe('request_timeout')
  })
})

/** Exact bytes over TLS, and everything that comes back until the connection ends. */
const rawPost = async (
  headers: readonly string[],
  body: string | Buffer,
  port = front.port,
  path = '/v1/enroll',
): Promise<string> => {
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false })
  await once(socket, 'secureConnect')
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  // A server that closes early may answer what still arrives with a reset; what it said before counts.
  socket.on('error', () => {})
  const end = new Promise(resolve => socket.once('close', resolve))
  const head = `POST ${path} HTTP/1.1\r\nHost: x\r\n${headers.join('\r\n')}\r\n\r\n`
  socket.write(Buffer.concat([Buffer.from(head), Buffer.from(body)]))
  await end
  return Buffer.concat(chunks).toString('utf8')
}

/** A body of exact bytes, as a reply like any other. */
const postBytes = async (bytes: Buffer, headers: Readonly<Record<string, string>> = {}): Promise<Reply> => {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
  const text = await rawPost(
    ['Connection: close', 'Content-Type: application/json', `Content-Length: ${bytes.length}`, ...lines],
    bytes,
  )
  const [head = '', body = ''] = text.split('\r\n\r\n', 2)
  const parsed = Object.fromEntries(
    head
      .split('\r\n')
      .slice(1)
      .map(line => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 2)]),
  )
  return { status: Number(head.split(' ')[1]), headers: parsed, text: body, body: JSON.parse(body) }
}
