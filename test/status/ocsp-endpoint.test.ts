// OCSP over HTTP with a responder made of pki's functions: openssl and curl ask, openssl judges.
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { Agent, get, type IncomingMessage } from 'node:http'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { toBase64, toHex } from '../../src/base/bytes.ts'
import type { OcspReply, OcspSource } from '../../src/ca/status-answers.ts'
import {
  assembleBasicOcspResponse,
  type CertStatus,
  encodeOcspError,
  encodeOcspRequest,
  encodeTbsResponseData,
  parseOcspRequest,
  parseOcspResponse,
} from '../../src/pki/ocsp.ts'
import { certificateFile } from '../pki/crl-authority.ts'
import { ca, certIdOf, leaf, other, responder } from '../pki/ocsp-cast.ts'
import { createBench } from '../pki/openssl.ts'
import { serve } from './serve.ts'

const second = 1000
const now = Math.floor(Date.now() / second) * second
const [thisUpdate, nextUpdate] = [now - 60 * second, now + 3600 * second]

const signed = (certIdDer: Uint8Array, status: CertStatus): OcspReply => {
  const tbs = encodeTbsResponseData({
    responderId: { byKey: responder.keyId },
    producedAt: now,
    responses: [{ certIdDer, status, thisUpdate, nextUpdate }],
  })
  const der = assembleBasicOcspResponse(tbs, responder.algorithm, responder.sign(tbs), [responder.certificate.der])
  return { der, validity: { thisUpdate, nextUpdate, sha1Hex: createHash('sha1').update(der).digest('hex') } }
}

/** Answers from memory as the real one does: the same object each time. */
const createResponder = (
  statuses: Readonly<Record<string, CertStatus>>,
): OcspSource & { readonly asked: number; readonly repeated: number; forget(): void } => {
  const replies = new Map<string, OcspReply>()
  const source = {
    asked: 0,
    repeated: 0,
    forget: () => replies.clear(),
    again: (reply: OcspReply): boolean => {
      const current = [...replies.values()].includes(reply)
      if (current) source.repeated++
      return current
    },
    respond: (bytes: Uint8Array): OcspReply => {
      source.asked++
      try {
        const { certIds } = parseOcspRequest(bytes)
        const [certId] = certIds
        const key = toHex(certId!.der)
        const reply = replies.get(key) ?? signed(certId!.der.slice(), statuses[toHex(certId!.serial)] ?? 'unknown')
        replies.set(key, reply)
        return reply
      } catch {
        return { der: encodeOcspError('malformedRequest'), validity: null }
      }
    },
  }
  return source
}

const statuses: Readonly<Record<string, CertStatus>> = {
  [leaf.certificate.serialHex]: 'good',
  [other.certificate.serialHex]: { revokedAt: thisUpdate, reason: 'keyCompromise' },
}
const requestOf = (party = leaf) => encodeOcspRequest({ certIds: [certIdOf(party)] })
const pathFor = (party = leaf) => `/ocsp/${encodeURIComponent(toBase64(requestOf(party)))}`
const posting = (body: Uint8Array, type = 'application/ocsp-request') => ({
  method: 'POST',
  headers: { 'content-type': type },
  body,
})
const outcomeOf = (body: Buffer) => parseOcspResponse(new Uint8Array(body)).status

let source: ReturnType<typeof createResponder>
let status: Awaited<ReturnType<typeof serve>>
beforeAll(async () => {
  source = createResponder(statuses)
  status = await serve({ ocsp: source })
})
afterAll(async () => {
  await status?.[Symbol.asyncDispose]()
})

describe('OCSP over HTTP', () => {
  it('answers openssl', async () => {
    using bench = createBench()
    const caFile = certificateFile(bench, 'ca.pem', ca)
    const files = ['-CAfile', caFile, '-issuer', caFile]
    const ask = async (name: string, party: typeof leaf) => {
      const args = ['ocsp', '-url', `${status.url}/ocsp`, ...files, '-cert', certificateFile(bench, name, party)]
      const { stdout, stderr } = await promisify(execFile)('openssl', args)
      return stdout + stderr
    }
    const good = await ask('leaf.pem', leaf)
    expect(good).toContain('leaf.pem: good')
    expect(good).toContain('Response verify OK')
    expect(await ask('other.pem', other)).toContain('other.pem: revoked')
  })

  it('has the headers of RFC 5019 §6.2 on the answer to a GET, and 304 for its tag', async () => {
    const { status: code, headers, body } = await status.ask(pathFor())
    expect(code).toBe(200)
    expect(outcomeOf(body)).toBe('successful')
    expect(headers).toMatchObject({
      'content-type': 'application/ocsp-response',
      'content-length': String(body.length),
      etag: `"${createHash('sha1').update(body).digest('hex')}"`,
      'last-modified': new Date(thisUpdate).toUTCString(),
      expires: new Date(nextUpdate).toUTCString(),
      'cache-control': 'max-age=300, public, no-transform, must-revalidate',
    })
    const again = await status.ask(pathFor(), { headers: { 'if-none-match': headers.etag! } })
    expect([again.status, again.headers.expires]).toEqual([304, headers.expires])
    // Answers from before and after a revocation may be of one second.
    const dated = await status.ask(pathFor(), { headers: { 'if-modified-since': headers['last-modified']! } })
    expect(dated.status).toBe(200)
    const head = await status.ask(pathFor(), { method: 'HEAD' })
    expect([head.status, head.body.length, head.headers.etag]).toEqual([200, 0, headers.etag])
  })

  it('reads a GET however the base64 is written', async () => {
    const base64 = toBase64(requestOf(other))
    for (const text of [base64, base64.replace(/=+$/, ''), encodeURIComponent(base64), `${base64}?x=1`]) {
      const { status: code, body } = await status.ask(`/ocsp/${text}`)
      expect([code, outcomeOf(body)], text).toEqual([200, 'successful'])
    }
  })

  it('says malformedRequest, uncached, to what is no request', async () => {
    const garbled = [
      await status.ask('/ocsp/!!!'),
      await status.ask('/ocsp/'),
      await status.ask('/ocsp/AAAA'),
      await status.ask('/ocsp', posting(new Uint8Array([1, 2, 3]))),
      await status.ask('/ocsp', posting(new Uint8Array())),
    ]
    for (const { status: code, headers, body } of garbled)
      expect([code, headers['cache-control'], outcomeOf(body)]).toEqual([200, 'no-store', 'malformedRequest'])
  })

  it('leaves the answer to a POST out of caches', async () => {
    const { status: code, headers, body } = await status.ask('/ocsp', posting(requestOf()))
    expect([code, headers['cache-control'], headers.etag]).toEqual([200, 'no-store', undefined])
    expect(outcomeOf(body)).toBe('successful')
  })

  it('reads a body in pieces, with any writing of its type, and no other type', async () => {
    const bytes = requestOf()
    const headers = { 'content-type': 'Application/OCSP-Request ; charset=binary' }
    const pieces = [bytes.subarray(0, 10), bytes.subarray(10)]
    const answer = await status.ask('/ocsp', { method: 'POST', headers, pieces })
    expect(outcomeOf(answer.body)).toBe('successful')
    for (const type of ['application/octet-stream', 'application/ocsp-requests', ''])
      expect((await status.ask('/ocsp', posting(bytes, type))).status, type).toBe(415)
  })

  it('does not read more than 2 KiB', async () => {
    const before = source.asked
    const whole = await status.ask('/ocsp', posting(new Uint8Array(2049)))
    expect([whole.status, whole.headers.connection]).toEqual([413, 'close'])
    const headers = { 'content-type': 'application/ocsp-request' }
    const pieces = Array.from({ length: 5 }, () => new Uint8Array(1000))
    expect((await status.ask('/ocsp', { method: 'POST', headers, pieces })).status).toBe(413)
    expect(source.asked).toBe(before)
    expect((await status.ask('/ocsp', posting(new Uint8Array(2048)))).status).toBe(200)
  })

  it('a question that came before is not read again, until the responder says so', async () => {
    const repeating = createResponder({ ...statuses })
    await using listener = await serve({ ocsp: repeating })
    const ways = [() => listener.ask(pathFor()), () => listener.ask('/ocsp', posting(requestOf()))]
    for (const ask of ways) {
      const first = await ask()
      const [asked, repeated] = [repeating.asked, repeating.repeated]
      expect((await ask()).body).toEqual(first.body)
      expect([repeating.asked, repeating.repeated]).toEqual([asked, repeated + 1])
      repeating.forget()
      expect((await ask()).status).toBe(200)
      expect(repeating.asked).toBe(asked + 1)
    }
  })

  it('waits for an answer that has to be signed, and hides a failure', async () => {
    const reply = signed(certIdOf(leaf), 'good')
    await using slow = await serve({ ocsp: { respond: async () => reply, again: () => false } })
    expect((await slow.ask(pathFor())).body).toEqual(Buffer.from(reply.der))
    const failures: OcspSource[] = [
      { respond: () => Promise.reject(new Error('secret')), again: () => false },
      {
        respond: () => {
          throw new Error('secret')
        },
        again: () => false,
      },
    ]
    for (const ocsp of failures) {
      await using broken = await serve({ ocsp })
      for (const answer of [await broken.ask(pathFor()), await broken.ask('/ocsp', posting(requestOf()))]) {
        expect(answer.status).toBe(500)
        expect(answer.body.toString()).not.toContain('secret')
      }
    }
  })
})

/** A server whose responder is asked once and answers when it is told to. */
const serveWaiting = async () => {
  const asked = Promise.withResolvers<void>()
  const reply = Promise.withResolvers<OcspReply>()
  const respond = (): Promise<OcspReply> => {
    asked.resolve()
    return reply.promise
  }
  return { server: await serve({ ocsp: { respond, again: () => false } }), asked: asked.promise, answer: reply.resolve }
}

describe('closing', () => {
  it('lets what is being answered end, and takes nothing more', async () => {
    const { server, asked, answer } = await serveWaiting()
    const waiting = server.ask(pathFor(), { headers: { connection: 'keep-alive' } })
    await asked
    const closed = server.close(60_000)
    await expect(server.ask('/bundle')).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    answer(signed(certIdOf(leaf), 'good'))
    expect((await waiting).status).toBe(200)
    await closed
  })

  it('cuts what does not end in time', async () => {
    const { server, asked } = await serveWaiting()
    const waiting = server.ask(pathFor()).then(
      () => 'answered',
      (error: { code: string }) => error.code,
    )
    await asked
    await server.close(10)
    expect(await waiting).toBe('ECONNRESET')
  })

  it('does not wait for a connection that nobody uses', async () => {
    const server = await serve()
    const agent = new Agent({ keepAlive: true })
    const response = await new Promise<IncomingMessage>(resolve =>
      get({ host: '127.0.0.1', port: server.port, path: '/x', agent }, resolve),
    )
    await response.resume().toArray()
    expect(response.headers.connection).toBe('keep-alive')
    // By itself it would stay for 15 s.
    await server.close(60_000)
    agent.destroy()
  }, 10_000)
})
