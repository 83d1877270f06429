// A backup that is made while the CA works, and the CA brought back from it: nothing that was revoked since comes back, nothing is
// issued before an operator has looked, and whoever relies on the CA sees numbers that only grow.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { root as checkout } from '../../scripts/bootstrap.mjs'
import { parseCrl } from '../../src/pki/crl.ts'
import { type ServedCa, startServedCa } from './served-ca.ts'
import { until } from './until.ts'

interface Restored {
  readonly revoked: number
  readonly unknown: number
  readonly tokensRevoked: number
  readonly locked: readonly string[]
  readonly held: readonly string[]
  readonly movedAside: readonly string[]
  readonly ignored: readonly string[]
}
interface Maintenance {
  readonly state: string
  readonly feedEntriesLost: number | null
}

let ca: ServedCa
let recipient: string
const at = (name: string): string => join(ca.directory, name)
const keyed = ['--identity-file', 'backup.key'] as const

beforeAll(async () => {
  ca = await startServedCa()
  const identity = await generateX25519Identity()
  recipient = await identityToRecipient(identity)
  writeFileSync(at('backup.key'), `# made by a test\n${identity}\n`, { mode: 0o600 })
}, 180_000)
afterAll(() => ca?.[Symbol.asyncDispose]())

const serialOf = (directory: string): string =>
  execFileSync('openssl', ['x509', '-in', join(directory, 'tls.crt'), '-noout', '-serial'], { encoding: 'utf8' })
    .trim()
    .slice('serial='.length)
    .toLowerCase()

const publishedCrl = () => parseCrl(new Uint8Array(readFileSync(join(ca.home, 'status/crl/issuing-1.crl'))))
const listed = (): readonly string[] =>
  [...publishedCrl().entries()].map(({ serial }) => Buffer.from(serial).toString('hex'))
const leafEvents = async (): Promise<readonly string[]> =>
  (await ca.agentca('audit', 'tail', '--number', '200', '-o', 'jsonl')).out
    .trim()
    .split('\n')
    .map(line => (JSON.parse(line) as { event: string }).event)

describe('a backup', () => {
  it('is made while the CA works, opens for whoever holds the key, and is in the audit log', async () => {
    const made = await ca.agentcaJson<{ files: number; keys: boolean }>(
      'backup',
      'create',
      'first.age',
      '--recipient',
      recipient,
    )
    expect(made).toMatchObject({ keys: false })
    expect(statSync(at('first.age')).mode & 0o777).toBe(0o600)
    expect(await ca.agentcaJson('backup', 'verify', 'first.age', ...keyed)).toMatchObject({ files: made.files })
    expect(await leafEvents()).toContain('backup_created')
    expect(readdirSync(ca.home).filter(name => name.startsWith('.backup-'))).toEqual([])
    // Nothing of it is readable without the key, and no private key is in it with it.
    expect(readFileSync(at('first.age')).includes('SQLite format 3')).toBe(false)
  })

  it.for([
    ['without a key to encrypt to', ['create', 'x.age'], 2, /expected --recipient or --passphrase-file.*age-keygen/s],
    ['to what is no recipient', ['create', 'x.age', '--recipient', 'age1nobody'], 4, /age1nobody is no age recipient/],
    ['over a file that is there', ['create', 'first.age', '--recipient', 'RECIPIENT'], 6, /first\.age exists already/],
    ['into no directory', ['create', 'none/x.age', '--recipient', 'RECIPIENT'], 6, /there is no directory .*none/],
    ['that is not there', ['verify', 'none.age', ...keyed], 9, /there is no such file/],
    ['that is something else', ['verify', 'backup.key', ...keyed], 9, /no file in the age format/],
    ['with no key to open it', ['restore', 'first.age'], 2, /expected --identity-file or --passphrase-file/],
    ['over a ledger that is there', ['restore', 'first.age', ...keyed], 6, /--replace, which moves it aside/],
    [
      'under a running server',
      ['restore', 'first.age', ...keyed, '--replace'],
      6,
      /another process has this ledger open/,
    ],
  ] as const)('is refused %s', async ([, args, code, says]) => {
    const ran = await ca.agentca('backup', ...args.map(arg => (arg === 'RECIPIENT' ? recipient : arg)))
    expect([ran.code, ran.err]).toEqual([code, expect.stringMatching(says)])
    expect(existsSync(at('x.age'))).toBe(false)
  })

  it('brings back no revocation, no token and no certificate, and issues when an operator says so', {
    timeout: 120_000,
  }, async () => {
    const before = await ca.enrolled('before')
    const pending = await ca.agentToken('pending')
    await ca.agentcaJson('agent', 'create', 'idle', '--owner', 'finance')
    await ca.agentcaJson('backup', 'create', 'second.age', '--recipient', recipient)
    const after = await ca.enrolled('after')
    for (const name of ['before', 'after'])
      await ca.agentcaJson('revoke', '--agent', name, '--reason', 'keyCompromise', '--yes', '--confirm', '1')
    // Without a certificate it is on no list.
    await ca.agentcaJson('agent', 'retire', 'idle', '--yes')
    const serials = [before, after].map(serialOf)
    await until('both are on the list', () => serials.every(serial => listed().includes(serial)))
    await until('the state is published', async () => {
      const { feed } = await ca.agentcaJson<{ feed: { n: number } }>('status')
      return (JSON.parse(readFileSync(join(ca.home, 'status/state/head.json'), 'utf8')) as { n: number }).n === feed.n
    })
    const { crlNumber } = publishedCrl()
    await ca.stop()

    const dry = await ca.agentcaJson<Restored>('backup', 'restore', 'second.age', ...keyed, '--replace', '--dry-run')
    expect(dry).toMatchObject({ revoked: null, movedAside: [] })
    const restored = await ca.agentcaJson<Restored>('backup', 'restore', 'second.age', ...keyed, '--replace')
    expect(restored).toMatchObject({ revoked: 1, unknown: 1, held: ['agent:idle'], ignored: [] })
    expect(restored.locked).toHaveLength(1)
    expect(restored.tokensRevoked).toBeGreaterThanOrEqual(1)
    for (const path of restored.movedAside) expect(existsSync(path)).toBe(true)

    await ca.start()
    expect(serials.every(serial => listed().includes(serial))).toBe(true)
    await until('a list with a higher number', () => publishedCrl().crlNumber! > crlNumber!)
    const ocsp = await ca.agentca('ocsp', 'check', join(after, 'tls.crt'))
    expect(ocsp.out).toMatch(/revoked/)

    const waiting = await ca.agentca('backup', 'reconcile', '-o', 'json')
    expect([waiting.code, waiting.err]).toEqual([7, expect.stringMatching(/are not in the ledger.*--accept/s)])
    expect(JSON.parse(waiting.out) as Maintenance).toMatchObject({ state: 'waiting', feedEntriesLost: 5 })
    expect((await ca.agentca('doctor')).out).toMatch(/maintenance .*restored from a backup/)
    const fresh = await ca.agentToken('fresh')
    const enrolling = (token: string, directory: string): readonly string[] => [
      ...['enroll', '--url', ca.urls.api, '--ca-fingerprint', ca.rootFingerprint],
      ...['--token-file', token, '--dir', directory],
    ]
    const patient = spawn(join(checkout, 'bin/agentca'), enrolling(fresh, 'fresh'), { cwd: ca.directory, env: ca.env })
    const told = await new Promise<string>(resolve => patient.stderr.setEncoding('utf8').once('data', resolve))
    expect(told).toMatch(/restored from a backup of .*asking again/)
    const done = once(patient, 'exit')

    expect(await ca.agentcaJson('backup', 'reconcile', '--accept', '--why', 'looked')).toMatchObject({ state: 'ended' })
    expect(await done).toEqual([0, null])
    expect(await ca.agentca(...enrolling(pending, 'pending'))).toMatchObject({
      code: 4,
      err: expect.stringMatching(/revoked/),
    })
    expect((await ca.agentca('audit', 'verify')).code).toBe(0)
    expect(await leafEvents()).toEqual(expect.arrayContaining(['ledger_restored', 'maintenance_ended']))
  })

  it('with the tokens is a whole CA in an empty home, and refuses the home of another CA', {
    timeout: 120_000,
  }, async () => {
    writeFileSync(at('passphrase'), 'correct horse battery staple\n', { mode: 0o600 })
    const locked = ['--passphrase-file', 'passphrase'] as const
    const { logKey } = await ca.agentcaJson<{ logKey: string }>(
      ...(['backup', 'create', 'whole.age', ...locked, '--with-tokens'] as const),
    )
    await ca.stop()
    const blind = await ca.agentca('backup', 'restore', 'whole.age', ...locked, '--home', 'elsewhere')
    expect([blind.code, blind.err]).toEqual([6, expect.stringContaining(`--confirm ${logKey}`)])
    expect(existsSync(at('elsewhere/agentca.db'))).toBe(false)
    const wrong = ['--confirm', `sha256:${'00'.repeat(32)}`] as const
    const unlike = await ca.agentca('backup', 'restore', 'whole.age', ...locked, '--home', 'elsewhere', ...wrong)
    expect([unlike.code, unlike.err]).toEqual([6, expect.stringMatching(/signed by the log key sha256:0000/)])
    await ca.agentcaJson(
      'backup',
      'restore',
      'whole.age',
      ...locked,
      '--home',
      'elsewhere',
      '--outside',
      join(ca.home, 'status'),
      '--confirm',
      logKey,
    )
    const home = at('elsewhere')
    expect(statSync(join(home, 'tokens')).mode & 0o077).toBe(0)
    expect(existsSync(join(home, 'restored-configuration/agentca.yaml'))).toBe(true)

    const other = await startServedCa()
    try {
      await other.stop()
      const ran = await ca.agentca('backup', 'restore', 'whole.age', ...locked, '--replace', '--home', other.home)
      expect([ran.code, ran.err]).toEqual([6, expect.stringMatching(/the backup is of .*empty directory/s)])
    } finally {
      await other[Symbol.asyncDispose]()
    }
    mkdirSync(at('kept'))
    rmSync(ca.home, { recursive: true })
    await ca.start({ AGENTCA_HOME: home })
    expect((await ca.agentca('--version')).code).toBe(0)
    const accepted = await ca.agentca('backup', 'reconcile', '--accept', '--home', home)
    expect([accepted.code, accepted.err]).toEqual([0, ''])
  })
})
