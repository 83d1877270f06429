// Parsers of files that people write, and of the backup's: YAML against its schemas, policies through Cedar, manifest and archive.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readArchive } from '../../src/backup/archive.ts'
import { parseJson } from '../../src/http/body.ts'
import { loadCedar } from '../../src/policy/cedar.ts'
import { compilePolicies } from '../../src/policy/cedar-compile.ts'
import { createPolicyEvaluator } from '../../src/policy/cedar-scopes.ts'
import { parseServedPolicies } from '../../src/policy/cedar-served.ts'
import { readDeclared } from '../../src/schema/apply.ts'
import { parseAttestor } from '../../src/schema/attestor.ts'
import { parseBackupManifest } from '../../src/schema/backup.ts'
import { parseCeremony } from '../../src/schema/ceremony.ts'
import { parseConfig } from '../../src/schema/config.ts'
import { parseMonitor } from '../../src/schema/monitor.ts'
import { parseActions, parsePolicyTests } from '../../src/schema/policy-bundle.ts'
import { parseProfile } from '../../src/schema/profile.ts'
import { parseSignerConfig } from '../../src/signer/config.ts'
import { parseRequirementFile } from '../../src/verifier/sidecar/requirements.ts'
import { bytesOf, type FuzzTarget, textOf, textTarget } from './target.ts'

const root = join(import.meta.dirname, '../..')
const fileOf = (path: string): string => readFileSync(join(root, path), 'utf8')

const yamlWords = [
  ': ',
  '- ',
  '\n  ',
  '{',
  '}',
  '[',
  ']',
  '&a ',
  '*a',
  '<<: ',
  '!!js/function ',
  '"',
  "'",
  '|',
  '>',
  '? ',
  '---\n',
  '~',
  'null',
  'true',
  '0x1',
  '1e9',
  '__proto__: ',
  'constructor: ',
]

const yaml = (
  name: string,
  seeds: readonly string[],
  read: (text: string) => unknown,
  words: readonly string[] = [],
): FuzzTarget => textTarget({ name, seeds, read, words: [...yamlWords, ...words], maxLength: 8192 })

const actions = 'orders:\n  actions: [read, refund]\n  resource: { region: String }\n  context: { amount: Long }\n'
const statement = (condition: string): string =>
  `@id("a") permit(principal in Role::"r", action in Action::"orders:*", resource) when { ${condition} };\n`
const policies = [
  statement('principal.hasTag("k") && principal.getTag("k") == "v"'),
  statement(
    'context has amount && context.amount < 5 || context has source && context.source.isInRange(ip("10.0.0.0/8"))',
  ),
  '@until("2027-01-01T00:00:00Z")\nforbid(principal, action, resource) unless { resource has region };\n',
]

const attributeCall = (key: string, value: string) =>
  ({
    principal: {
      kind: 'agent',
      name: 'a',
      owner: value,
      profile: 'agent',
      roles: [value],
      attributes: { k: value, [key]: value },
    },
    action: 'orders:read',
    resource: { type: 'Resource', id: value, attributes: { region: value, [key]: value } },
    at: 0,
    source: '10.0.0.1',
    rate: 1,
    context: { amount: 1, [key]: [value] },
  }) as const

/** Generated for corpus/backup/seed-age: it opens nothing else. */
const identity = 'AGE-SECRET-KEY-130MPQYUCPKSYF604C8S7RA8WCM2P75FMUW48VW45N93598L0HZES7P9J6G'

const readBackup = async (bytes: Uint8Array) => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-fuzz-'))
  try {
    const path = join(directory, 'backup')
    writeFileSync(path, bytes)
    return await readArchive(path, { identities: [identity] }, join(directory, 'into'))
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const manifest = {
  ...{ format: 'agentca-backup', version: 1, createdAt: '2026-11-24T12:00:00Z', agentca: '0.1.0', caId: 'x' },
  ...{ trustDomain: 'x', schema: 1, feed: { epoch: 'e', n: 1 }, audit: { size: 1, head: '0'.repeat(64) } },
  ...{ crlNumbers: { 'issuing-1': '7' }, keys: false },
  files: [{ name: 'agentca.db', size: 1, sha256: '0'.repeat(64) }],
}

const signerConfig = {
  ...{ socket: '/run/signer.sock', stateDirectory: '/run/state', trustDomain: 'agentca.local' },
  module: { path: '/usr/lib/x.so', tokenLabel: 'agentca', pinSource: '/run/pin' },
  keys: [{ label: 'issuing-1', purposes: ['checkpoint'] }],
}

export const fileTargets: readonly FuzzTarget[] = [
  yaml('configuration', [fileOf('ca-config/agentca.yaml'), 'mode: production\nlisten:\n  api: 127.0.0.1:0\n'], text =>
    parseConfig({ text, source: 'fuzz', env: {} }),
  ),
  yaml('profile', [fileOf('ca-config/profiles/agent.yaml')], text => parseProfile('fuzz', text)),
  yaml(
    'attestor',
    readdirSync(join(root, 'ca-config/attestors')).map(name => fileOf(`ca-config/attestors/${name}`)),
    text => parseAttestor('fuzz', text),
  ),
  yaml('monitor', [fileOf('ca-config/monitor.yaml')], text => parseMonitor(text, 'fuzz')),
  yaml('policy-actions', [actions], text => parseActions(text, 'fuzz')),
  yaml(
    'policy-tests',
    [
      '- agent: a\n  action: orders:read\n  expect: allow\n  context: { amount: 1 }\n  resource: { id: x, attributes: { region: eu } }\n',
    ],
    text => parsePolicyTests(text, 'fuzz'),
  ),
  yaml(
    'ceremony',
    readdirSync(join(root, 'ca-config/ceremonies')).map(name => fileOf(`ca-config/ceremonies/${name}`)),
    text =>
      (['root', 'issuing', 'crl'] as const).map(kind => {
        try {
          return parseCeremony(kind, text, 'fuzz')
        } catch (error) {
          if ((error as { code?: unknown }).code === 'configuration_invalid') return 'refused'
          throw error
        }
      }),
  ),
  yaml('declared', [fileOf('ca-config/apply-example/agents.yaml')], text => readDeclared(text, 'fuzz')),
  yaml('requirements', ['# all\nGET /orders=orders:read\n\n* /x=* # more\n'], text =>
    parseRequirementFile(text, 'fuzz'),
  ),
  textTarget({
    name: 'signer-config',
    seeds: [JSON.stringify(signerConfig)],
    words: ['"module"', '"keys"', '"label"', '"purpose"', 'null', '[]', '{}'],
    read: parseSignerConfig,
  }),
  textTarget({
    name: 'backup-manifest',
    seeds: [JSON.stringify(manifest)],
    words: ['"files"', '"name"', '"../"', '"size"', '"sha256"', '/', '\\u0000'],
    read: parseBackupManifest,
  }),
  {
    name: 'backup',
    form: 'binary',
    maxLength: 4096,
    seeds: () => [
      bytesOf('age-encryption.org/v1\n-> X25519 AAAA\nAAAA\n--- AAAA\n'),
      bytesOf('age-encryption.org/v1\n-> scrypt AAAA 1\nAAAA\n---\n'),
    ],
    words: ['age-encryption.org/v1\n', '-> X25519 ', '-> scrypt ', '--- ', '\n'],
    read: readBackup,
  },
  textTarget({
    name: 'policies',
    seeds: policies,
    words: [
      'permit',
      'forbid',
      'principal',
      'action',
      'resource',
      ' in ',
      ' when { ',
      ' unless { ',
      '};',
      '@id("',
      '@until("',
      'context.',
      '.hasTag(',
      'ip("',
      '//',
      '"',
      '\\u{0}',
      'Action::"',
      ' like "*"',
      ' has ',
      'if ',
      ' then ',
      ' else ',
    ],
    read: async text => compilePolicies(await loadCedar(), { 'actions.yaml': actions, 'fuzz.cedar': text }),
  }),
  textTarget({
    name: 'cedar-attributes',
    seeds: ['k\nv', 'region\neu', '__proto__\n1', '__entity\nx', '__extn\nx'],
    words: ['__entity', '__extn', '__proto__', 'constructor', 'type', 'id', 'fn', '\u0000', '\n'],
    maxLength: 512,
    read: async text => {
      const { policies: compiled } = compilePolicies(await loadCedar(), {
        'actions.yaml': actions,
        'a.cedar': policies.join('').replace('"a"', '"b"'),
      })
      if (compiled === null) throw new Error('the policies of the target do not compile')
      const [key = '', ...value] = text.split('\n')
      using evaluator = createPolicyEvaluator(await loadCedar(), compiled)
      return evaluator.decide(attributeCall(key, value.join('\n')))
    },
  }),
  {
    name: 'served-policies',
    form: 'text',
    maxLength: 4096,
    seeds: () => [
      bytesOf('{"version":1,"hash":"x","statements":[{"id":"a","effect":"permit","json":{"effect":"permit"}}]}'),
    ],
    words: ['"statements"', '"json"', '"effect"', 'forbid', 'null', '[]', '{}'],
    read: bytes => (textOf(bytes) === undefined ? undefined : parseServedPolicies(parseJson(bytes))),
  },
]
