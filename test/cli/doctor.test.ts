// What doctor finds, and with which cure and exit code: on a machine without a server, and beside one.
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { type Check, checkCrlAge, checkLifetime, exitCodeOfChecks } from '../../src/cli/doctor-check.ts'
import * as ext from '../../src/pki/extensions.ts'
import { type HomePaths, homePaths } from '../../src/server/home.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import { createParty } from '../pki/crl-authority.ts'
import { runCommand } from './command.ts'
import { crl, hsmKey, hsmStatus, issuers, issuing, type leaf, pemOf, root, status as statusAnswer } from './fixtures.ts'
import { startServer, type TestServer } from './server.ts'
import { type StatusServer, startStatusServer } from './status-server.ts'

const day = 86_400_000
const now = Date.now()

describe('the limits', () => {
  it.each([
    ['root', 400, 'ok'],
    ['root', 200, 'warn'],
    ['root', 181, 'failed'],
    ['issuing', 90, 'ok'],
    ['issuing', 45, 'warn'],
    ['issuing', 29, 'failed'],
  ] as const)('a %s CA with %i days left is %s', (kind, days, expected) =>
    expect(checkLifetime('x', kind, now + days * day + 1000, now).status).toBe(expected),
  )

  it.each([
    ['root', 180, 90, 'ok'],
    ['root', 180, 59, 'warn'],
    ['root', 180, 0, 'failed'],
    ['issuing', 1, 0.5, 'ok'],
    ['issuing', 1, 0.2, 'warn'],
    ['issuing', 1, -0.1, 'failed'],
  ] as const)('a %s’s CRL of %f days with %f left is %s', (kind, life, left, expected) => {
    const times = { thisUpdate: now - (life - left) * day, nextUpdate: now + left * day }
    expect(checkCrlAge('x', kind, times, now).status).toBe(expected)
  })

  it('is 9 for a failed check, 10 for warnings only, 0 else', () => {
    const of = (...list: Check['status'][]) =>
      exitCodeOfChecks(list.map(status => ({ check: '', status, what: '', cure: null })))
    expect([of('ok', 'skipped'), of('ok', 'warn'), of('warn', 'failed')]).toEqual([0, 10, 9])
  })
})

const checksOf = (out: string): readonly Check[] => JSON.parse(out) as readonly Check[]
const found = (checks: readonly Check[], status: Check['status']) =>
  checks.filter(each => each.status === status).map(each => each.check)

describe('without a server', () => {
  let directory: string
  let paths: HomePaths
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'agentca-doctor-'))
  })
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  /** A home as `init` leaves it, as far as doctor looks. */
  beforeEach(async () => {
    rmSync(directory, { recursive: true, force: true })
    paths = homePaths(join(directory, 'home'))
    for (const path of [
      paths.home,
      paths.run,
      paths.tokens,
      paths.signer,
      paths.issuers,
      join(paths.tokens, 'softhsm'),
    ])
      mkdirSync(path, { recursive: true, mode: 0o700 })
    mkdirSync(join(paths.tokens, 'softhsm', 'token-1'))
    writeFileSync(join(paths.tokens, 'user.pin'), '1234', { mode: 0o600 })
    writeFileSync(join(paths.issuers, 'root-1.pem'), pemOf(root))
    writeFileSync(join(paths.issuers, 'issuing-1.pem'), pemOf(issuing))
    const ledger = openSqliteLedger(paths.database, { clock: systemClock, log: silentLog })
    await ledger.close()
  })

  const doctor = async () => {
    const env = { AGENTCA_HOME: paths.home }
    const { code, out, err } = await runCommand(['doctor', '-o', 'json'], { env, cwd: directory })
    return { code, err, checks: checksOf(out) }
  }

  it('warns of the server and of lists that were never published, and finds the rest in order', async () => {
    const { code, checks } = await doctor()
    expect(found(checks, 'failed')).toEqual([])
    expect(found(checks, 'warn')).toEqual(['crl age', 'crl age', 'server'])
    expect(new Set(found(checks, 'ok'))).toEqual(
      new Set(['node', 'configuration', 'disk', 'database', 'permissions', 'root key', 'clock', 'hsm', 'ca lifetime']),
    )
    expect(code).toBe(10)
  })

  /** As somebody who owns nothing here: root could look at everything. */
  const asAnother = async <T>(closed: string, work: () => Promise<T>): Promise<T> => {
    const isRoot = process.geteuid?.() === 0
    if (isRoot) process.seteuid?.(65_534)
    else chmodSync(closed, 0)
    try {
      return await work()
    } finally {
      if (isRoot) process.seteuid?.(0)
      else chmodSync(closed, 0o700)
    }
  }

  /** What is loaded late must be there for whom it is loaded as. */
  const isReadableByAnother = (): boolean =>
    process.geteuid?.() !== 0 ||
    spawnSync('test', ['-r', join(import.meta.dirname, '../../package.json')], { uid: 65_534, gid: 65_534 }).status ===
      0

  it('says that it is not permitted to look, and not that things are missing', async context => {
    if (!isReadableByAnother()) context.skip('another user may not read this checkout')
    chmodSync(directory, 0o755)
    const closedHome = await asAnother(paths.home, doctor)
    const cure = expect.stringMatching(/^run it as the owner: sudo -u '#\d+' agentca doctor$/)
    const home = closedHome.checks.filter(each => each.check === 'home')
    expect(home).toMatchObject([{ status: 'failed', what: `not permitted to look into ${paths.home}`, cure }])
    expect(JSON.stringify(closedHome.checks)).not.toContain('not there')
    expect(closedHome.code).toBe(9)

    // A home that is open, with a signer's and a root's part that are not.
    chmodSync(paths.home, 0o755)
    const partly = await asAnother(paths.tokens, doctor)
    const hsm = partly.checks.filter(each => each.check === 'hsm')
    expect(hsm).toMatchObject([{ status: 'failed', what: `not permitted to look into ${paths.tokens}`, cure }])
    expect(JSON.stringify(partly.checks)).not.toMatch(/not there|no token/)
  })

  const failedChecks = async () => {
    const { code, err, checks } = await doctor()
    for (const each of checks.filter(({ status }) => status === 'failed')) {
      expect(each.cure).not.toBeNull()
      expect(err).toContain(`cure: ${each.cure}`)
    }
    return [code, found(checks, 'failed')]
  }

  it.each<[string, () => void, string]>([
    ['a PIN that others may read', () => chmodSync(join(paths.tokens, 'user.pin'), 0o640), 'permissions'],
    [
      'a token that others may read',
      () => writeFileSync(join(paths.home, 'first-operator.token'), 'x', { mode: 0o644 }),
      'permissions',
    ],
    ['a home that others may enter', () => chmodSync(paths.home, 0o755), 'permissions'],
    ['a missing database', () => rmSync(paths.database), 'database'],
    ['a database that is none', () => writeFileSync(paths.database, 'x'.repeat(200)), 'database'],
    ['a missing token', () => rmSync(join(paths.tokens, 'softhsm'), { recursive: true }), 'hsm'],
    ['a CA certificate that is none', () => writeFileSync(join(paths.issuers, 'root-1.pem'), 'x'), 'ca lifetime'],
    ['a missing home', () => rmSync(paths.home, { recursive: true }), 'home'],
  ])('fails for %s, with its cure', async (_, prepare, check) => {
    prepare()
    const [code, failures] = await failedChecks()
    expect([code, failures]).toEqual([9, expect.arrayContaining([check])])
  })

  it('fails for a configuration with faults, and names them', async () => {
    writeFileSync(join(directory, 'agentca.yaml'), 'listen:\n  api: nowhere\nunknown: 1\n')
    const env = { AGENTCA_HOME: paths.home, AGENTCA_CONFIG: join(directory, 'agentca.yaml') }
    const { code, out } = await runCommand(['doctor', '-o', 'json'], { env })
    const configuration = checksOf(out).find(each => each.check === 'configuration')
    expect([code, configuration?.status]).toEqual([9, 'failed'])
    expect(configuration?.what).toMatch(/listen\.api: .*unknown: unknown key/)
  })

  it('warns while this user can read the root’s token, with the command that moves it', async () => {
    mkdirSync(paths.rootCeremony, { mode: 0o700 })
    const { checks } = await doctor()
    const key = checks.find(each => each.check === 'root key')
    expect([key?.status, key?.cure]).toEqual(['warn', expect.stringContaining(`cp -a ${paths.rootCeremony}`)])
  })
})

describe('beside a server', () => {
  let server: TestServer
  let status: StatusServer
  beforeAll(async () => {
    server = await startServer()
    status = await startStatusServer(issuing)
  })
  afterAll(async () => {
    await status?.[Symbol.asyncDispose]()
    await server?.[Symbol.asyncDispose]()
  })
  beforeEach(() => server.reset())

  const doctor = async () => {
    const { out } = await runCommand(['doctor', '-o', 'json'], { env: server.env, cwd: server.directory })
    return checksOf(out)
  }
  /** What the server’s part says; the machine’s part has its own tests. */
  const fromServer = async (check: string) =>
    (await doctor()).filter(each => each.check === check).map(({ status, cure }) => [status, cure])

  it('finds a CA in order', async () => {
    const checks = await doctor()
    for (const check of ['server', 'hsm', 'keys', 'clock', 'ca lifetime', 'crl age', 'audit'])
      expect([check, new Set(checks.filter(each => each.check === check).map(each => each.status))]).toEqual([
        check,
        new Set(['ok']),
      ])
  })

  it('fails for a locked signer, with the command that unlocks it', async () => {
    server.answer('hsmStatus', () => ({ ...hsmStatus, state: 'locked' }))
    expect(await fromServer('hsm')).toEqual([['failed', 'agentca hsm unlock --pin-file FILE']])
    server.answer('hsmStatus', () => ({ ...hsmStatus, state: 'locked', pinLatched: true }))
    expect(await fromServer('hsm')).toEqual([['failed', 'agentca hsm unlock --pin-file FILE']])
  })

  it('fails for a key that could be taken out of its token', async () => {
    server.answer('hsmKeys', () => ({ items: [hsmKey, { ...hsmKey, label: 'weak', extractable: true }], next: null }))
    expect((await fromServer('keys')).map(([each]) => each)).toEqual(['ok', 'failed'])
  })

  it('fails for a clock that the core refuses, and warns of one that is apart from here', async () => {
    const clock = { now: new Date().toISOString(), lastSigning: null, detail: 'went back' }
    server.answer('clockShow', () => ({ ...clock, state: 'refused' }))
    expect(await fromServer('clock')).toEqual([['failed', expect.stringContaining('agentca clock accept')]])
    server.answer('clockShow', () => ({ ...clock, state: 'unconfirmed' }))
    expect(await fromServer('clock')).toEqual([['warn', expect.stringContaining('agentca clock accept')]])
    server.answer('clockShow', () => ({ ...clock, state: 'ok', now: new Date(Date.now() - 300_000).toISOString() }))
    expect((await fromServer('clock')).map(([each]) => each)).toEqual(['warn'])
  })

  it('does not mind CAs that have ended, and warns of a missing list', async () => {
    const [rootCa, issuingCa] = issuers()
    const old = { ...issuingCa!, name: 'issuing-0', state: 'retired' as const, notAfter: new Date(0).toISOString() }
    server.answer('issuersList', () => ({ items: [rootCa!, issuingCa!, old], next: null }))
    expect((await fromServer('ca lifetime')).map(([each]) => each)).toEqual(['ok', 'ok'])
    server.answer('crlStatus', () => ({ items: [crl('issuing-1')], next: null }))
    expect(await fromServer('crl age')).toEqual([
      ['warn', 'agentca ceremony crl'],
      ['ok', null],
    ])
  })

  it('minds the list of a retired CA, whose leaves live on, but not how long it lives itself', async () => {
    const [rootCa, issuingCa] = issuers()
    const old = { ...issuingCa!, name: 'issuing-0', state: 'retired' as const, daysLeft: 3 }
    server.answer('issuersList', () => ({ items: [rootCa!, issuingCa!, old], next: null }))
    const stale = { ...crl('issuing-0'), nextUpdate: new Date(Date.now() - 1000).toISOString() }
    server.answer('crlStatus', () => ({ items: [crl('root-1'), crl('issuing-1'), stale], next: null }))
    expect((await fromServer('ca lifetime')).map(([each]) => each)).toEqual(['ok', 'ok'])
    expect((await fromServer('crl age')).map(([each]) => each)).toEqual(['ok', 'ok', 'failed'])
  })

  it('warns of a log without a checkpoint', async () => {
    server.answer('status', () => ({ ...statusAnswer(), audit: { size: 9, checkpoint: null } }))
    expect(await fromServer('audit')).toEqual([['warn', 'agentca audit checkpoint']])
  })

  it('fetches every URL that certificates name, and judges what is there', async () => {
    const access = { ocsp: [`${status.url}/ocsp`], caIssuers: [`${status.url}/ca.cer`] }
    const extensions = (crlUrl: string) => [ext.crlDistributionPoints([crlUrl]), ext.authorityInfoAccess(access)]
    const shown = createParty({ name: 'shown', issuer: issuing, extensions: extensions(`${status.url}/ca.crl`) })
    const lost = createParty({ name: 'lost', issuer: issuing, extensions: extensions(`${status.url}/lost.crl`) })
    const show = (party: typeof leaf): void =>
      server.answer('certificatesShow', ({ params }) => ({
        ...{ serial: params.serial, state: 'issued', kind: 'agent', agent: 'billing', instance: 'a1b2', generation: 1 },
        ...{ notBefore: '', notAfter: '', issuedAt: '', revokedAt: null, reason: null, issuer: 'issuing-1' },
        ...{ predecessor: null, replaced: false, keyHash: '', profile: '', profileHash: '', requester: '' },
        certificate: pemOf(party),
        chain: '',
      }))
    show(shown)
    expect((await fromServer('urls')).map(([each]) => each)).toEqual(['ok', 'ok', 'ok'])
    show(lost)
    expect(await fromServer('urls')).toEqual([
      ['failed', expect.stringContaining('publicUrl.status')],
      ['ok', null],
      ['ok', null],
    ])
  })
})
