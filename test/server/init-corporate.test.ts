// `init` for a CA whose certificates were made elsewhere: under another organisation's root, or where the root's token has been taken
// away before the issuing CA existed.
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { parseConfig } from '../../src/schema/config.ts'
import { requestIssuingCertificate } from '../../src/server/ceremony/issuing.ts'
import { findJudge } from '../../src/server/ceremony/judge.ts'
import { runCeremony } from '../../src/server/ceremony/run.ts'
import { withToken } from '../../src/server/ceremony/token-target.ts'
import { type HomePaths, homePaths } from '../../src/server/home.ts'
import { type InitOptions, initHome } from '../../src/server/init.ts'
import { ownInputs } from '../../src/server/init-inputs.ts'
import { caFile, onlineTarget } from '../../src/server/init-places.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import { code } from './ceremony-bench.ts'

let directory: string
let paths: HomePaths
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-init-corporate-'))
  paths = homePaths(join(directory, 'home'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const options = (more: Partial<InitOptions> = {}): InitOptions => ({
  config: parseConfig({ text: 'trustDomain: example.org', source: 'agentca.yaml', env: {} }),
  paths,
  clock: systemClock,
  log: silentLog,
  randomBytes,
  ...more,
})
const path = (name: string): string => join(directory, name)
const read = (name: string): string => readFileSync(path(name), 'utf8')
const openssl = (...args: string[]): string =>
  execFileSync('openssl', args, { cwd: directory, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

/** A corporate root, its CRL, and its certificate for the key that is in our token. */
const certifyElsewhere = async (): Promise<void> => {
  const text = ownInputs({ trustDomain: 'example.org', statusUrl: 'http://127.0.0.1:8081' }).issuing
  const judge = await findJudge()
  const run = { kind: 'issuing', text, mode: 'perform', transcriptFile: null } as const
  await runCeremony({ clock: systemClock, randomBytes, judge }, run, (deps, input) =>
    requestIssuingCertificate(deps, {
      input,
      token: onlineTarget(options()),
      keys: 'new',
      output: { path: path('request.csr'), mode: 'new' },
    }),
  )
  writeFileSync(
    path('ca.cnf'),
    `[ca]
default_ca = it
[it]
database = index
default_md = sha256
default_crl_days = 30
crlnumber = number
policy = any
new_certs_dir = .
rand_serial = yes
unique_subject = no
[any]
[issuing]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[crl]
authorityKeyIdentifier = keyid
`,
  )
  writeFileSync(path('index'), '')
  writeFileSync(path('number'), '01\n')
  openssl(
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'corporate.key', '-out', 'corporate.pem'],
    ...['-subj', '/O=Corporate/CN=Corporate root', '-days', '3650', '-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
  )
  openssl(
    ...['x509', '-req', '-in', 'request.csr', '-CA', 'corporate.pem', '-CAkey', 'corporate.key', '-days', '365'],
    ...['-extfile', 'ca.cnf', '-extensions', 'issuing', '-out', 'issuing.pem'],
  )
  openssl(
    ...['ca', '-config', 'ca.cnf', '-gencrl', '-cert', 'corporate.pem', '-keyfile', 'corporate.key', '-crlexts', 'crl'],
    ...['-out', 'crl.pem'],
  )
  openssl('crl', '-in', 'crl.pem', '-outform', 'DER', '-out', 'crl.der')
}

describe('under another organisation’s root', () => {
  test('takes its certificates and CRL, makes the keys that are missing, and no root token', async () => {
    await certifyElsewhere()
    const existing = {
      root: read('corporate.pem'),
      issuing: read('issuing.pem'),
      rootCrl: new Uint8Array(readFileSync(path('crl.der'))),
    }
    const report = await initHome(options({ existing }))
    expect(report).toMatchObject({ state: 'initialised', rootToken: null, warnings: [] })
    expect(existsSync(paths.rootCeremony)).toBe(false)
    const keys = await withToken(onlineTarget(options()), async token => token.listKeys().map(key => key.label))
    expect(keys.toSorted()).toEqual(['issuing-1', 'log-1', 'ocsp-1'])
    await using ledger = openSqliteLedger(paths.database, { clock: systemClock, log: silentLog })
    const [root] = ledger.issuers.list()
    expect(ledger.issuers.list().map(({ name }) => name)).toEqual(['root-1', 'issuing-1'])
    expect(ledger.status.latestCrl(root!.id)?.number).toBe(1n)
  })

  test('does not put it in the place of a root that was made here', async () => {
    await certifyElsewhere()
    mkdirSync(paths.issuers, { recursive: true })
    const own = openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'x.key', '-subj', '/CN=Own')
    writeFileSync(caFile(paths, 'root-1'), own)
    const existing = { root: read('corporate.pem'), issuing: read('issuing.pem'), rootCrl: null }
    await expect(initHome(options({ existing }))).rejects.toThrow(code('output_exists'))
    expect(readFileSync(caFile(paths, 'root-1'), 'utf8')).toBe(own)
  })

  test('works without its CRL, and says what is missing', async () => {
    await certifyElsewhere()
    const report = await initHome(
      options({ existing: { root: read('corporate.pem'), issuing: read('issuing.pem'), rootCrl: null } }),
    )
    expect(report.warnings).toEqual([expect.stringContaining('the root has no CRL here')])
  })

  test('refuses a certificate for a key that is not in the token', async () => {
    await certifyElsewhere()
    rmSync(paths.tokens, { recursive: true })
    const existing = { root: read('corporate.pem'), issuing: read('issuing.pem'), rootCrl: null }
    await expect(initHome(options({ existing }))).rejects.toThrow(code('token_not_found'))
  })
})

describe('a root whose token was taken away', () => {
  test('keeps its certificate; the issuing CA needs the token, and the error says so', async () => {
    await initHome(options())
    const second = homePaths(join(directory, 'second'))
    mkdirSync(second.issuers, { recursive: true })
    copyFileSync(caFile(paths, 'root-1'), caFile(second, 'root-1'))
    await expect(initHome(options({ paths: second }))).rejects.toThrow(
      expect.objectContaining({ code: 'ceremony_refused', hint: expect.stringContaining('bring the token back') }),
    )
    renameSync(paths.rootCeremony, second.rootCeremony)
    const report = await initHome(options({ paths: second }))
    expect(report.rootToken).toBe(second.rootCeremony)
    expect(readFileSync(caFile(second, 'root-1'), 'utf8')).toBe(readFileSync(caFile(paths, 'root-1'), 'utf8'))
  })
})
