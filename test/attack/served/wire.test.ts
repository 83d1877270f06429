// What can be done with bytes on a wire to a CA as it is served: requests inside requests, headers that speak for somebody else, paths
// that lead out, encodings, old TLS. Each listener is attacked, and each goes on.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { adminRoutes } from '../../../src/schema/admin-api.ts'
import { runProgram } from '../../story/served-ca.ts'
import { ambiguousRequests } from '../ambiguous-requests.ts'
import { type AttackedCa, type Door, doors, portOf, startAttackedCa } from './attacked.ts'

let attacked: AttackedCa
beforeAll(async () => {
  attacked = await startAttackedCa()
}, 180_000)
afterAll(async () => attacked?.[Symbol.asyncDispose]())

/** Where each listener reads a body, and where it answers 200 to somebody who knows nothing. */
const places: Readonly<Record<Door, { readonly body: string; readonly open: string }>> = {
  api: { body: '/v1/enroll', open: '/v1/bundle' },
  status: { body: '/ocsp', open: '/bundle' },
  ops: { body: '/livez', open: '/livez' },
  admin: { body: '/v1/admin/tokens', open: '/v1/admin/status' },
}
const hidden = (door: Door): string => `GET ${places[door].open} HTTP/1.1\r\nHost: ca\r\nConnection: close\r\n\r\n`
const answersIn = (said: string): readonly string[] =>
  [...said.matchAll(/HTTP\/1\.1 ([0-9]{3})/g)].map(([, code]) => code!)

describe.each(doors)('request smuggling at the %s listener', door => {
  it.each(ambiguousRequests)('with %s gets one refusal and an end', async (_, head) => {
    const start = `POST ${places[door].body} HTTP/1.1\r\nHost: ca\r\nContent-Type: application/json\r\n`
    const said = await attacked.say(door, `${start}${head}${hidden(door)}`)
    const answers = answersIn(said)
    // A body that nobody reads may be answered before it turns out to be none; what follows it is never a request.
    expect(answers.length).toBeLessThanOrEqual(2)
    for (const answer of answers) expect(answer).toMatch(/^4/)
  })

  it('without a host, with two hosts, in HTTP/0.9 or in a version of its own gets no answer but a refusal', async () => {
    const { open } = places[door]
    for (const text of [
      `GET ${open} HTTP/1.1\r\nConnection: close\r\n\r\n`,
      `GET ${open}\r\n\r\n`,
      `GET ${open} HTTP/3.7\r\nHost: ca\r\n\r\n`,
      `GET ${open} HTTP/2.0\r\nHost: ca\r\n\r\n`,
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    ]) {
      const said = await attacked.say(door, text)
      expect(answersIn(said).join(), text).toMatch(/^(?:400|505)?$/)
    }
  })

  it('with extensions of a chunk without end, or a head without end, is cut', async () => {
    const start = `POST ${places[door].body} HTTP/1.1\r\nHost: ca\r\nContent-Type: application/json\r\n`
    const extension = await attacked.say(
      door,
      `${start}Transfer-Encoding: chunked\r\n\r\n1;${'x=y;'.repeat(8192)}\r\n${hidden(door)}`,
    )
    expect(answersIn(extension)).not.toContain('200')
    const head = await attacked.say(door, `${start}${'X: y\r\n'.repeat(8192)}\r\n${hidden(door)}`)
    expect(answersIn(head)).toEqual(['431'])
  })
})

describe('a path', () => {
  /** What only files of the home hold. */
  const secrets = (): readonly string[] => [
    'SQLite format 3',
    'root:x:0',
    'PRIVATE KEY',
    'directories.tokendir',
    readFileSync(join(attacked.home.paths.tokens, 'user.pin'), 'utf8').trim(),
  ]
  const climbs = [
    '../agentca.db',
    '..%2fagentca.db',
    '..%2Fagentca.db',
    '%2e%2e/agentca.db',
    '%2e%2e%2fagentca.db',
    '%252e%252e%252fagentca.db',
    '..\\agentca.db',
    '..%5cagentca.db',
    '..;/agentca.db',
    '..%c0%afagentca.db',
    '/etc/passwd',
    '%2fetc%2fpasswd',
    '../../../../../../../../etc/passwd',
    'x%00.crl',
    '__proto__',
    'constructor',
    'toString',
    '.',
    '%',
    `${'../'.repeat(200)}etc/passwd`,
  ]
  const agentRoutes = ['/v1/', '/acme/', '/acme/order/', '/.well-known/est/', '/.well-known/est/cacerts/', '/v1/feed/']
  const bases: Readonly<Record<Door, readonly string[]>> = {
    api: agentRoutes,
    status: ['/', '/crl/', '/crl/issuing-1/', '/aia/', '/ocsp/', '/state/', '/state/head/', '/log/', '/bundle/'],
    ops: ['/', '/livez/', '/metrics/'],
    admin: [...new Set(Object.values(adminRoutes).map(({ path }) => `/v1/admin${path.replace(/:.*$/, '')}`))].map(
      path => `${path.replace(/\/$/, '')}/`,
    ),
  }

  it.each(doors)('at the %s listener leads to nothing but routes, however it climbs', async door => {
    for (const base of bases[door]) {
      const said = await Promise.all(
        climbs.map(climb =>
          attacked.say(door, `GET ${base}${climb} HTTP/1.1\r\nHost: ca\r\nConnection: close\r\n\r\n`),
        ),
      )
      for (const [at, each] of said.entries()) {
        expect(answersIn(each), `${base}${climbs[at]}`).toHaveLength(1)
        expect(Number(answersIn(each)[0]), `${base}${climbs[at]}`).toBeLessThan(500)
        for (const secret of secrets()) expect(each.includes(secret), `${base}${climbs[at]}`).toBe(false)
      }
    }
  })
})

describe('a header', () => {
  const forged = (pem: string): readonly Readonly<Record<string, string>>[] => {
    const der = pem.replace(/-----[A-Z ]+-----|\s/g, '')
    const escaped = encodeURIComponent(pem)
    const uri = 'spiffe://agentca.local/operator/admin'
    return [
      { 'Client-Cert': `:${der}:`, 'Client-Cert-Chain': `:${der}:` },
      { 'X-Client-Cert': escaped, 'X-SSL-Client-Cert': escaped, 'SSL-Client-Cert': escaped, 'X-SSL-Cert': der },
      { 'X-Forwarded-Client-Cert': `Hash=00;Cert="${escaped}";URI=${uri}`, 'X-Forwarded-Tls-Client-Cert': der },
      { 'X-SSL-Client-Verify': 'SUCCESS', 'X-SSL-Client-S-DN': 'CN=op-admin', 'X-Client-Verify': 'SUCCESS' },
      { 'X-Agentca-Agent': 'admin', 'Agentca-Assertion': uri, 'X-Agent': uri, 'X-Remote-User': 'admin' },
      {
        Authorization: 'Bearer admin',
        'X-Forwarded-User': 'admin',
        'X-Forwarded-For': '127.0.0.1',
        'X-Real-IP': '::1',
      },
      { 'X-Original-URL': '/v1/bundle', 'X-Rewrite-URL': '/v1/bundle', 'X-HTTP-Method-Override': 'GET' },
      {
        Forwarded: 'for=127.0.0.1;proto=https;host=ca',
        'X-Forwarded-Proto': 'https',
        'X-Forwarded-Host': 'evil.example',
      },
    ]
  }

  it('speaks for nobody: who calls is said by the connection alone', async () => {
    const { shown } = await attacked.enrolled('forwarded')
    for (const headers of forged(shown.cert))
      for (const path of ['/v1/self', '/v1/feed']) {
        const reply = await attacked.call(path, { headers })
        expect([reply.status, reply.body.code], JSON.stringify(headers)).toEqual([401, 'client_certificate_missing'])
        const operators = await attacked.call('/v1/admin/status', { headers })
        expect([operators.status, operators.body.code]).toEqual([403, 'operator_only'])
      }
  })

  it('changes nothing about who an agent is, nor where the log says that it came from', async () => {
    const { identity, shown } = await attacked.enrolled('itself')
    for (const headers of forged(shown.cert)) {
      const self = await attacked.call('/v1/self', { shown, headers })
      expect([self.status, self.body.spiffeId]).toEqual([200, identity.spiffeId])
      const refused = await attacked.call('/v1/admin/status', {
        shown,
        headers: { ...headers, 'X-Forwarded-For': '203.0.113.9' },
      })
      expect([refused.status, refused.body.code]).toEqual([403, 'operator_only'])
    }
    const { out } = await attacked.operator.run('audit tail -n 50 -o json')
    expect(out).not.toContain('203.0.113.9')
  })

  it('of a host names no URL that this CA hands out', async () => {
    for (const path of ['/acme/directory', '/v1/capabilities']) {
      const reply = await attacked.call(path, { headers: { Host: 'evil.example', 'X-Forwarded-Host': 'evil.example' } })
      expect(reply.text).not.toContain('evil.example')
    }
  })

  it('of an encoding is refused: nothing is ever decompressed', async () => {
    for (const encoding of ['gzip', 'br', 'deflate', 'zstd', 'gzip, identity', 'x-gzip']) {
      const reply = await attacked.call('/v1/enroll', { body: '{}', headers: { 'Content-Encoding': encoding } })
      expect([reply.status, reply.body.code]).toEqual([415, 'content_type_not_supported'])
    }
    const said = await attacked.say(
      'status',
      'POST /ocsp HTTP/1.1\r\nHost: ca\r\nContent-Type: application/ocsp-request\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\nConnection: close\r\n\r\n\x1f\x8b\x08\x00',
    )
    // Read as it is: malformedRequest (RFC 6960 §4.2.1).
    expect([answersIn(said), said.endsWith('\x30\x03\x0a\x01\x01')]).toEqual([['200'], true])
  })
})

describe('TLS', () => {
  const offered = async (...options: readonly string[]) => {
    const args = ['s_client', '-connect', `127.0.0.1:${portOf(attacked.ca.line.api)}`, ...options]
    return runProgram('openssl', args, { cwd: attacked.home.paths.home })
  }

  it.each([
    ['-tls1_2', '-legacy_renegotiation'],
    ['-tls1_1', '-cipher', 'DEFAULT@SECLEVEL=0'],
    ['-tls1', '-cipher', 'DEFAULT@SECLEVEL=0'],
    ['-no_tls1_3', '-legacy_server_connect'],
    ['-tls1_2', '-fallback_scsv'],
    ['-tls1_3', '-ciphersuites', 'TLS_AES_128_CCM_8_SHA256'],
  ])('with %s %s is not spoken', async (...options) => {
    const { code, out, err } = await offered(...options)
    expect(code).not.toBe(0)
    expect(`${out}${err}`).toMatch(/alert (?:protocol version|handshake failure)/)
  })

  it('speaks HTTP/1.1 only, whatever a client would rather have', async () => {
    const { out } = await offered('-tls1_3', '-alpn', 'http/1.1,h2')
    expect(out).toContain('ALPN protocol: http/1.1')
    const { code, out: refused, err } = await offered('-tls1_3', '-alpn', 'h2')
    expect([code, `${refused}${err}`.includes('alert no application protocol')]).toEqual([1, true])
  })
})

it('and after all of it every listener answers', async () => {
  for (const door of doors) expect(answersIn(await attacked.say(door, hidden(door)))).toEqual(['200'])
})
