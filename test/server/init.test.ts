// `init` from an empty folder, with real tokens, ledger and OpenSSL: what is there afterwards, what a second run does, and that a run
// that was killed anywhere is finished by the next one.
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { joinTokenHash } from '../../src/ca/tokens.ts'
import { parseCrl } from '../../src/pki/crl.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { parseCeremony } from '../../src/schema/ceremony.ts'
import { type Config, parseConfig } from '../../src/schema/config.ts'
import { withToken } from '../../src/server/ceremony/token-target.ts'
import type { TranscriptRecord } from '../../src/server/ceremony/transcript.ts'
import { type HomePaths, homePaths } from '../../src/server/home.ts'
import { type InitOptions, initHome } from '../../src/server/init.ts'
import { ownInputs, publicUrlsOf } from '../../src/server/init-inputs.ts'
import { onlineTarget, rootTarget } from '../../src/server/init-places.ts'
import { planInit } from '../../src/server/init-plan.ts'
import { isInitialised } from '../../src/server/init-record.ts'
import { readOnlineKey } from '../../src/server/online-keys.ts'
import { initSoftHsmToken } from '../../src/signer/softhsm-token.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import { createBench } from '../pki/openssl.ts'
import { code } from './ceremony-bench.ts'

let directory: string
let paths: HomePaths
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-init-'))
  paths = homePaths(join(directory, 'home'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const configOf = (yaml = 'trustDomain: example.org'): Config =>
  parseConfig({ text: yaml, source: 'agentca.yaml', env: {} })
const options = (more: Partial<InitOptions> = {}): InitOptions => ({
  config: configOf(),
  paths,
  clock: systemClock,
  log: silentLog,
  randomBytes,
  ...more,
})
const openLedger = () => openSqliteLedger(paths.database, { clock: systemClock, log: silentLog })
const mode = (path: string): number => statSync(path).mode & 0o777
const transcripts = (): readonly TranscriptRecord[] =>
  readdirSync(paths.ceremonies)
    .filter(name => name.endsWith('.json'))
    .toSorted()
    .map(name => JSON.parse(readFileSync(join(paths.ceremonies, name), 'utf8')))
const labels = (target: Parameters<typeof withToken>[0]) =>
  withToken(target, async token =>
    token
      .listKeys()
      .map(key => key.label)
      .toSorted(),
  )

/** The chain that relying parties get, judged with the root's CRL. */
const judge = (): string => {
  using bench = createBench()
  bench.file('crl.pem', encodePem('X509 CRL', readFileSync(join(paths.status, 'crl', 'root-1.crl'))))
  const { output } = bench.try(
    ...['verify', '-x509_strict', '-crl_check_all', '-CAfile', join(paths.issuers, 'root-1.pem')],
    ...['-CRLfile', 'crl.pem', join(paths.issuers, 'issuing-1.pem')],
  )
  return output
}

describe('an empty home', () => {
  test('gets tokens, keys, CAs, a root CRL, a ledger and its first registrations', async () => {
    expect(isInitialised(paths)).toBe(false)
    const report = await initHome(options())
    expect(isInitialised(paths)).toBe(true)
    expect(report).toMatchObject({
      state: 'initialised',
      home: paths.home,
      trustDomain: 'example.org',
      caId: expect.stringMatching(/^[0-9a-f]{32}$/),
      tokenUri: expect.stringMatching(/^pkcs11:token=agentca\?module-path=/),
      pinFile: join(paths.tokens, 'user.pin'),
      confPath: join(paths.tokens, 'softhsm2.conf'),
      urls: { api: 'https://127.0.0.1:8443', status: 'http://127.0.0.1:8081' },
      rootToken: paths.rootCeremony,
    })
    using bench = createBench()
    const [, printed] = /Fingerprint=(.*)/.exec(
      bench.openssl('x509', '-in', join(paths.issuers, 'root-1.pem'), '-noout', '-fingerprint', '-sha256'),
    )!
    expect(report.rootFingerprint).toBe(`sha256:${printed!.replaceAll(':', '').toLowerCase()}`)
    expect(judge()).toContain('issuing-1.pem: OK')

    expect(await labels(onlineTarget(options()))).toEqual(['issuing-1', 'log-1', 'ocsp-1'])
    expect(await labels(rootTarget(options()))).toEqual(['root-1'])
    for (const target of [onlineTarget(options()), rootTarget(options())])
      for (const key of await withToken(target, async token => token.listKeys()))
        expect(key).toMatchObject({ sensitive: true, extractable: false, neverExtractable: true, local: true })
    for (const label of ['ocsp-1', 'log-1']) expect(readOnlineKey(paths, label).algorithm).toBe('P-256')

    for (const path of [paths.home, paths.tokens, paths.rootCeremony, paths.issuers, paths.ceremonies, paths.signer])
      expect(mode(path), path).toBe(0o700)
    for (const token of [paths.tokens, paths.rootCeremony])
      for (const file of ['user.pin', 'so.pin']) expect(mode(join(token, file))).toBe(0o600)
    expect(mode(join(paths.home, 'init.json'))).toBe(0o600)
    expect(mode(join(paths.status, 'crl', 'root-1.crl'))).toBe(0o644)
    expect(transcripts().map(({ ceremony, outcome }) => `${ceremony} ${outcome}`)).toEqual([
      'root done',
      'issuing done',
      'crl done',
    ])
  })

  test('gets a ledger that says who it is, with one audit leaf for each thing that was made', async () => {
    const report = await initHome(options())
    await using ledger = openLedger()
    expect(ledger.meta.get('ca_id')).toBe(report.caId)
    expect(ledger.meta.get('trust_domain')).toBe('example.org')
    expect(ledger.meta.get('public_url_api')).toBe('https://127.0.0.1:8443')
    expect(ledger.meta.get('public_url_status')).toBe('http://127.0.0.1:8081')
    expect(Number(ledger.meta.get('created_at'))).toBeLessThanOrEqual(Date.now())
    const [root, issuing] = ledger.issuers.list()
    expect(root).toMatchObject({ name: 'root-1', kind: 'root', state: 'active', keyLabel: null, parentId: null })
    expect(issuing).toMatchObject({ name: 'issuing-1', kind: 'issuing', state: 'active', keyLabel: 'issuing-1' })
    expect(issuing!.parentId).toBe(root!.id)
    expect(ledger.status.latestCrl(root!.id)?.number).toBe(
      parseCrl(readFileSync(join(paths.status, 'crl', 'root-1.crl'))).crlNumber,
    )
    expect(ledger.registrations.find('service', 'agentca')).toMatchObject({
      profile: 'api',
      dnsNames: ['localhost', '127.0.0.1', '::1'],
    })
    expect(ledger.registrations.find('operator', 'admin')).toMatchObject({ profile: 'operator', operatorRole: 'admin' })
    const leaves = ledger.audit.read(0, 100).map(leaf => `${leaf.event} ${leaf.subject}`)
    expect(leaves).toEqual([
      'ca_initialised null',
      'ceremony_performed issuer:root-1',
      'ceremony_performed issuer:issuing-1',
      'ceremony_performed issuer:root-1',
      'issuer_added issuer:root-1',
      'issuer_added issuer:issuing-1',
      'crl_published issuer:root-1',
      'owner_created owner:operators',
      'registration_created service:agentca',
      'registration_created operator:admin',
      'token_created operator:admin',
    ])
    // One use, for the first operator alone, and nowhere but in its file.
    const joinToken = readFileSync(paths.firstOperatorToken, 'utf8').trim()
    expect(statSync(paths.firstOperatorToken).mode & 0o777).toBe(0o600)
    const admin = ledger.registrations.find('operator', 'admin')!
    expect(ledger.tokens.byHash(joinTokenHash(joinToken))).toMatchObject({
      registrationId: admin.id,
      uses: 1,
      usesTaken: 0,
    })
    const hashes = readdirSync(paths.ceremonies)
      .filter(name => name.endsWith('.json'))
      .map(name =>
        createHash('sha256')
          .update(readFileSync(join(paths.ceremonies, name)))
          .digest('hex'),
      )
    const text = ledger.audit
      .read(1, 3)
      .map(leaf => Buffer.from(leaf.bytes).toString('utf8'))
      .join()
    for (const hash of hashes) expect(text).toContain(hash)
  })

  test('gets the configured URLs into its certificates, and the API’s host among its names', async () => {
    const yaml =
      'publicUrl: { api: "https://ca.example.org:8443", status: "http://status.example.org" }\nlisten: { api: ":8443" }'
    await initHome(options({ config: configOf(`trustDomain: example.org\n${yaml}`) }))
    using bench = createBench()
    const text = bench.openssl('x509', '-in', join(paths.issuers, 'issuing-1.pem'), '-noout', '-text')
    expect(text).toContain('URI:http://status.example.org/crl/root-1.crl')
    expect(text).toContain('CA Issuers - URI:http://status.example.org/aia/root-1.cer')
    await using ledger = openLedger()
    expect(ledger.registrations.find('service', 'agentca')?.dnsNames).toContain('ca.example.org')
  })

  test('uses inputs that were reviewed beforehand, and refuses those that name things otherwise', async () => {
    const reviewed = (name: string) => {
      const file = join(import.meta.dirname, '../../ca-config/ceremonies', name)
      return { source: name, text: readFileSync(file, 'utf8').replaceAll('agentca.local', 'example.org') }
    }
    const root = { ...reviewed('root.yaml'), text: reviewed('root.yaml').text.replace('3650d', '5000d') }
    const other = { ...root, text: root.text.replace('name: root-1', 'name: root-2') }
    await expect(initHome(options({ inputs: { root: other } }))).rejects.toThrow(code('ceremony_refused'))
    expect(existsSync(paths.home)).toBe(false)
    await initHome(options({ inputs: { root, issuing: reviewed('issuing.yaml') } }))
    const [first] = transcripts()
    expect(first!.input).toMatchObject({ source: 'root.yaml', text: root.text })
    expect(judge()).toContain('issuing-1.pem: OK')
  })
})

describe('init’s own inputs', () => {
  test('are the examples of ca-config, for the default configuration', () => {
    const own = ownInputs({ trustDomain: 'agentca.local', statusUrl: 'http://127.0.0.1:8081' })
    for (const kind of ['root', 'issuing', 'crl'] as const) {
      const example = readFileSync(join(import.meta.dirname, `../../ca-config/ceremonies/${kind}.yaml`), 'utf8')
      expect(parseCeremony(kind, own[kind].text, kind)).toEqual(parseCeremony(kind, example, kind))
    }
  })

  test('leave an organization out that would be too long for one', () => {
    const trustDomain = `${'a'.repeat(60)}.example`
    const own = ownInputs({ trustDomain, statusUrl: 'http://127.0.0.1:8081' })
    expect(parseCeremony('root', own.root.text, 'root')).toMatchObject({
      subject: [['CN', 'agentca root 1']],
      trustDomain,
    })
  })
})

describe('public URLs', () => {
  const freePort = async () => 4711
  test('are the loopback listeners’ own; a listener on any port gets one now', async () => {
    const config = configOf('listen: { api: "[::1]:8443", status: "127.0.0.1:0" }')
    expect(await publicUrlsOf(config, freePort)).toEqual({ api: 'https://[::1]:8443', status: 'http://127.0.0.1:4711' })
  })

  test('must be configured for listeners that are reachable from elsewhere', async () => {
    const config = configOf('listen: { api: ":8443", status: "192.0.2.1:80" }')
    await expect(publicUrlsOf(config, freePort)).rejects.toThrow(/publicUrl.api.*publicUrl.status/)
  })
})

describe('a home that is initialised', () => {
  const snapshot = (): readonly string[] =>
    readdirSync(paths.home, { recursive: true, encoding: 'utf8' })
      .toSorted()
      .map(name => {
        const path = join(paths.home, name)
        return statSync(path).isFile()
          ? `${name} ${createHash('sha256').update(readFileSync(path)).digest('hex')}`
          : name
      })

  test('stays as it is, also while another process has its ledger open', async () => {
    const first = await initHome(options())
    const before = snapshot()
    const again = await initHome(options())
    expect(again).toEqual({ ...first, state: 'already' })
    expect(snapshot()).toEqual(before)
    await using _ledger = openLedger()
    expect((await initHome(options())).state).toBe('already')
  })

  test('is never made another one: trust domain, URLs and token are in its certificates', async () => {
    await initHome(options())
    const before = snapshot()
    for (const yaml of [
      'trustDomain: other.example',
      'trustDomain: example.org\npublicUrl: { status: "http://elsewhere.example.org" }',
      'trustDomain: example.org\nhsm: { uri: "pkcs11:token=x?module-path=/x.so&pin-source=/pin" }',
    ])
      await expect(initHome(options({ config: configOf(yaml) }))).rejects.toThrow(code('home_differs'))
    expect(snapshot()).toEqual(before)
  })

  test('a ledger whose init.json is lost, and an init.json that is damaged, are no empty home', async () => {
    await initHome(options())
    renameSync(join(paths.home, 'init.json'), join(directory, 'init.json'))
    await expect(initHome(options())).rejects.toThrow(code('home_damaged'))
    writeFileSync(join(paths.home, 'init.json'), '{"version":1}')
    await expect(initHome(options())).rejects.toThrow(code('home_damaged'))
    expect(() => isInitialised(paths)).toThrow(code('home_damaged'))
  })
})

describe('a machine that lacks something', () => {
  test('without SoftHSM2’s module one line says what to install, and nothing was made', async () => {
    const softhsmModule = join(directory, 'softhsm', 'missing.so')
    await expect(initHome(options({ softhsmModule }))).rejects.toThrow(
      expect.objectContaining({ code: 'module_not_loadable', hint: 'apt-get install softhsm2' }),
    )
    expect(existsSync(paths.home)).toBe(false)
  })

  test('without openssl likewise', async () => {
    const { PATH } = process.env
    process.env.PATH = directory
    try {
      await expect(initHome(options())).rejects.toThrow(
        expect.objectContaining({ code: 'openssl_missing', hint: 'apt-get install openssl' }),
      )
    } finally {
      process.env.PATH = PATH
    }
    expect(existsSync(paths.home)).toBe(false)
  })
})

describe('a configured token', () => {
  test('gets only the keys that it lacks; the root has its own token all the same', async () => {
    const token = initSoftHsmToken({ directory: join(directory, 'hsm'), label: 'vendor' })
    const target = { kind: 'uri', uri: token.uri, softhsmConf: token.confPath } as const
    const before = await withToken(target, async opened => {
      await opened.generateKey('foreign', 'P-384')
      return (await opened.generateKey('ocsp-1', 'P-256')).idHex
    })
    const config = configOf(`trustDomain: example.org\nhsm: { uri: "${token.uri}", softhsmConf: "${token.confPath}" }`)
    const report = await initHome(options({ config }))
    expect(report).toMatchObject({ tokenUri: token.uri, confPath: token.confPath, pinFile: token.pinFile })
    expect(await labels(target)).toEqual(['foreign', 'issuing-1', 'log-1', 'ocsp-1'])
    expect(await withToken(target, async opened => opened.findKey('ocsp-1').idHex)).toBe(before)
    expect(await labels(rootTarget(options()))).toEqual(['root-1'])
    expect(existsSync(paths.tokens)).toBe(false)
    expect(judge()).toContain('issuing-1.pem: OK')
  })
})

describe('an init that was killed', () => {
  /** Runs init in a process that kills itself when the log says so. */
  const initUntil = (message: string): Promise<string | null> => {
    const script = join(directory, 'init.ts')
    const at = (path: string): string => JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href)
    writeFileSync(
      script,
      `import { randomBytes } from 'node:crypto'
       import { systemClock } from ${at('base/clock.ts')}
       import { parseConfig } from ${at('schema/config.ts')}
       import { homePaths } from ${at('server/home.ts')}
       import { initHome } from ${at('server/init.ts')}
       const say = (_, text) => { if (text === ${JSON.stringify(message)}) process.kill(process.pid, 'SIGKILL') }
       const log = { debug: say, info: say, warn: say, error: say, child: () => log }
       const config = parseConfig({ text: 'trustDomain: example.org', source: 'c', env: {} })
       await initHome({ config, paths: homePaths(${JSON.stringify(paths.home)}), clock: systemClock, log, randomBytes })`,
    )
    const child = spawn(process.execPath, [script], { stdio: ['ignore', 'ignore', 'inherit'] })
    return new Promise(resolve => child.on('exit', (_, signal) => resolve(signal)))
  }

  test.each([
    'root ceremony: create the SoftHSM2 token',
    'root ceremony: provide the keys',
    'root ceremony: write the file',
    'issuing ceremony: provide the keys',
    'issuing ceremony: write the file',
    'crl ceremony: sign the list',
    'crl ceremony: write the file',
    'the root’s token can now be moved away',
    'ledger: first leaves',
    'ledger: issuers',
    'ledger: registrations',
    'initialised',
  ])('after "%s" is finished by the next one, with one key and one certificate each', async message => {
    expect(await initUntil(message)).toBe('SIGKILL')
    const begun = JSON.parse(readFileSync(join(paths.home, 'init.json'), 'utf8'))
    const roots = existsSync(join(paths.issuers, 'root-1.pem'))
      ? readFileSync(join(paths.issuers, 'root-1.pem'), 'utf8')
      : null
    const report = await initHome(options())
    expect(report.caId).toBe(begun.caId)
    expect(judge()).toContain('issuing-1.pem: OK')
    if (roots !== null) expect(readFileSync(join(paths.issuers, 'root-1.pem'), 'utf8')).toBe(roots)
    expect(await labels(onlineTarget(options()))).toEqual(['issuing-1', 'log-1', 'ocsp-1'])
    expect(await labels(rootTarget(options()))).toEqual(['root-1'])
    await using ledger = openLedger()
    expect(ledger.audit.tail({ event: 'ca_initialised', limit: 10 })).toHaveLength(1)
    expect(ledger.issuers.list().map(({ name }) => name)).toEqual(['root-1', 'issuing-1'])
    expect(ledger.meta.get('ca_id')).toBe(begun.caId)
    expect(ledger.audit.tail({ event: 'registration_created', limit: 10 })).toHaveLength(2)
  })

  test('is not finished as another CA', async () => {
    expect(await initUntil('root ceremony: write the file')).toBe('SIGKILL')
    await expect(initHome(options({ config: configOf('trustDomain: other.example') }))).rejects.toThrow(
      code('home_differs'),
    )
  })
})

describe('two at once', () => {
  test('whoever has the ledger open keeps the other out, and nothing is made meanwhile', async () => {
    mkdirSync(paths.home)
    const ledger = openLedger()
    await expect(initHome(options())).rejects.toThrow(code('ledger_in_use'))
    expect(existsSync(join(paths.home, 'init.json'))).toBe(false)
    expect(existsSync(paths.tokens)).toBe(false)
    await ledger.close()
    expect((await initHome(options())).state).toBe('initialised')
  })
})

describe('a dry run', () => {
  test('says what would be made and makes nothing', async () => {
    const plan = await planInit(options())
    expect(plan.parts.map(({ part, action }) => `${action} ${part}`)).toEqual([
      'make online token',
      'make online keys',
      'make root token',
      'make root certificate',
      'make issuing certificate',
      'make root CRL',
      'make ledger',
    ])
    expect(plan.parts[3]!.facts).toMatchObject({ subject: 'CN=agentca root 1,O=example.org' })
    expect(readdirSync(directory)).toEqual([])
    await initHome(options())
    expect(await planInit(options())).toMatchObject({ state: 'already', parts: [] })
  })
})
