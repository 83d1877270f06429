// What others make of a running CA: OpenSSL, GnuTLS, curl and Python as relying parties of its certificates and lists, and as clients
// of its API, before and after a revocation.
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseCertificate } from '../../src/pki/certificate.ts'
import { encodePem, parsePem } from '../../src/pki/pem.ts'
import { mustRun, type Ran, runProgram, type ServedCa, startServedCa } from './served-ca.ts'

let ca: ServedCa
let serial: string
const self = 'GET /v1/self HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'

const run = (program: string, args: readonly string[], says?: string): Promise<Ran> =>
  runProgram(program, args, { cwd: ca.directory, ...(says === undefined ? {} : { says }) })
const fetchTo = (file: string, url: string): Promise<string> =>
  mustRun('curl', ['--silent', '--show-error', '--fail', '--output', file, url], { cwd: ca.directory })

/** As a relying party has them: from the status listener, at the addresses that certificates name. */
const fetchPublished = async (): Promise<void> => {
  const { status } = ca.urls
  await fetchTo('bundle.pem', `${status}/bundle`)
  await fetchTo('crls.pem', `${status}/crl/bundle.pem`)
  await fetchTo('issuing.der', `${status}/aia/issuing-1.cer`)
  writeFileSync(
    join(ca.directory, 'issuing.pem'),
    encodePem('CERTIFICATE', readFileSync(join(ca.directory, 'issuing.der'))),
  )
}

beforeAll(async () => {
  ca = await startServedCa()
  const directory = await ca.enrolled('billing')
  const [leaf] = parsePem(readFileSync(join(directory, 'tls.crt'), 'utf8'), 'CERTIFICATE')
  serial = parseCertificate(leaf!).serialHex
  await fetchPublished()
}, 180_000)
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

const opensslVerify = (): Promise<Ran> =>
  run('openssl', [
    ...['verify', '-x509_strict', '-crl_check_all', '-CAfile', 'bundle.pem', '-CRLfile', 'crls.pem'],
    ...['-untrusted', 'issuing.pem', 'billing/tls.crt'],
  ])
const gnutlsVerify = (): Promise<Ran> =>
  run('certtool', [
    ...['--verify', '--verify-profile', 'medium', '--load-ca-certificate', 'bundle.pem'],
    ...['--load-crl', 'crls.pem', '--infile', 'billing/tls.crt'],
  ])
/** Over HTTP, as GET or POST as OpenSSL likes; the responder's own certificate is verified up to the root. */
const opensslOcsp = (...which: readonly string[]): Promise<Ran> =>
  run('openssl', [
    ...['ocsp', '-issuer', 'issuing.pem', ...which, '-url', `${ca.urls.status}/ocsp`],
    ...['-CAfile', 'bundle.pem', '-verify_other', 'issuing.pem', '-no_nonce'],
  ])

const pythonClient = `
import http.client, ssl, sys
host, ca, cert, key = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.verify_flags |= ssl.VERIFY_X509_STRICT
context.minimum_version = ssl.TLSVersion.TLSv1_3
context.load_cert_chain(cert, key)
connection = http.client.HTTPSConnection(host, context=context)
connection.request('GET', '/v1/self')
response = connection.getresponse()
print('HTTP/1.1', response.status)
print(response.read().decode())
`

/** One call of GET /v1/self over mTLS each; the answer with its status line on standard output. */
const clients: Readonly<Record<string, () => Promise<Ran>>> = {
  'openssl s_client': () =>
    run(
      'openssl',
      [
        ...['s_client', '-quiet', '-connect', new URL(ca.urls.api).host, '-verify_return_error'],
        ...['-verify_ip', '127.0.0.1', '-x509_strict', '-CAfile', 'bundle.pem'],
        ...['-cert', 'billing/tls.crt', '-cert_chain', 'billing/tls.crt', '-key', 'billing/tls.key'],
      ],
      self,
    ),
  curl: () =>
    run('curl', [
      ...['--silent', '--show-error', '--include', '--cacert', 'bundle.pem'],
      ...['--cert', 'billing/tls.crt', '--key', 'billing/tls.key', `${ca.urls.api}/v1/self`],
    ]),
  'gnutls-cli': () =>
    run(
      'gnutls-cli',
      [
        ...['--priority', 'NORMAL:%PROFILE_MEDIUM', '--x509cafile', 'bundle.pem', '--x509certfile', 'billing/tls.crt'],
        ...['--x509keyfile', 'billing/tls.key', '--port', new URL(ca.urls.api).port, '127.0.0.1'],
      ],
      self,
    ),
  'Python’s ssl': () =>
    run('python3', [
      ...['-c', pythonClient, new URL(ca.urls.api).host, 'bundle.pem', 'billing/tls.crt', 'billing/tls.key'],
    ]),
}

describe('a fresh agent', () => {
  it('is accepted by openssl verify, strictly and with the whole chain checked for revocation', async () => {
    expect(await opensslVerify()).toMatchObject({ code: 0, out: 'billing/tls.crt: OK\n' })
  })

  it('is not accepted by openssl verify without a CRL of every CA: the published bundle has them', async () => {
    const [issuing] = parsePem(readFileSync(join(ca.directory, 'crls.pem'), 'utf8'), 'X509 CRL').toReversed()
    writeFileSync(join(ca.directory, 'one.pem'), encodePem('X509 CRL', issuing!))
    const args = ['verify', '-crl_check_all', '-CAfile', 'bundle.pem', '-CRLfile', 'one.pem']
    const { code, err } = await run('openssl', [...args, '-untrusted', 'issuing.pem', 'billing/tls.crt'])
    expect([code, err]).toEqual([2, expect.stringContaining('unable to get certificate CRL')])
  })

  it('is accepted by GnuTLS, with the CRL of every CA', async () => {
    const { code, out } = await gnutlsVerify()
    expect([code, out]).toEqual([0, expect.stringContaining('Chain verification output: Verified.')])
    expect(out.match(/Checked against CRL/g)).toHaveLength(2)
  })

  it('is good by openssl ocsp; a serial that was never issued is unknown', async () => {
    const good = await opensslOcsp('-cert', 'billing/tls.crt')
    expect([good.code, good.out]).toEqual([0, expect.stringMatching(/^billing\/tls\.crt: good\n/)])
    expect(good.err).toContain('Response verify OK')
    const madeUp = `0x01${randomBytes(15).toString('hex')}`
    const unknown = await opensslOcsp('-serial', madeUp)
    expect(unknown.out).toMatch(new RegExp(`^${madeUp}: unknown\n`))
    expect(unknown.err).toContain('Response verify OK')
  })

  it.each(Object.keys(clients))('calls over mTLS with %s', async name => {
    const { code, out, err } = await clients[name]!()
    expect([code, code === 0 ? '' : err]).toEqual([0, ''])
    expect(out).toMatch(/^HTTP\/1\.1 200/m)
    expect(out).toContain(`"serial":"${serial}"`)
  })
})

describe('the same agent once it is revoked', () => {
  let before: number
  beforeAll(async () => {
    before = Date.now()
    await ca.agentcaJson('revoke', '--serial', serial, '--reason', 'keyCompromise', '--yes', '--wait', '60s')
    await fetchPublished()
  }, 180_000)

  it('is refused by openssl verify', async () => {
    const { code, err } = await opensslVerify()
    expect([code, err]).toEqual([2, expect.stringMatching(/error 23 at 0 depth lookup: certificate revoked/)])
  })

  it('is refused by GnuTLS', async () => {
    const { code, out } = await gnutlsVerify()
    expect(code).toBe(1)
    expect(out).toMatch(/Chain verification output: Not verified\. .*revoked/)
  })

  it('is revoked by openssl ocsp, with reason and time', async () => {
    const { out, err } = await opensslOcsp('-cert', 'billing/tls.crt')
    expect(err).toContain('Response verify OK')
    expect(out).toMatch(/^billing\/tls\.crt: revoked\n/)
    expect(out).toContain('Reason: keyCompromise')
    const at = Date.parse(/Revocation Time: (.+)/.exec(out)?.[1] ?? '')
    // Whole seconds on the wire.
    expect(at).toBeGreaterThanOrEqual(Math.floor(before / 1000) * 1000)
    expect(at).toBeLessThanOrEqual(Date.now())
  })

  it.each(Object.keys(clients))('is told so when it calls with %s', async name => {
    const { out } = await clients[name]!()
    expect(out).toMatch(/^HTTP\/1\.1 403/m)
    expect(out).toContain('"code":"certificate_revoked"')
  })
})
