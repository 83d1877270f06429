// `agentca cert export` of what lies on this machine: no server is asked, and OpenSSL reads what comes out.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'
import { runCommand } from './command.ts'

const directory = mkdtempSync(join(tmpdir(), 'agentca-export-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const openssl = (...args: readonly string[]): string =>
  execFileSync('openssl', args, { cwd: directory, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
const textOf = (name: string): string => readFileSync(join(directory, name), 'utf8')
const run = (line: string, stdin?: string) =>
  runCommand(line.split(' '), { cwd: directory, ...(stdin === undefined ? {} : { stdin }) })

const password = 'correct horse battery staple'
beforeAll(() => {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  openssl('req', '-x509', ...key, '-keyout', 'root.key', '-subj', '/CN=Example Root', '-out', 'root.crt')
  openssl('req', ...key, '-keyout', 'leaf.key', '-subj', '/CN=agent-invoices', '-out', 'leaf.csr')
  const signed = ['-CA', 'root.crt', '-CAkey', 'root.key', '-CAcreateserial']
  openssl('x509', '-req', '-in', 'leaf.csr', ...signed, '-out', 'leaf.crt')
  for (const name of ['identity', 'by-hand', 'mixed']) mkdirSync(join(directory, name))
  writeFileSync(join(directory, 'identity/credential-bundle.pem'), textOf('leaf.key') + textOf('leaf.crt'))
  // Two roots with one name, as after a rotation.
  writeFileSync(join(directory, 'identity/ca.crt'), textOf('root.crt').repeat(2))
  writeFileSync(join(directory, 'by-hand/tls.key'), textOf('leaf.key'))
  writeFileSync(join(directory, 'by-hand/tls.crt'), textOf('leaf.crt'))
  writeFileSync(join(directory, 'mixed/credential-bundle.pem'), textOf('root.key') + textOf('leaf.crt'))
  writeFileSync(join(directory, 'password'), `${password}\n`)
  writeFileSync(join(directory, 'short'), 'changeit\n')
})

/** A person who types at a terminal of its own: arguments are the program and its arguments, standard input what is typed, per question. */
const typist = `
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
shown = b''
for line in sys.stdin:
    while not shown.endswith(b': '):
        shown += os.read(terminal, 1000)
    print(shown.decode(), end='')
    shown = b''
    os.write(terminal, line.encode())
try:
    while more := os.read(terminal, 1000):
        shown += more
except OSError:
    pass
print(shown.decode(), end='')
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`

// Deriving keys takes long on purpose, and longer where others are at work.
describe('PKCS#12', { timeout: 180_000 }, () => {
  it('has key and certificate, for its owner only, under a password from standard input', async () => {
    const line = 'cert export --dir identity --format p12 --password-file - --name client --file identity.p12'
    expect(await run(line, `${password}\n`)).toEqual({ code: 0, out: '', err: '' })
    expect(statSync(join(directory, 'identity.p12')).mode & 0o777).toBe(0o600)
    const read = openssl('pkcs12', '-in', 'identity.p12', '-passin', 'file:password', '-nodes')
    expect(read).toContain(textOf('leaf.key'))
    expect(read).toContain(textOf('leaf.crt'))
    expect(read).toContain('friendlyName: client')
  })

  it('is not made where the two passwords that somebody typed differ', async () => {
    const line = 'cert export --dir identity --format p12 --file differ.p12'
    const around = { cwd: directory, secrets: [password, `${password} `] }
    const { code, err } = await runCommand(line.split(' '), around)
    expect([code, err]).toEqual([2, expect.stringContaining('the two passwords differ')])
    expect(existsSync(join(directory, 'differ.p12'))).toBe(false)
  })

  it('shows nothing of what is typed', () => {
    const args = ['cert', 'export', '--dir', 'by-hand', '--format', 'p12', '--file', 'typed.p12']
    const shown = execFileSync('python3', ['-c', typist, join(root, 'bin/agentca'), ...args], {
      cwd: directory,
      encoding: 'utf8',
      input: `${password}\n${password}\n`,
    })
    expect(shown.replaceAll('\r', '')).toBe('password for the file: \nthe same again: \n')
    const read = openssl('pkcs12', '-in', 'typed.p12', '-passin', 'file:password', '-nokeys')
    expect(read).toContain('friendlyName: agent-invoices')
  })

  it('of roots has every one under a name of its own', async () => {
    const line = 'cert export --dir identity --roots --format p12 --password-file short --file roots.p12'
    expect((await run(line)).code).toBe(0)
    const read = openssl('pkcs12', '-in', 'roots.p12', '-passin', 'file:short')
    expect(read.match(/friendlyName: .+/g)).toEqual(['friendlyName: example root', 'friendlyName: example root (2)'])
    expect(read).not.toContain('PRIVATE KEY')
  })
})

it('PEM and DER of a directory are the certificate, without the key', async () => {
  for (const from of ['identity', 'by-hand'])
    expect((await run(`cert export --dir ${from}`)).out).toBe(textOf('leaf.crt'))
  expect((await run('cert export --dir identity --format der --file leaf.der')).code).toBe(0)
  expect(openssl('x509', '-inform', 'DER', '-in', 'leaf.der')).toBe(textOf('leaf.crt'))
  expect((await run('cert export --dir identity --roots')).out).toBe(textOf('root.crt').repeat(2))
})

it.each([
  ['cert export', 'expected a serial, --dir or --roots'],
  ['cert export 0abc --dir identity', 'a serial goes without --dir'],
  ['cert export 0abc --format p12 --password-file password --file a.p12', 'the CA has no private keys'],
  ['cert export --dir identity --format p12 --password-file password', '--format p12 needs --file'],
  ['cert export --dir identity --format p12 --file a.p12', 'needs --password-file'],
  ['cert export --dir identity --format p12 --password-file short --file a.p12', 'at least 12 characters'],
  ['cert export --dir identity --roots --format der --file a.der', 'there are 2 roots'],
  ['cert export --dir nowhere', 'nowhere has no credential-bundle.pem, or tls.key and tls.crt'],
  ['cert export --dir nowhere --roots', 'nowhere has no ca.crt'],
  ['cert export --dir mixed', 'the key is not that of the certificate'],
  ['cert export --dir identity --file password', 'password exists already'],
  ['cert export --dir identity --format jks --file a.jks', 'Allowed choices are pem, der, p12'],
])('%s is refused', async (line, says) => {
  const { code, out, err } = await run(line)
  expect([code, out]).toEqual([2, ''])
  expect(err).toContain(says)
})
