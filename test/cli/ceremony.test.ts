// The ceremonies and `init` as an operator types them, with real tokens and OpenSSL: data on stdout, progress on stderr, exit codes.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { softHsmPaths } from '../../src/signer/softhsm-token.ts'
import { runCommand } from './command.ts'

let directory: string
let home: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-cli-ceremony-'))
  home = join(directory, 'home')
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const examples = join(import.meta.dirname, '../../ca-config/ceremonies')
const example = (name: string): string => join(examples, `${name}.yaml`)
const agentca = (...args: string[]) => runCommand(args, { cwd: directory, env: { AGENTCA_HOME: home } })
const ceremony = (kind: string, ...args: string[]) => agentca('ceremony', kind, '--input', example(kind), ...args)
const openssl = (...args: string[]): string =>
  execFileSync('openssl', args, { cwd: directory, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
const issuer = (name: string): string => join(home, 'issuers', name)
const transcripts = (): readonly string[] => readdirSync(join(home, 'ceremonies')).filter(name => name.endsWith('.txt'))

describe('agentca ceremony', () => {
  test('root, issuing and crl, one after the other, make a chain that OpenSSL takes; init then adopts it', async () => {
    const root = await ceremony('root', '-o', 'json')
    expect(root).toMatchObject({ code: 0, err: expect.stringContaining('4. provide the keys: done') })
    expect(JSON.parse(root.out)).toMatchObject({
      ceremony: 'root',
      file: issuer('root-1.pem'),
      fingerprint: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
      transcript: expect.stringContaining(join(home, 'ceremonies')),
    })
    expect((await ceremony('issuing')).code).toBe(0)
    const crl = await ceremony('crl', '-o', 'json')
    expect(JSON.parse(crl.out)).toMatchObject({ file: join(home, 'status/crl/root-1.crl'), entries: 0 })
    openssl('crl', '-in', JSON.parse(crl.out).file, '-out', 'crl.pem')
    expect(
      openssl(
        ...['verify', '-x509_strict', '-crl_check_all', '-CRLfile', 'crl.pem'],
        ...['-CAfile', issuer('root-1.pem'), issuer('issuing-1.pem')],
      ),
    ).toContain('OK')
    expect(transcripts()).toHaveLength(3)

    const made = [issuer('root-1.pem'), issuer('issuing-1.pem'), join(home, 'status/crl/root-1.crl')]
    const before = made.map(file => readFileSync(file, 'latin1'))
    const init = await agentca('init', '-o', 'json')
    expect(init.code).toBe(0)
    expect(JSON.parse(init.out)).toMatchObject({
      state: 'initialised',
      rootFingerprint: JSON.parse(root.out).fingerprint,
    })
    expect(made.map(file => readFileSync(file, 'latin1'))).toEqual(before)
    expect((await ceremony('crl')).err).toContain('next, while the CA runs: agentca crl publish')
  })

  test('a CRL replaces the published one under a higher number, and keeps what is revoked', async () => {
    await ceremony('root')
    const first = JSON.parse((await ceremony('crl', '-o', 'json')).out)
    const input = join(directory, 'crl.yaml')
    writeFileSync(
      input,
      'ceremony: crl\nissuer: { name: root-1 }\nrevoked: [{ serial: "0a", at: 2026-01-01T00:00:00Z, reason: superseded }]\n',
    )
    const second = await agentca('ceremony', 'crl', '--input', input, '-o', 'json')
    expect(BigInt(JSON.parse(second.out).number)).toBeGreaterThan(BigInt(first.number))
    expect(await ceremony('crl')).toMatchObject({ code: 2, err: expect.stringContaining('revoked before and not in') })
  })

  test('a dry run shows the transcript on stdout and leaves nothing behind', async () => {
    const { code, out, err } = await ceremony('root', '--dry-run')
    expect(code).toBe(0)
    expect(out).toContain('agentca key ceremony: root root-1')
    expect(out).toContain('sign the certificate (planned')
    expect(err).toContain('dry run, nothing was generated')
    expect(existsSync(home)).toBe(false)
  })

  test('a label that is taken is told with its cure, and --keep-keys certifies that key', async () => {
    await ceremony('root')
    const again = await ceremony('root', '--out', 'again.pem')
    expect(again).toMatchObject({ code: 6, err: expect.stringMatching(/already has a key.*\n\s+hint: .*--keep-keys/) })
    expect((await ceremony('root', '--out', 'again.pem', '--keep-keys')).code).toBe(0)
    const key = (file: string): string => openssl('x509', '-in', file, '-noout', '-pubkey')
    expect(key('again.pem')).toBe(key(issuer('root-1.pem')))
  })

  test('the transcript goes where it is told to, and is never overwritten', async () => {
    expect((await ceremony('root', '--transcript', 'protocol.txt')).code).toBe(0)
    for (const name of ['protocol.txt', 'protocol.txt.json'])
      expect(statSync(join(directory, name)).mode & 0o777).toBe(0o600)
    const again = await ceremony('root', '--transcript', 'protocol.txt', '--out', 'x.pem', '--keep-keys')
    expect(again).toMatchObject({ code: 6, err: expect.stringContaining('never overwritten') })
  })

  test('tokens are taken by directory or by URI', async () => {
    expect((await ceremony('root', '--token-dir', 'vault', '--out', 'root.pem')).code).toBe(0)
    const { confPath, pinFile } = softHsmPaths(join(directory, 'vault'))
    const uri = `pkcs11:token=agentca-root?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:${pinFile}`
    const issued = await ceremony(
      'issuing',
      ...['--token-dir', 'online', '--root', 'root.pem', '--root-token', uri, '--root-softhsm-conf', confPath],
      ...['--out', 'issuing.pem'],
    )
    expect(issued).toMatchObject({ code: 0 })
    expect(openssl('verify', '-CAfile', 'root.pem', 'issuing.pem')).toContain('OK')
    expect(existsSync(join(home, 'tokens'))).toBe(false)
  })

  test('a request goes out and the certificate comes back from another root; init takes them', async () => {
    const requested = await ceremony('issuing', '--csr-out', 'issuing.csr')
    expect(requested).toMatchObject({ code: 0, err: expect.stringContaining('--certificate FILE --root FILE') })
    writeFileSync(
      join(directory, 'extensions'),
      'basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n',
    )
    openssl(
      ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'root.key', '-out', 'root.pem', '-days', '3650'],
      ...['-subj', '/CN=Corporate', '-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
    )
    openssl(
      ...['x509', '-req', '-in', 'issuing.csr', '-CA', 'root.pem', '-CAkey', 'root.key', '-days', '365'],
      ...['-extfile', 'extensions', '-out', 'issuing.pem'],
    )
    expect((await ceremony('issuing', '--certificate', 'issuing.pem')).err).toContain('add --root FILE')
    const accepted = await ceremony('issuing', '--certificate', 'issuing.pem', '--root', 'root.pem', '-o', 'json')
    expect(JSON.parse(accepted.out)).toMatchObject({ file: issuer('issuing-1.pem') })
    const init = await agentca('init', '--root', 'root.pem', '--issuing', 'issuing.pem', '-o', 'json')
    expect(JSON.parse(init.out)).toMatchObject({ state: 'initialised', rootToken: null })
    expect(init.err).toContain('note: the root has no CRL here')
  })

  test.each<readonly [string, readonly string[], RegExp]>([
    ['no input', ['root'], /--input/],
    ['an input that is not there', ['root', '--input', 'nowhere.yaml'], /cannot read nowhere.yaml/],
    ['the input of another ceremony', ['root', '--input', example('crl')], /expected root/],
    [
      'two tokens at once',
      ['root', '--input', example('root'), '--token-dir', 'a', '--token', 'pkcs11:x'],
      /cannot be used/,
    ],
    ['a softhsm2.conf without its URI', ['root', '--input', example('root'), '--softhsm-conf', 'x'], /add --token URI/],
    [
      'a URI that carries a PIN',
      ['root', '--input', example('root'), '--token', 'pkcs11:token=x?module-path=/x&pin-value=1'],
      /pin-value is refused/,
    ],
    [
      'a request and a root',
      ['issuing', '--input', example('issuing'), '--csr-out', 'x', '--root', 'y'],
      /cannot be used/,
    ],
    ['no root', ['issuing', '--input', example('issuing')], /root-1.pem: there is no such file/],
  ])('wrong usage: %s', async (_, args, fault) => {
    const { code, out, err } = await agentca('ceremony', ...args)
    expect(err).toMatch(fault)
    expect(code).toBe(2)
    expect(out).toBe('')
  })

  test('every fault of an input is told at once', async () => {
    writeFileSync(join(directory, 'bad.yaml'), 'ceremony: root\nname: Bad\nlifetime: soon\nsubject: {}\n')
    const { code, err } = await agentca('ceremony', 'root', '--input', 'bad.yaml')
    expect(code).toBe(2)
    for (const path of ['name', 'lifetime', 'subject.commonName']) expect(err).toContain(`why:  ${path}: `)
  })
})

describe('agentca init', () => {
  test('makes a CA, says where and which, and changes nothing the second time', async () => {
    const first = await agentca('init', '--trust-domain', 'example.org')
    expect(first.code).toBe(0)
    expect(first.out).toMatch(/trustDomain +example\.org\n/)
    expect(first.out).toMatch(/rootFingerprint +sha256:[0-9a-f]{64}\n/)
    expect(first.err).toContain('note: the root’s token is on this machine')
    expect(first.err).toContain('next: agentca serve')
    const second = await agentca('init', '--trust-domain', 'example.org')
    expect(second).toMatchObject({ code: 0, out: first.out, err: expect.stringContaining('already initialised') })
    expect(await agentca('init', '--trust-domain', 'other.example')).toMatchObject({
      code: 6,
      out: '',
      err: expect.stringContaining('trustDomain was example.org'),
    })
  })

  test('a dry run makes nothing', async () => {
    const { code, out, err } = await agentca('init', '--dry-run', '-o', 'json')
    expect(code).toBe(0)
    expect(JSON.parse(out)).toMatchObject({ state: 'planned', home, trustDomain: 'agentca.local' })
    expect(err).toContain('dry run, nothing was made')
    expect((await agentca('init', '--dry-run')).out).toMatch(/make +root certificate/)
    expect(existsSync(home)).toBe(false)
  })

  test.each<readonly [string, readonly string[], number, RegExp]>([
    ['a configuration that is not there', ['--config', 'nowhere.yaml'], 2, /cannot read the configuration/],
    ['a trust domain that is none', ['--trust-domain', 'Not A Domain'], 2, /trustDomain/],
    ['a root without its issuing CA', ['--root', 'root.pem'], 2, /--root FILE --issuing FILE/],
    ['a reviewed input that is not there', ['--root-input', 'nowhere.yaml'], 2, /cannot read nowhere.yaml/],
  ])('wrong usage: %s', async (_, args, code, fault) => {
    expect(await agentca('init', ...args)).toMatchObject({ code, out: '', err: expect.stringMatching(fault) })
    expect(existsSync(home)).toBe(false)
  })
})
