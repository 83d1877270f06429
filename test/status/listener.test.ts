// The status listener over real CRLs: keys in SoftHSM2, a signer process, the SQLite ledger; curl asks with conditions.
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Clock } from '../../src/base/clock.ts'
import type { CrlPublisher } from '../../src/ca/crl-publisher.ts'
import { createIssuers } from '../../src/ca/issuers.ts'
import type { PublishedCrl } from '../../src/ca/status-answers.ts'
import { encodePem, parsePem } from '../../src/pki/pem.ts'
import { createRootCrl } from '../ca/ceremony-crl.ts'
import { createPublication, issuingCrl, type Publication, serialsOf } from '../ca/publication.ts'
import { serve } from './serve.ts'

let world: Publication
let publisher: CrlPublisher
let status: Awaited<ReturnType<typeof serve>>
let checkpoint: string | null = null
beforeAll(async () => {
  world = await createPublication()
  publisher = await world.openPublisher(world.newDirectory())
  await publisher.setRootCrl('root-1', await createRootCrl(world.ca, { number: 1n }))
  const issuers = createIssuers(world.ca.ledger.issuers, null)
  status = await serve({ crls: publisher, issuers, latestCheckpoint: () => checkpoint })
})
afterAll(async () => {
  await status?.[Symbol.asyncDispose]()
  await publisher?.close()
  await world?.[Symbol.asyncDispose]()
})

const crlPath = '/crl/issuing-1.crl'

describe('what is published', () => {
  it('is served as it is, with what caches need', async () => {
    const list = issuingCrl(publisher)
    const { status: code, headers, body } = await status.ask(crlPath)
    expect(code).toBe(200)
    expect(body).toEqual(Buffer.from(list.der))
    expect(headers).toMatchObject({
      'content-type': 'application/pkix-crl',
      'content-length': String(list.der.length),
      etag: `"${list.sha256}"`,
      'last-modified': new Date(list.thisUpdate).toUTCString(),
      'cache-control': 'max-age=300, must-revalidate',
    })
    const root = await status.ask('/crl/root-1.crl')
    expect(root.body).toEqual(Buffer.from(publisher.byIssuer('root-1')!.der))
  })

  it('has the bundle of CRLs, the CA certificates and the trust bundle', async () => {
    const { root, issuing } = world.ca
    const crls = await status.ask('/crl/bundle.pem')
    expect(crls.headers['content-type']).toBe('application/x-pem-file')
    expect(parsePem(crls.body.toString(), 'X509 CRL')).toHaveLength(2)
    const authorities = await status.ask('/aia/bundle.pem')
    expect(parsePem(authorities.body.toString(), 'CERTIFICATE')).toEqual([root.der, issuing.der])
    for (const [name, { der }] of [
      ['root-1', root],
      ['issuing-1', issuing],
    ] as const) {
      const { headers, body } = await status.ask(`/aia/${name}.cer`)
      expect(headers['content-type']).toBe('application/pkix-cert')
      expect(body).toEqual(Buffer.from(der))
    }
    expect((await status.ask('/bundle')).body.toString()).toBe(encodePem('CERTIFICATE', root.der))
    const spiffe = await status.ask('/bundle.json')
    expect(spiffe.headers['content-type']).toBe('application/json')
    expect(JSON.parse(spiffe.body.toString())).toMatchObject({ spiffe_sequence: 1, spiffe_refresh_hint: 300 })
  })

  it('has the latest checkpoint once there is one, and the next after it', async () => {
    expect((await status.ask('/log/checkpoint')).status).toBe(404)
    checkpoint = 'first note\n\n\u2014 signature\n'
    const first = await status.ask('/log/checkpoint')
    expect(first.body.toString()).toBe(checkpoint)
    expect(first.headers['content-type']).toBe('text/plain; charset=utf-8')
    checkpoint = 'second note\n\n\u2014 signature\n'
    const second = await status.ask('/log/checkpoint')
    expect(second.body.toString()).toBe(checkpoint)
    expect(second.headers.etag).not.toBe(first.headers.etag)
  })

  it('shows a new list as soon as there is one', async () => {
    const [serial] = await world.enrolled('listed')
    await world.revoke(serial!)
    await publisher.publish()
    expect(serialsOf((await status.ask(crlPath)).body)).toContain(serial)
  })

  it('answers HEAD with the headers alone', async () => {
    for (const path of [crlPath, '/crl/bundle.pem', '/bundle', '/nowhere']) {
      const [get, head] = [await status.ask(path), await status.ask(path, { method: 'HEAD' })]
      expect(head.body).toHaveLength(0)
      const own = { date: '', 'x-request-id': '' }
      expect([head.status, { ...head.headers, ...own }]).toEqual([get.status, { ...get.headers, ...own }])
    }
  })

  it('is good for caches no longer than the list is', async () => {
    const list: PublishedCrl = issuingCrl(publisher)
    const clock: Clock & { at: number } = { at: 0, now: () => clock.at, monotonic: () => 0 }
    await using late = await serve({
      clock,
      crls: publisher,
      issuers: createIssuers(world.ca.ledger.issuers, null),
    })
    const maxAgeAt = async (at: number) => {
      clock.at = at
      return (await late.ask(crlPath)).headers['cache-control']
    }
    expect(await maxAgeAt(list.thisUpdate)).toBe('max-age=300, must-revalidate')
    expect(await maxAgeAt(list.nextUpdate - 100_500)).toBe('max-age=100, must-revalidate')
    expect(await maxAgeAt(list.nextUpdate + 5000)).toBe('max-age=0, must-revalidate')
  })
})

describe('a conditional request', () => {
  const codeWith = async (headers: Readonly<Record<string, string>>, path = crlPath) =>
    (await status.ask(path, { headers })).status

  it('gets 304 with the headers of 200 when its entity tag is still the present one (RFC 9110 §13.1.2)', async () => {
    const { headers } = await status.ask(crlPath)
    const etag = headers.etag!
    for (const tags of [etag, `W/${etag}`, `"other", ${etag}`, `"a,b",W/"c" , W/${etag}`, '*', ' * '])
      expect(await codeWith({ 'if-none-match': tags }), tags).toBe(304)
    for (const tags of ['"other"', 'W/"other", "another"', etag.slice(1, -1), ''])
      expect(await codeWith({ 'if-none-match': tags }), tags).toBe(200)
    const answer = await status.ask(crlPath, { headers: { 'if-none-match': etag } })
    expect(answer.body).toHaveLength(0)
    expect(answer.headers).toMatchObject({
      etag,
      'cache-control': headers['cache-control'],
      'last-modified': headers['last-modified'],
    })
    expect(answer.headers).not.toHaveProperty('content-type')
  })

  it('gets 304 for exactly the date we gave, and only for that (RFC 9110 §13.1.3)', async () => {
    const [serial] = await world.enrolled('dated')
    await world.revoke(serial!)
    await publishedAlone()
    const date = (await status.ask(crlPath)).headers['last-modified']!
    expect(await codeWith({ 'if-modified-since': date })).toBe(304)
    // The tag goes first.
    expect(await codeWith({ 'if-modified-since': date, 'if-none-match': '"other"' })).toBe(200)
    const later = new Date(Date.parse(date) + 60_000).toUTCString()
    for (const other of [later, new Date(0).toUTCString(), 'yesterday', ''])
      expect(await codeWith({ 'if-modified-since': other }), other).toBe(200)
  })

  it('is not told that nothing changed when two lists share a second', async () => {
    await publishedAlone()
    let [before, after] = [issuingCrl(publisher), issuingCrl(publisher)]
    while (after === before || after.thisUpdate !== before.thisUpdate) {
      before = issuingCrl(publisher)
      await status.ask(crlPath)
      await publisher.publish()
      after = issuingCrl(publisher)
    }
    const date = new Date(after.thisUpdate).toUTCString()
    expect((await status.ask(crlPath)).headers['last-modified']).toBe(date)
    expect(await codeWith({ 'if-modified-since': date })).toBe(200)
    expect(await codeWith({ 'if-modified-since': date, 'if-none-match': `"${after.sha256}"` })).toBe(304)
  })

  it('works with curl', async () => {
    await publishedAlone()
    const file = (name: string) => join(world.ca.directory, name)
    const curl = async (...args: string[]): Promise<string> => {
      const always = ['-sS', '-o', file('got.crl'), '-w', '%{http_code}', `${status.url}${crlPath}`]
      return (await promisify(execFile)('curl', [...always, ...args])).stdout
    }
    expect(await curl('-R', '--etag-save', file('etag'))).toBe('200')
    expect(readFileSync(file('got.crl'))).toEqual(Buffer.from(issuingCrl(publisher).der))
    expect(await curl('--etag-compare', file('etag'))).toBe('304')
    expect(await curl('-z', file('got.crl'))).toBe('304')
    await publisher.publish()
    expect(await curl('--etag-compare', file('etag'))).toBe('200')
  })
})

/** A list with a second of its own, of which the listener has heard. */
const publishedAlone = async (): Promise<void> => {
  const { thisUpdate } = issuingCrl(publisher)
  while (issuingCrl(publisher).thisUpdate === thisUpdate) {
    await new Promise(resolve => setTimeout(resolve, 50))
    if (Math.floor(Date.now() / 1000) * 1000 > thisUpdate) await publisher.publish()
  }
  await status.ask(crlPath)
}

describe('what is not there', () => {
  it('is a small problem document that nobody keeps', async () => {
    const { status: code, headers, body } = await status.ask('/nowhere')
    expect(code).toBe(404)
    expect(headers).toMatchObject({ 'content-type': 'application/problem+json', 'cache-control': 'no-store' })
    expect(JSON.parse(body.toString())).toEqual({
      type: 'urn:agentca:problem:route_not_found',
      title: 'Not found',
      status: 404,
      detail: 'there is nothing at this path',
      code: 'route_not_found',
      requestId: headers['x-request-id'],
    })
    expect(headers).toMatchObject({ 'x-request-id': expect.stringMatching(/^[0-9a-f]{32}$/) })
    expect(headers['content-length']).toBe(String(body.length))
    for (const path of [
      '/',
      '/crl/',
      '/crl/nobody.crl',
      '/crl/issuing-1.cer',
      '/aia/issuing-1.crl',
      '/CRL/issuing-1.crl',
    ])
      expect((await status.ask(path)).status, path).toBe(404)
  })

  it('cannot be reached by climbing', async () => {
    for (const path of [
      '/crl/../bundle',
      '/crl/%2e%2e/bundle',
      '/crl/..%2fbundle',
      '//bundle',
      '/crl%2Fissuing-1.crl',
      '/crl/issuing-1.crl%00',
      '/crl/./issuing-1.crl',
      '/crl/..%2f..%2f..%2fetc%2fpasswd.crl',
      '/crl/issuing-1.crl/',
    ])
      expect((await status.ask(path)).status, path).toBe(404)
  })

  it('knows a path in each of its forms, and refuses one that has none', async () => {
    for (const path of [
      `${crlPath}?x=1`,
      `${crlPath}?/../..`,
      '/crl/issuing%2D1.crl',
      '/%63rl/issuing-1%2ecrl',
      `${status.url}${crlPath}`,
      `HTTP://proxied.example${crlPath}?x`,
    ])
      expect((await status.ask(path)).status, path).toBe(200)
    for (const path of ['/crl/%', '/crl/%4', '/crl/%zz.crl', 'http://proxied.example', '*', 'crl/issuing-1.crl'])
      expect((await status.ask(path, { method: path === '*' ? 'OPTIONS' : 'GET' })).status, path).toBe(400)
  })

  it('are other methods: 405 says which there are', async () => {
    for (const [path, method, allow] of [
      [crlPath, 'POST', 'GET, HEAD'],
      ['/bundle', 'DELETE', 'GET, HEAD'],
      ['/ocsp', 'GET', 'POST'],
      ['/ocsp/MAA', 'POST', 'GET, HEAD'],
    ] as const) {
      const { status: code, headers } = await status.ask(path, { method })
      expect([code, headers.allow], path).toEqual([405, allow])
    }
    expect((await status.ask('/nowhere', { method: 'POST' })).status).toBe(404)
  })
})

describe('the listener', () => {
  it('goes on when the ledger is closed and the signer is dead', async () => {
    await using doomed = await createPublication()
    await using published = await doomed.openPublisher(doomed.newDirectory())
    const issuers = createIssuers(doomed.ca.ledger.issuers, null)
    await using alone = await serve({ crls: published, issuers })
    await doomed.ca.ledger.close()
    await doomed.ca.signer.supervisor.close()
    expect(() => doomed.ca.ledger.issuers.list()).toThrow()
    await expect(published.publish()).rejects.toThrow()
    const { status: code, body } = await alone.ask(crlPath)
    expect([code, body]).toEqual([200, Buffer.from(issuingCrl(published).der)])
    for (const path of ['/crl/bundle.pem', '/aia/issuing-1.cer', '/bundle', '/bundle.json'])
      expect((await alone.ask(path)).status, path).toBe(200)
  })

  it('hides what went wrong inside, and lives on', async () => {
    await using broken = await serve({
      latestCheckpoint: () => {
        throw new Error('a secret of the house')
      },
    })
    const { status: code, body } = await broken.ask('/log/checkpoint')
    expect(code).toBe(500)
    expect(body.toString()).not.toContain('secret')
    expect((await broken.ask('/bundle')).status).toBe(200)
  })
})
