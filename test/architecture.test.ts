// Who may import whom, as data. An arrow goes down or not at all; each third-party package has exactly one door.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const source = join(root, 'src')

interface Row {
  readonly imports: readonly string[]
  readonly packages: readonly string[]
  /** `pure`: no I/O, no clock, no randomness. */
  readonly effects: 'pure' | 'allowed'
}

const belowHttp = [
  'base',
  'pki',
  'verify',
  'schema',
  'jws',
  'telemetry',
  'policy',
  'audit',
  'ca',
  'enrol',
  'acme',
  'status',
  'feed',
  'events',
  'monitor',
  'store',
  'signer',
]

/** Composition opens tokens, ledgers and sockets itself: it may see what lies behind the ports. */
const composes = ['server', 'backup', 'cli', 'testing']

/** `signer` and `store` below `ca`, `audit` and others mean their ports: files without native imports. */
const table: Readonly<Record<string, Row>> = {
  base: { imports: [], packages: [], effects: 'allowed' },
  pki: { imports: ['base'], packages: ['@peculiar/x509', '@peculiar/webcrypto'], effects: 'pure' },
  signer: { imports: ['base', 'pki'], packages: ['pkcs11js'], effects: 'allowed' },
  store: { imports: ['base'], packages: ['better-sqlite3'], effects: 'allowed' },
  audit: { imports: ['base', 'pki', 'store'], packages: [], effects: 'allowed' },
  schema: { imports: ['base', 'pki'], packages: ['zod', 'yaml'], effects: 'allowed' },
  policy: { imports: ['base', 'pki', 'schema'], packages: ['@cedar-policy/cedar-wasm'], effects: 'pure' },
  telemetry: { imports: ['base'], packages: ['pino', 'prom-client'], effects: 'allowed' },
  verify: { imports: ['base', 'pki'], packages: [], effects: 'pure' },
  ca: { imports: ['base', 'pki', 'verify', 'policy', 'audit', 'signer', 'store'], packages: [], effects: 'allowed' },
  status: { imports: ['base', 'pki', 'ca', 'store'], packages: [], effects: 'allowed' },
  jws: { imports: ['base'], packages: ['jose'], effects: 'allowed' },
  enrol: {
    imports: ['base', 'pki', 'verify', 'schema', 'jws', 'ca', 'store', 'audit'],
    packages: [],
    effects: 'allowed',
  },
  acme: { imports: ['base', 'pki', 'jws', 'ca', 'store', 'audit'], packages: [], effects: 'allowed' },
  events: { imports: ['base', 'audit', 'store'], packages: [], effects: 'allowed' },
  feed: { imports: ['base', 'pki', 'verify', 'audit', 'store'], packages: [], effects: 'allowed' },
  monitor: { imports: ['base', 'pki', 'schema', 'audit', 'store'], packages: [], effects: 'pure' },
  http: { imports: belowHttp, packages: ['express'], effects: 'allowed' },
  front: { imports: ['base', 'pki', 'audit', 'http'], packages: [], effects: 'allowed' },
  server: { imports: [...belowHttp, 'http', 'front'], packages: [], effects: 'allowed' },
  backup: {
    imports: ['base', 'pki', 'verify', 'schema', 'audit', 'ca', 'signer', 'store', 'server'],
    packages: ['age-encryption', 'modern-tar'],
    effects: 'allowed',
  },
  cli: { imports: [...belowHttp, 'http', 'server', 'backup', 'agent'], packages: ['commander'], effects: 'allowed' },
  testing: { imports: [...belowHttp, 'http', 'server', 'agent'], packages: [], effects: 'allowed' },
  verifier: { imports: ['base', 'pki', 'verify', 'policy', 'jws', 'agent'], packages: [], effects: 'allowed' },
  agent: { imports: ['base', 'pki', 'verify', 'jws'], packages: ['undici'], effects: 'allowed' },
}

/** What folders above the ports may see of the two that hold native code. */
const portFiles: Readonly<Record<string, readonly string[]>> = {
  signer: ['port.ts', 'errors.ts'],
  store: [
    'ports.ts',
    'acme-port.ts',
    'pruning-port.ts',
    'orphans-port.ts',
    'policies-port.ts',
    'event-cursors-port.ts',
    'recovery-port.ts',
    'shards-port.ts',
    'registrations-port.ts',
    'records.ts',
    'errors.ts',
    'activity.ts',
  ],
}

const files = readdirSync(source, { recursive: true, encoding: 'utf8' })
  .filter(name => name.endsWith('.ts'))
  .map(name => ({ name, folder: name.split('/')[0] as string, text: readFileSync(join(source, name), 'utf8') }))

const importsOf = (text: string): readonly string[] =>
  [
    ...text.matchAll(
      /(?:^|\n)\s*(?:import|export)\b[^'"\n;]*?(?:\{[^}]*\}[^'"\n;]*?)?from\s*'([^']+)'|\bimport\(\s*'([^']+)'\s*\)|(?:^|\n)import\s+'([^']+)'/g,
    ),
  ].map(match => (match[1] ?? match[2] ?? match[3]) as string)

const packageOf = (specifier: string): string =>
  specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')

describe.each(Object.keys(table).filter(name => files.some(file => file.folder === name)))('%s', folder => {
  const row = table[folder] as Row
  const own = files.filter(file => file.folder === folder)

  it('imports only what lies below it', () => {
    for (const file of own)
      for (const specifier of importsOf(file.text).filter(name => name.startsWith('.'))) {
        const target = relative(source, resolve(source, dirname(file.name), specifier))
        const to = target.split('/')[0] as string
        if (to === folder) continue
        expect(row.imports, `${file.name} imports ${target}`).toContain(to)
        const ports = portFiles[to]
        if (ports !== undefined && !composes.includes(folder))
          expect(ports, `${file.name} imports ${target}`).toContain(target.split('/').slice(1).join('/'))
      }
  })

  it('has only its own third-party packages', () => {
    for (const file of own)
      for (const specifier of importsOf(file.text).filter(name => !name.startsWith('.') && !name.startsWith('node:')))
        expect(row.packages, `${file.name} imports ${specifier}`).toContain(packageOf(specifier))
  })

  if (row.effects === 'pure')
    it('has no I/O, no clock and no randomness', () => {
      const effects =
        /\bDate\.now\(|\bnew Date\(\)|\bperformance\.now\(|\bMath\.random\(|\brandomBytes\b|\brandomUUID\b|'node:(fs|net|tls|http|https|child_process|os|worker_threads|dgram|dns)(\/[a-z]+)?'/
      for (const file of own) expect(file.text, file.name).not.toMatch(effects)
    })
})

describe('every source file', () => {
  it('is in a folder of the table', () => {
    for (const file of files) expect(Object.keys(table), file.name).toContain(file.folder)
  })

  it('opens with a comment that says what it is', () => {
    for (const file of files) expect(file.text.startsWith('// '), file.name).toBe(true)
  })

  it('has at most 400 lines', () => {
    for (const file of files) expect(file.text.split('\n').length, file.name).toBeLessThanOrEqual(401)
  })

  it('names no path of a machine', () => {
    for (const file of files) expect(file.text, file.name).not.toMatch(/\/(work|root)\//)
  })
})
