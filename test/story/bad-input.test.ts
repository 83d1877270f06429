// Bad input at a CA as it is served: whatever comes is refused with a problem document, which says what to do where something can be
// done, and every refusal is found by its request id in what `agentca audit tail` shows.
import { once } from 'node:events'
import { Agent } from 'node:https'
import { dirname } from 'node:path'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LeafAnswer, StatusAnswer } from '../../src/schema/admin-answers.ts'
import type { RunningServer } from '../../src/server/serve.ts'
import { badRequests } from '../http/bad-requests.ts'
import { type Ask, ask, createKey, type Reply, type Shown, selfSigned } from '../http/harness.ts'
import { createStoryHome, type StoryHome } from './ca-process.ts'
import { createOperator, type Operator } from './operator.ts'
import { type StoryTime, serveHere } from './served-here.ts'

let home: StoryHome
let server: RunningServer
let operator: Operator
const time: StoryTime = { aheadMs: 0 }
let slowBody: ReturnType<typeof heard>
let slowHeaders: ReturnType<typeof heard>

beforeAll(async () => {
  home = await createStoryHome({ AGENTCA_AUDIT_CHECKPOINTEVERY: '1h' })
  server = await serveHere(home, time)
  operator = createOperator(home.env, dirname(home.paths.home))
  // The server's patience is ten seconds and more: it runs out while the others are tested.
  const head = 'POST /v1/enroll HTTP/1.1\r\nHost: ca\r\nContent-Type: application/json\r\n'
  slowBody = heard(`${head}Content-Length: 100\r\n\r\n{"csr":`)
  slowHeaders = heard(head)
}, 180_000)
afterAll(async () => {
  await server?.close(0)
  home?.remove()
})

const portOf = (url: string): number => Number(new URL(url).port)
const call = (path: string, asked: Ask = {}): Promise<Reply> => ask(portOf(server.line.api), path, asked)
const enrol = (token: string, csr: string, more: object = {}) =>
  call('/v1/enroll', { body: { csr, evidence: { type: 'token', token }, ...more } })
const createToken = async (agent: string): Promise<{ id: string; token: string }> => {
  await operator.run(`agent create ${agent} --owner stories`)
  return operator.json(`token create --agent ${agent}`)
}

/** An agent with its certificate, as it shows it. */
const enrolled = async (agent: string) => {
  const key = await createKey()
  const { token } = await createToken(agent)
  const { body } = await enrol(token, key.csrText)
  const pem = key.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
  return { identity: body, shown: { cert: body.certificate as string, key: pem } }
}

const connected = async (options: ConnectionOptions = {}): Promise<TLSSocket> => {
  const socket = connect({ host: '127.0.0.1', port: portOf(server.line.api), rejectUnauthorized: false, ...options })
  // Cut off by the server, which is what some of them are for.
  socket.on('error', () => {})
  await once(socket, 'secureConnect')
  return socket
}

/** Everything that the server says until it ends the connection. */
const heard = async (text: string): Promise<{ readonly head: string; readonly body: Reply['body'] }> => {
  const socket = await connected()
  let said = ''
  socket.setEncoding('utf8').on('data', chunk => {
    said += chunk
  })
  socket.write(text)
  await once(socket, 'close')
  const [head = '', body = ''] = said.split('\r\n\r\n')
  return { head: `${head}\r`, body: body === '' ? undefined : JSON.parse(body) }
}

/** Sessions that the server offers, by ticket or by id, on a connection that is then over. */
const offeredSessions = async (own: ConnectionOptions): Promise<readonly Buffer[]> => {
  const socket = await connected(own)
  const sessions: Buffer[] = []
  socket.on('session', session => sessions.push(session))
  socket.end('GET /v1/self HTTP/1.1\r\nHost: ca\r\nConnection: close\r\n\r\n').resume()
  await once(socket, 'close')
  return sessions
}

const leavesFrom = async (from: number) => {
  const { items } = await home.admin.call('auditLeaves', { query: { from, limit: 1000 } })
  return items.map(({ event, bytes = '' }) => ({
    event,
    content: JSON.parse(Buffer.from(bytes, 'base64').toString('utf8')) as Readonly<Record<string, unknown>>,
  }))
}

/** What says in its detail, or in its list of faults, all that can be done. */
const withoutHint: ReadonlySet<string> = new Set([
  'pem_malformed',
  'pem_wrong_label',
  'body_malformed',
  'body_too_large',
  'request_invalid',
  'request_timeout',
])

/** The answer, and the one leaf that an operator finds by the id in it. */
const expectRefusal = async (reply: Reply, [status, code]: readonly [number, string], subject: string | null) => {
  const { body } = reply
  expect([reply.status, body?.code, reply.headers['content-type']]).toEqual([status, code, 'application/problem+json'])
  expect(body).toMatchObject({ type: `urn:agentca:problem:${code}`, status, requestId: reply.headers['x-request-id'] })
  expect(body.detail).toMatch(/^[^A-Z]/)
  expect([code, typeof body.hint]).toEqual([code, withoutHint.has(code) ? 'undefined' : 'string'])
  const leaves = await operator.json<LeafAnswer[]>('audit tail -n 50')
  const own = leaves.filter(({ content }) => content?.req === body.requestId && content?.code === code)
  expect(own.map(leaf => [leaf.subject, leaf.content?.src])).toEqual([[subject, '127.0.0.1']])
}

describe('a certification request', () => {
  it.each(badRequests)('that is $is is refused', async ({ is, text, answer, refusedAs }) => {
    const agent = `asks-${badRequests.findIndex(each => each.is === is)}`
    const { token } = await createToken(agent)
    await expectRefusal(await enrol(token, text()), answer, refusedAs === 'text' ? null : `agent:${agent}`)
    expect((await enrol(token, (await createKey()).csrText)).status).toBe(201)
  })

  it('of 1 MB is refused before anybody looks at it', async () => {
    await expectRefusal(await enrol('t', 'A'.repeat(1_000_000)), [413, 'body_too_large'], null)
  })
})

const attempt = async (token: string) => enrol(token, (await createKey()).csrText)
const renew = async (shown: Shown | undefined) =>
  call('/v1/renew', { shown, body: { csr: (await createKey()).csrText } })

describe('a join token', () => {
  it('of another CA is nothing here', async () => {
    await expectRefusal(await attempt('b3RoZXItY2EtdG9rZW4'), [401, 'token_unknown'], null)
  })

  it('that was revoked is refused', async () => {
    const { id, token } = await createToken('token-revoked')
    await operator.json(`token revoke ${id}`)
    await expectRefusal(await attempt(token), [401, 'token_revoked'], 'agent:token-revoked')
  })

  it('that another key used is refused, and says so with an event of its own', async () => {
    const { token } = await createToken('token-used')
    expect((await attempt(token)).status).toBe(201)
    await expectRefusal(await attempt(token), [403, 'token_reuse'], 'agent:token-used')
    const events = await operator.json<LeafAnswer[]>('audit tail --event token_reuse')
    expect(events.map(each => each.subject)).toEqual(['agent:token-used'])
  })
})

describe('a renewal', () => {
  it('without a certificate is refused', async () => {
    await expectRefusal(await renew(undefined), [401, 'client_certificate_missing'], null)
  })

  it('with a certificate of somebody else’s is refused', async () => {
    const { key, chain } = selfSigned('stranger')
    await expectRefusal(await renew({ key, cert: chain }), [401, 'certificate_unknown'], null)
  })

  it('with a revoked certificate is refused', async () => {
    const { identity, shown } = await enrolled('revoked')
    await operator.json(`revoke --serial ${identity.serial} --reason keyCompromise --yes`)
    await expectRefusal(await renew(shown), [403, 'certificate_revoked'], 'agent:revoked')
  })

  it('with a held certificate is refused, until it is released', async () => {
    const { shown } = await enrolled('held')
    await operator.json('agent hold held')
    await expectRefusal(await renew(shown), [403, 'registration_held'], 'agent:held')
    await operator.json('agent release held')
    expect((await renew(shown)).status).toBe(201)
  })

  it('never comes over a resumed TLS session: nothing that the server offers resumes', async () => {
    const { shown } = await enrolled('resuming')
    const own = { cert: shown.cert, key: shown.key }
    const sessions = await offeredSessions(own)
    for (const session of sessions) {
      const again = await connected({ ...own, session })
      expect(again.isSessionReused()).toBe(false)
      again.destroy()
    }
  })
})

describe('a request', () => {
  it('under an idempotency key that belongs to another one is refused', async () => {
    const { token } = await createToken('idempotent')
    const idempotencyKey = 'one-request'
    const { csrText } = await createKey()
    expect((await enrol(token, csrText, { idempotencyKey })).status).toBe(201)
    const reply = await enrol(token, (await createKey()).csrText, { idempotencyKey })
    await expectRefusal(reply, [409, 'idempotency_key_reused'], 'agent:idempotent')
    expect((await enrol(token, csrText, { idempotencyKey })).status).toBe(200)
  })

  it('with unknown members is refused, each named', async () => {
    const reply = await enrol('t', 'c', { colour: 'red', admin: true })
    await expectRefusal(reply, [422, 'request_invalid'], null)
    expect(reply.body.facts.faults).toEqual(['colour: unknown key', 'admin: unknown key'])
  })

  it('of another content type, or that is no JSON, is refused', async () => {
    const form = { body: 'csr=x', headers: { 'Content-Type': 'application/x-www-form-urlencoded' } }
    await expectRefusal(await call('/v1/enroll', form), [415, 'content_type_not_supported'], null)
    await expectRefusal(await call('/v1/enroll', { body: '{"csr": ' }), [400, 'body_malformed'], null)
  })

  it('by an agent at the operators’ door is refused', async () => {
    const { shown } = await enrolled('curious')
    await expectRefusal(await call('/v1/admin/status', { shown }), [403, 'operator_only'], 'agent:curious')
  })
})

describe('10,000 refusals that a stranger causes', () => {
  it('do not fill the disk: a few have leaves of their own, a summary tells of the rest', async () => {
    const flushed = () => operator.json('audit checkpoint')
    await flushed()
    const { audit: before } = await operator.json<StatusAnswer>('status')
    const agent = new Agent({ keepAlive: true, maxSockets: 16, rejectUnauthorized: false })
    const body = { csr: 'AAAA', evidence: { type: 'token', token: 'x' } }
    let left = 10_000
    const insist = async (): Promise<void> => {
      while (left-- > 0) expect((await call('/v1/enroll', { body, agent })).body.code).toBe('token_unknown')
    }
    await Promise.all(Array.from({ length: 16 }, insist))
    agent.destroy()
    await flushed()
    const leaves = await leavesFrom(before.size)
    const own = leaves.filter(({ content }) => content.code === 'token_unknown')
    const [summary, ...more] = leaves.filter(({ event }) => event === 'refusals_summary')
    expect(more).toEqual([])
    expect(summary?.content).toMatchObject({
      dropped: 10_000 - own.length,
      codes: { token_unknown: 10_000 - own.length },
    })
    // One more each ten seconds, however long it took.
    expect(own.length).toBeLessThan(100)
  }, 180_000)
})

describe('a client that is slow on purpose', () => {
  it('with its body is refused in time, and its connection closed', async () => {
    const { head, body } = await slowBody
    expect(head).toMatch(/^HTTP\/1\.1 408 /)
    expect(head).toMatch(/^Connection: close\r$/im)
    const headers = { 'content-type': 'application/problem+json', 'x-request-id': body.requestId }
    await expectRefusal({ status: 408, headers, text: '', body }, [408, 'request_timeout'], null)
  })

  it('with its headers is cut off before it is a request', async () => {
    expect((await slowHeaders).head).toMatch(/^HTTP\/1\.1 408 /)
  })
})

describe('two hours later', () => {
  it('token and certificate have expired: refused, and nobody is locked', async () => {
    const { token } = await createToken('expired')
    const { identity, shown } = await enrolled('expired')
    time.aheadMs = 2 * 3_600_000
    await expectRefusal(await attempt(token), [401, 'token_expired'], 'agent:expired')
    await expectRefusal(await renew(shown), [401, 'certificate_expired'], 'agent:expired')
    expect(await operator.json(`instance show ${identity.instance}`)).toMatchObject({ state: 'active' })
  })
})
