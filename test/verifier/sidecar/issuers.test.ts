// An issuing CA that the sidecar has not met: fetched from where this CA publishes, from nowhere else, and not over and over.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { silentLog } from '../../../src/base/log.ts'
import { parseCertificate } from '../../../src/pki/certificate.ts'
import { createIssuers } from '../../../src/verifier/sidecar/issuers.ts'

let directory: string
let server: Server
let base: string
let elsewhere: Server
const asked: string[] = []
const der = (name: string): Uint8Array => new Uint8Array(readFileSync(join(directory, `${name}.der`)))

const openssl = (...args: readonly string[]): void =>
  void execFileSync('openssl', args, { cwd: directory, stdio: 'ignore' })
const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']

const serve = async (bytes: () => Uint8Array): Promise<Server> => {
  const made = createServer((request, response) => {
    asked.push(request.url ?? '')
    if (request.url === '/aia/gone.cer') response.writeHead(404).end()
    else response.end(bytes())
  })
  await new Promise<void>(resolve => made.listen(0, '127.0.0.1', resolve))
  return made
}
const urlOf = (each: Server): string => `http://127.0.0.1:${(each.address() as AddressInfo).port}`

/** Signed by `ca`, naming its issuer at this place. */
const leafAt = (name: string, url: string): Uint8Array => {
  writeFileSync(join(directory, 'ext'), `authorityInfoAccess=caIssuers;URI:${url}\n`)
  openssl('req', ...key, '-keyout', 'leaf.key', '-subj', `/CN=${name}`, '-out', 'leaf.csr')
  const signed = ['x509', '-req', '-in', 'leaf.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial']
  openssl(...signed, '-extfile', 'ext', '-outform', 'DER', '-out', `${name}.der`)
  return der(name)
}

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-issuers-'))
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-subj', '/CN=issuing 2', '-out', 'ca.pem')
  openssl('x509', '-in', 'ca.pem', '-outform', 'DER', '-out', 'ca.der')
  openssl('req', '-x509', ...key, '-keyout', 'k', '-subj', '/CN=another', '-outform', 'DER', '-out', 'another.der')
  server = await serve(() => der('ca'))
  elsewhere = await serve(() => der('ca'))
  base = urlOf(server)
})
afterAll(() => {
  server?.close()
  elsewhere?.close()
  rmSync(directory, { recursive: true, force: true })
})

const issuersOf = (monotonic: () => number = () => 0) => {
  const own = parseCertificate(leafAt('own', `${base}/aia/issuing-1.cer`))
  return createIssuers({ own: () => own, monotonic, log: silentLog })
}

describe('the issuer of a leaf', () => {
  it('is fetched once, from the place that this CA publishes at', async () => {
    const issuers = issuersOf()
    const leaf = leafAt('agent', `${base}/aia/issuing-2.cer`)
    asked.length = 0
    expect(await Promise.all([issuers.learn(leaf), issuers.learn(leaf)])).toEqual([true, true])
    expect(issuers.known()).toEqual([der('ca')])
    expect(await issuers.learn(leaf)).toBe(false)
    expect(asked).toEqual(['/aia/issuing-2.cer'])
  })

  it('is not asked for anywhere else, whatever a certificate says', async () => {
    const issuers = issuersOf()
    asked.length = 0
    for (const url of [`${urlOf(elsewhere)}/aia/x.cer`, 'http://127.0.0.1.example/x', 'ldap://x', 'file:///etc/passwd'])
      expect(await issuers.learn(leafAt('stranger', url)), url).toBe(false)
    expect(await issuers.learn(new Uint8Array([0x30, 0]))).toBe(false)
    expect([asked, issuers.known()]).toEqual([[], []])
  })

  it('is looked for again after a while where it was not found, not at each call', async () => {
    let now = 0
    const issuers = issuersOf(() => now)
    const leaf = leafAt('early', `${base}/aia/gone.cer`)
    asked.length = 0
    for (now = 0; now < 20_000; now += 1000) expect(await issuers.learn(leaf)).toBe(false)
    expect(asked.length).toBe(2)
  })

  it('is taken only if it is the CA that the leaf names', async () => {
    const wrong = await serve(() => der('another'))
    const own = parseCertificate(leafAt('own', `${urlOf(wrong)}/aia/issuing-1.cer`))
    const issuers = createIssuers({ own: () => own, monotonic: () => 0, log: silentLog })
    expect(await issuers.learn(leafAt('agent', `${urlOf(wrong)}/aia/x.cer`))).toBe(false)
    expect(issuers.known()).toEqual([])
    wrong.close()
  })
})
