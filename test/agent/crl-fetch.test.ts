// crl.pem: lists that OpenSSL believes, or none.
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { Credential } from '../../src/agent/credential.ts'
import { fetchCrls } from '../../src/agent/crl-fetch.ts'
import { agentIdentity } from '../../src/agent/identity.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { leaf } from '../ca/authority.ts'
import { runCommand } from '../cli/command.ts'
import { type CaServer, createCaServer } from './ca-server.ts'
import { madeCrl } from './made-credential.ts'
import { createTiming } from './timing.ts'

const run = promisify(execFile)
const signal = new AbortController().signal

let ca: CaServer
let credential: Credential
const published = async () => encodePem('X509 CRL', (await ca.front.ca.publishCrl()).der)
const publishedBySibling = async () => {
  const sibling = ca.front.deps.issuers.online().find(({ name }) => name === 'issuing-2')!
  return encodePem('X509 CRL', (await ca.front.ca.publishCrlOf(sibling)).der)
}
beforeAll(async () => {
  ca = await createCaServer(['issuing-2'])
  const options = { url: ca.url, caFile: ca.caFile, tokenFile: await ca.tokenFile('reader') }
  const id = await agentIdentity(options, { env: {}, timing: createTiming() })
  credential = id.current()
  await id[Symbol.asyncDispose]()
})
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'fulfilled',
    error => error.code ?? error.message,
  )
const eventually = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 90_000, interval: 5 })

describe('the revocation lists of an identity', () => {
  it('are in crl.pem after agentca enroll, and OpenSSL refuses by them whoever was revoked', async () => {
    const dir = ca.scratch('by-command')
    const args = ['enroll', '--url', ca.url, '--ca-file', ca.caFile, '--token-file', await ca.tokenFile('doomed')]
    expect((await runCommand([...args, '--dir', dir])).code).toBe(0)
    const file = (name: string) => join(dir, name)
    const verify = (crls: string) =>
      run('openssl', [
        ...['verify', '-x509_strict', '-crl_check', '-CRLfile', crls, '-CAfile', file('ca.crt')],
        ...['-untrusted', file('tls.crt'), file('tls.crt')],
      ]).then(
        ({ stdout }) => stdout,
        error => error.stderr as string,
      )
    expect(await verify(file('crl.pem'))).toContain('OK')
    const selector = { by: 'agent', value: 'doomed' } as const
    await ca.front.ledger.revocations.revoke({
      selector,
      reason: 'keyCompromise',
      at: Date.now(),
      expected: 1,
      leaf: () => leaf('revoked'),
    })
    // Another identity's directory gets the new list with its own start.
    const other = ca.scratch('beside')
    expect((await runCommand([...args.with(6, await ca.tokenFile('beside')), '--dir', other])).code).toBe(0)
    expect(await verify(join(other, 'crl.pem'))).toContain('certificate revoked')
  })

  it('are fetched anew with every renewal in a directory, without another generation', async () => {
    const [dir, timing] = [ca.scratch('renews'), createTiming()]
    const options = { url: ca.url, caFile: ca.caFile, tokenFile: await ca.tokenFile('renews'), dir }
    await using id = await agentIdentity(options, { env: {}, timing })
    const crl = (): string => readFileSync(join(dir, 'crl.pem'), 'utf8')
    await eventually(() => expect(crl()).toContain('BEGIN X509 CRL'))
    const before = crl()
    timing.advance(3_000_000)
    await eventually(() => expect(id.current().facts.generation).toBe(2))
    await eventually(() => expect(crl()).not.toBe(before))
  })

  it('are fetched long before they end, and when the CA thinks otherwise of the identity; whoever uses them is told of others', async () => {
    const [dir, timing] = [ca.scratch('kept-new'), createTiming()]
    const options = { url: ca.url, caFile: ca.caFile, tokenFile: await ca.tokenFile('kept-new'), dir }
    await using id = await agentIdentity(options, { env: {}, timing })
    let told = 0
    id.on('crls', path => {
      expect(path).toBe(join(dir, 'crl.pem'))
      told++
    })
    const crl = (): string => readFileSync(join(dir, 'crl.pem'), 'utf8')
    await eventually(() => expect(crl()).toContain('BEGIN X509 CRL'))
    // Of a day: fetched at half of it, long before the certificate would be renewed if it lived for so long.
    ca.fate({ problem: { status: 503, code: 'busy', retryAfter: '86400' } })
    const before = crl()
    const toldBefore = told
    timing.advance(12 * 3_600_000)
    await eventually(() => expect(crl()).not.toBe(before))
    await eventually(() => expect(told).toBeGreaterThan(toldBefore))
    ca.forget()
    // The same lists again are no news.
    const pem = await published()
    ca.publish(async () => pem)
    await eventually(() => {
      timing.advance(12 * 3_600_000)
      expect(crl()).toBe(pem)
    })
    ca.publish(published)
  })

  it.each([
    ['no lists', async (): Promise<string> => '', 'answer_malformed'],
    ['something else', async (): Promise<string> => ca.rootPem, 'answer_malformed'],
    ['a list that was changed', async (): Promise<string> => tampered(await published()), 'answer_not_verified'],
    ['a list of another CA', async () => madeCrl(), 'answer_not_verified'],
  ] as const)('are not taken when the status listener gives %s', async (_, crls, code) => {
    ca.publish(crls)
    expect(await codeOf(fetchCrls(credential, Date.now(), signal))).toBe(code)
    ca.publish(published)
    expect((await fetchCrls(credential, Date.now(), signal))?.pem).toContain('BEGIN X509 CRL')
  })

  it('are followed by those of other CAs that lead to the same roots, and by none that nobody known signed', async () => {
    const [own, sibling, foreign] = [await published(), await publishedBySibling(), await madeCrl()]
    for (const text of [own + foreign + sibling, sibling + foreign + own]) {
      ca.publish(async () => text)
      const fetched = await fetchCrls(credential, Date.now(), signal)
      expect([fetched?.pem, fetched?.leftOut]).toEqual([own + sibling, ['CN=throw-away root']])
    }
    // The name of a CA that is known does not make its list.
    ca.publish(async () => own + tampered(sibling))
    const forged = await fetchCrls(credential, Date.now(), signal)
    expect([forged?.pem, forged?.leftOut]).toEqual([own, ['CN=agentca test issuing 2']])
    ca.publish(published)
  })

  it('are not taken after their end', async () => {
    expect(await codeOf(fetchCrls(credential, Date.now() + 30 * 86_400_000, signal))).toBe('answer_not_verified')
  })

  it('that cannot be fetched leave the identity as good as it was', async () => {
    ca.publish(() => new Promise(() => {}))
    const ending = new AbortController()
    const fetching = fetchCrls(credential, Date.now(), ending.signal)
    ending.abort(new Error('enough'))
    expect(await codeOf(fetching)).toBe('enough')
    ca.publish(async () => 'x')
    const dir = ca.scratch('without')
    const args = ['enroll', '--url', ca.url, '--ca-file', ca.caFile, '--token-file', await ca.tokenFile('without')]
    const { code, err } = await runCommand([...args, '--dir', dir])
    expect([code, err]).toEqual([0, expect.stringContaining('crl.pem stays empty')])
    ca.publish(published)
  })
})

/** The last octet of the signature is another. */
const tampered = (pem: string): string => {
  const der = Buffer.from(pem.replaceAll(/-----.*-----|\n/g, ''), 'base64')
  der[der.length - 1]! ^= 1
  return encodePem('X509 CRL', der)
}
