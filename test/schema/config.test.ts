// The configuration: the commented example is the defaults, environment and flags go before the file, every fault is told at once.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type CeremonyKind, parseCeremony } from '../../src/schema/ceremony.ts'
import { configPaths, parseAddress, parseConfig } from '../../src/schema/config.ts'
import type { SchemaError } from '../../src/schema/errors.ts'
import { parseProfile } from '../../src/schema/profile.ts'

const examples = join(import.meta.dirname, '../../ca-config')
const read = (name: string): string => readFileSync(join(examples, name), 'utf8')
const parse = (text: string | null, env: Record<string, string> = {}, flags: Record<string, string> = {}) =>
  parseConfig({ text, source: 'agentca.yaml', env, flags })
const faultsOf = (run: () => unknown): readonly string[] => {
  try {
    run()
  } catch (error) {
    return (error as SchemaError).faults.map(({ path }) => path)
  }
  throw new Error('expected a fault')
}

describe('the examples in ca-config', () => {
  test('agentca.yaml is the defaults, each of them written out', () => {
    const text = read('agentca.yaml')
    expect(parse(text)).toEqual(parse(null))
    const named = (path: string): RegExp => new RegExp(`^ *(# +)?${path.split('.').at(-1)}: `, 'm')
    for (const path of configPaths) expect(text, path).toMatch(named(path))
  })

  test('its commented keys are valid when they are switched on', () => {
    const text = read('agentca.yaml')
      .replace(/^# (publicUrl:)/m, '$1')
      .replace(/^#( {3}(?:api|status): http)/gm, '$1')
      .replace(/^( +)# ((?:uri|softhsmConf|checkpointFile): )/gm, '$1$2')
      .replace(/^ {3}(api|status): http/gm, '  $1: http')
    expect(parse(text)).toMatchObject({
      publicUrl: { api: 'https://ca.example.org:8443', status: 'http://ca.example.org' },
      hsm: { uri: expect.stringMatching(/^pkcs11:/), softhsmConf: '/etc/agentca/softhsm2.conf' },
      audit: { checkpointFile: expect.anything() },
    })
  })

  test('each ceremony and each profile parses', () => {
    expect(readdirSync(join(examples, 'ceremonies')).toSorted()).toEqual(['crl.yaml', 'issuing.yaml', 'root.yaml'])
    for (const kind of ['root', 'issuing', 'crl'] satisfies CeremonyKind[])
      expect(parseCeremony(kind, read(`ceremonies/${kind}.yaml`), kind).ceremony).toBe(kind)
    const profiles = readdirSync(join(examples, 'profiles'))
    expect(profiles.length).toBeGreaterThan(0)
    for (const name of profiles) expect(parseProfile(name, read(`profiles/${name}`)).hash).toMatch(/^[0-9a-f]{64}$/)
  })
})

describe('precedence', () => {
  test('flag before environment before file before default', () => {
    const file = 'listen: { api: "127.0.0.1:1", status: "127.0.0.1:2", ops: "127.0.0.1:3" }'
    const env = { AGENTCA_LISTEN_API: '127.0.0.1:11', AGENTCA_LISTEN_STATUS: '127.0.0.1:12' }
    const { listen } = parse(file, env, { 'listen.api': '127.0.0.1:21' })
    expect([listen.api.port, listen.status.port, listen.ops.port]).toEqual([21, 12, 3])
    expect(parse(null).listen.ops.port).toBe(9464)
  })

  test('a key with a capital letter is reached with and without an underscore', () => {
    expect(parse(null, { AGENTCA_TRUST_DOMAIN: 'a.example' }).trustDomain).toBe('a.example')
    expect(parse(null, { AGENTCA_TRUSTDOMAIN: 'b.example' }).trustDomain).toBe('b.example')
    expect(parse(null, { AGENTCA_OCSP_NONCE_BUDGET: '7' }).ocsp.nonceBudget).toBe(7)
  })
})

describe('faults', () => {
  test('are all told at once, with their paths', () => {
    const text = `
trustDomain: Not A Domain
mode: maybe
listen: { api: nowhere }
publicUrl: { api: "http://plain.example.org", status: "http://slash.example.org/" }
hsm: { sessions: 0, uri: nonsense }
crl: { lifetime: soon }
unknown: 1
`
    expect(faultsOf(() => parse(text)).toSorted()).toEqual([
      'crl.lifetime',
      'hsm.sessions',
      'hsm.uri',
      'listen.api',
      'mode',
      'publicUrl.api',
      'publicUrl.status',
      'trustDomain',
      'unknown',
    ])
  })

  test('of the environment are told like those of the file, with the variable', () => {
    const both = (): unknown => parse('log: { level: loud }', { AGENTCA_MODE: 'maybe', AGENTCA_CRL_LIFETIME: '1' })
    expect(faultsOf(both).toSorted()).toEqual(['crl.lifetime', 'log.level', 'mode'])
    expect(both).toThrow(/mode: .*\(AGENTCA_MODE\); crl\.lifetime: .*\(AGENTCA_CRL_LIFETIME\); log\.level: [^()]*$/)
  })

  test('of two values that do not go together are told with all the others', () => {
    const text = 'crl: { lifetime: 12h }\nfeed: { heartbeat: 15s }\nmode: maybe\nlog: { level: loud }'
    expect(faultsOf(() => parse(text)).toSorted()).toEqual(['crl.refreshBefore', 'feed.heartbeat', 'log.level', 'mode'])
    expect(() => parse('mode: maybe', { AGENTCA_CRL_LIFETIME: '1h', AGENTCA_CRL_REFRESHBEFORE: '1h' })).toThrow(
      'crl.refreshBefore: expected less than crl.lifetime (3600s) (AGENTCA_CRL_REFRESHBEFORE)',
    )
  })

  test.each([
    ['AGENTCA_LISTEN_APY', 'AGENTCA_LISTEN_API'],
    ['AGENTCA_LISTEN_IPA', 'AGENTCA_LISTEN_API'],
    ['AGENTCA_LISTEN_PORT', 'AGENTCA_LISTEN_OPS'],
    ['AGENTCA_HOEM', 'AGENTCA_HOME'],
    ['AGENTCA_ISSUANCE_SIGN_DEADLIN', 'AGENTCA_ISSUANCE_SIGN_DEADLINE'],
  ])('of the environment: %s is no name, %s is', (name, nearest) => {
    const both = () => parse('mode: maybe', { [name]: '127.0.0.1:1' })
    expect(faultsOf(both).toSorted()).toEqual([name, 'mode'].toSorted())
    expect(both).toThrow(`${name}: no setting has this name, expected ${nearest} perhaps`)
  })

  test('are not found in the names of commands, agents, tests, and of Kubernetes', () => {
    const env = {
      ...{ AGENTCA_HOME: '/srv', AGENTCA_CONFIG: 'a.yaml', AGENTCA_URL: 'https://ca', AGENTCA_TOKEN_FILE: 'a.token' },
      ...{
        AGENTCA_ADMIN_URL: 'https://ca',
        AGENTCA_TESTS: 'fast',
        AGENTCA_STORY_KILLS: '3',
        AGENTCA_VERIFY_LISTEN: ':1',
      },
      ...{ AGENTCA_SERVICE_HOST: '10.0.0.1', AGENTCA_SERVICE_PORT_API: '8443', AGENTCA_PORT: 'tcp://10.0.0.1:8443' },
      ...{ AGENTCA_STATUS_PORT_8081_TCP_ADDR: '10.0.0.1', PATH: '/bin', AGENTCAX: '1' },
    }
    expect(parse(null, env)).toEqual(parse(null))
  })

  test('do not repeat an HSM URI, which could hold a PIN', () => {
    expect(() => parse('hsm: { uri: "pkcs12:pin-value=4711" }')).toThrow(/^agentca\.yaml: hsm\.uri: (?!.*4711)/)
  })

  test('a CRL that would be refreshed all the time is refused', () => {
    expect(faultsOf(() => parse('crl: { lifetime: 12h }'))).toEqual(['crl.refreshBefore'])
    expect(faultsOf(() => parse('feed: { heartbeat: 15s }'))).toEqual(['feed.heartbeat'])
  })
})

test('workers is a number of processes, or auto', () => {
  for (const [text, value] of [
    ['0', 0],
    ['2', 2],
    ['auto', 'auto'],
  ] as const)
    expect(parse(`workers: ${text}`).workers).toBe(value)
  expect(parse('workers: 1', { AGENTCA_WORKERS: 'auto' }).workers).toBe('auto')
  for (const wrong of ['-1', '65', '1.5', 'all']) expect(() => parse(`workers: ${wrong}`)).toThrow(/workers: /)
})

describe('addresses', () => {
  test.each([
    ['127.0.0.1:8443', { host: '127.0.0.1', port: 8443 }],
    ['[::1]:0', { host: '::1', port: 0 }],
    [':80', { host: '0.0.0.0', port: 80 }],
    ['localhost:65535', { host: 'localhost', port: 65_535 }],
    ['localhost', null],
    ['localhost:65536', null],
    ['::1:80', null],
  ])('%s', (text, address) => {
    expect(parseAddress(text)).toEqual(address)
  })
})
