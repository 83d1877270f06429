// Certificate status as a relying party sees it: OCSP and CRLs are believed only when they verify.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import * as ext from '../../src/pki/extensions.ts'
import { createParty } from '../pki/crl-authority.ts'
import { runCommand } from './command.ts'
import { crl, issuers, issuing, leaf, pemOf, root, serial } from './fixtures.ts'
import { startServer, type TestServer } from './server.ts'
import { type StatusServer, startStatusServer } from './status-server.ts'

let server: TestServer
let status: StatusServer
beforeAll(async () => {
  server = await startServer()
  status = await startStatusServer(issuing)
  const write = (name: string, content: string | Uint8Array): void =>
    writeFileSync(join(server.directory, name), content)
  const access = { ocsp: [`${status.url}/ocsp`], caIssuers: [`${status.url}/ca.cer`] }
  const named = createParty({ name: 'named', issuer: issuing, extensions: [ext.authorityInfoAccess(access)] })
  write('leaf.pem', pemOf(leaf))
  write('leaf.der', leaf.certificate.der)
  write('chain.pem', pemOf(leaf) + pemOf(issuing))
  write('named.pem', pemOf(named))
  write('issuing.pem', pemOf(issuing))
  write('root.pem', pemOf(root))
})
afterAll(async () => {
  await status?.[Symbol.asyncDispose]()
  await server?.[Symbol.asyncDispose]()
})
beforeEach(() => {
  server.reset()
  status.status = 'good'
  status.revoked = []
})

const run = (line: string) => runCommand(line.split(' '), { env: server.env, cwd: server.directory })

describe('agentca ocsp check', () => {
  it.each([
    ['a PEM file and --issuer', () => `leaf.pem --issuer issuing.pem --url ${status.url}/ocsp`],
    ['a DER file and --issuer', () => `leaf.der --issuer issuing.pem --url ${status.url}/ocsp`],
    ['a file with its chain', () => `chain.pem --url ${status.url}/ocsp`],
    ['what the certificate itself names', () => 'named.pem'],
  ])('asks by %s', async (_, line) => {
    const { code, out } = await run(`ocsp check ${line()} -o json`)
    expect([code, JSON.parse(out)]).toEqual([0, expect.objectContaining({ status: 'good', responder: 'issuer' })])
  })

  it('shows when and why a certificate was revoked, and says so by exit code 9', async () => {
    status.status = { revokedAt: Date.UTC(2026, 10, 24), reason: 'keyCompromise' }
    const { code, out } = await run('ocsp check named.pem -o json')
    expect([code, JSON.parse(out)]).toEqual([
      9,
      expect.objectContaining({ status: 'revoked', reason: 'keyCompromise', revokedAt: '2026-11-24T00:00:00.000Z' }),
    ])
  })

  it('does not take unknown for good', async () => {
    status.status = 'unknown'
    expect(await run('ocsp check named.pem -o name')).toMatchObject({ code: 9, out: 'unknown\n' })
  })

  it('says that it may be asked again where the responder said tryLater', async () => {
    status.status = 'tryLater'
    expect(await run('ocsp check named.pem')).toMatchObject({ code: 7, out: '' })
  })

  it('demands its nonce back when told to', async () => {
    const { code, out, err } = await run('ocsp check named.pem --nonce')
    expect([code, out, err]).toEqual([9, '', expect.stringContaining('no nonce')])
  })

  it('believes no other signer', async () => {
    await using impostor = await startStatusServer(createParty({ name: 'issuing', issuer: root }))
    const { code, out } = await run(`ocsp check chain.pem --url ${impostor.url}/ocsp`)
    expect([code, out]).toEqual([9, ''])
  })

  it.each([
    ['a certificate that names no responder', () => 'leaf.pem --issuer issuing.pem', 2, '--url'],
    ['an issuer that nobody names', () => `leaf.pem --url ${status.url}/ocsp`, 2, '--issuer FILE'],
    ['a responder that is not there', () => `chain.pem --url ${status.url}/nothing`, 7, 'status 404'],
    ['a responder elsewhere', () => `chain.pem --url ${status.url}/moved`, 7, 'cannot fetch'],
    ['what is no URL', () => 'chain.pem --url ftp://x', 2, 'http or https'],
  ])('refuses %s', async (_, line, code, says) => {
    const ran = await run(`ocsp check ${line()}`)
    expect([ran.code, ran.out, ran.err]).toEqual([code, '', expect.stringContaining(says)])
  })
})

describe('agentca crl fetch', () => {
  it('asks the server where the list is, and checks its signature with that CA’s key', async () => {
    server.answer('crlStatus', () => ({ items: [crl('issuing-1', `${status.url}/ca.crl`)], next: null }))
    const { code, out, err } = await run('crl fetch issuing-1 -o json')
    expect([code, err, JSON.parse(out)]).toEqual([0, '', expect.objectContaining({ entries: 0, signature: 'checked' })])
    server.answer('issuersShow', () => ({ ...issuers()[0]!, name: 'issuing-1' }))
    expect((await run('crl fetch issuing-1')).code).toBe(9)
  })

  it('says when it could not check the signature', async () => {
    const { code, out, err } = await run(`crl fetch --from ${status.url}/ca.crl -o json`)
    expect([code, JSON.parse(out)]).toEqual([0, expect.objectContaining({ signature: 'not checked' })])
    expect(err).toContain('--ca-file')
    expect(out).not.toContain('BEGIN')
  })

  it('gives the list as PEM', async () => {
    expect((await run(`crl fetch --from ${status.url}/ca.crl --ca-file issuing.pem -o pem`)).out).toMatch(
      /^-----BEGIN X509 CRL-----\n/,
    )
  })

  it.each([
    ['crl fetch', 'expected the name of an issuing CA'],
    ['crl fetch root-9', 'agentca crl status'],
  ])('refuses %s', async (line, says) => {
    const { code, err } = await run(line)
    expect([code, err]).toEqual([2, expect.stringContaining(says)])
  })
})

it('agentca crl status warns by exit code 10 of a list past its end', async () => {
  server.answer('crlStatus', () => ({
    items: [{ ...crl('issuing-1'), nextUpdate: new Date(Date.now() - 60_000).toISOString() }],
    next: null,
  }))
  const { code, err } = await run('crl status')
  expect([code, err]).toEqual([10, expect.stringContaining('agentca crl publish')])
})

describe('agentca cert', () => {
  it('inspects every certificate of a file', async () => {
    const reports = JSON.parse((await run('cert inspect chain.pem -o json')).out) as { serial: string; ca: boolean }[]
    expect(reports.map(each => [each.serial, each.ca])).toEqual([
      [serial, false],
      [issuing.certificate.serialHex, true],
    ])
  })

  it('exports DER into a new file only', async () => {
    expect((await run('cert export 0abc --der --file exported.der')).code).toBe(0)
    expect((await run('cert inspect exported.der -o name')).out).toBe(`${serial}\n`)
    const { code, err } = await run('cert export 0abc --der --file exported.der')
    expect([code, err]).toEqual([2, expect.stringContaining('exists already')])
  })

  it('has nothing to export of what was never released', async () => {
    const { code, err } = await run('cert export 0f')
    expect([code, err]).toEqual([2, expect.stringContaining('was never released')])
  })

  it('sends no private key', async () => {
    writeFileSync(
      join(server.directory, 'private.pem'),
      '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n',
    )
    const { code, err } = await run('cert issue --agent billing --csr private.pem')
    expect([code, err]).toEqual([2, expect.stringContaining('never send the private key')])
    expect(server.calls).toEqual([])
  })
})
