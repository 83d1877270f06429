// `npm run package:client [-- DIR]`: the package for agents and backends, without the CA: what `agentca/agent`, `agentca/verifier` and their
// programs load, compiled, with its types, and as dependencies the packages that are imported there. It has the name of the whole
// package, so that programs import the same from either.
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { builtinModules } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { root } from './bootstrap.mjs'

interface Manifest {
  readonly name: string
  readonly version: string
  readonly description: string
  readonly license: string
  readonly engines: Readonly<Record<string, string>>
  readonly dependencies: Readonly<Record<string, string>>
}

/** Below src/, without extensions. */
const libraries = { './agent': 'agent/index', './verifier': 'verifier/index' } as const
const programs = { 'agentca-agent': 'agent/daemon/main', 'agentca-verify': 'verifier/sidecar/main' } as const

/** Loaded by their names, in threads: no import leads to them. */
const threads = ['verifier/outside/calls-thread'] as const

/** What must never come along: it needs a compiler, or is the CA's own business. */
const notForClients: ReadonlySet<string> = new Set([
  'better-sqlite3',
  'pkcs11js',
  'express',
  'commander',
  'pino',
  'prom-client',
])

const run = (command: string, args: readonly string[], cwd: string): string => {
  const { status, stdout, stderr, error } = spawnSync(command, [...args], { cwd, encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? `${stdout}${stderr}`}`)
  return stdout
}

/** Compiles the entries and what they import, nothing else. */
const compile = (entries: readonly string[], outDir: string): void => {
  const project = join(outDir, '..', 'tsconfig.json')
  writeFileSync(
    project,
    JSON.stringify({
      extends: join(root, 'tsconfig.build.json'),
      compilerOptions: { rootDir: join(root, 'src'), outDir, typeRoots: [join(root, 'node_modules/@types')] },
      include: [],
      files: entries.map(entry => join(root, 'src', `${entry}.ts`)),
    }),
  )
  run(join(root, 'node_modules/.bin/tsc'), ['-p', project], root)
}

const specifiersOf = (text: string): readonly string[] =>
  [
    ...text.matchAll(
      /(?:^|\n)\s*(?:import|export)\b[^'";]*?from\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)|(?:^|\n)import\s+['"]([^'"]+)['"]/g,
    ),
  ].map(match => (match[1] ?? match[2] ?? match[3]) as string)

const packageOf = (specifier: string): string =>
  specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')

const isBuiltIn = (specifier: string): boolean => specifier.startsWith('node:') || builtinModules.includes(specifier)

interface Closure {
  readonly files: ReadonlySet<string>
  readonly packages: ReadonlySet<string>
}

/** @param extension `.js`: what is loaded; `.d.ts`: what types are told by */
const closureOf = (directory: string, entries: readonly string[], extension: '.js' | '.d.ts'): Closure => {
  const [files, packages] = [new Set<string>(), new Set<string>()]
  const visit = (file: string): void => {
    if (files.has(file)) return
    files.add(file)
    for (const specifier of specifiersOf(readFileSync(join(directory, file), 'utf8'))) {
      if (isBuiltIn(specifier)) continue
      if (!specifier.startsWith('.')) packages.add(packageOf(specifier))
      else visit(relative(directory, resolve(directory, dirname(file), specifier.replace(/\.[jt]s$/, extension))))
    }
  }
  for (const entry of entries) visit(`${entry}${extension}`)
  return { files, packages }
}

const readme = `# agentca, for agents and backends

What a program needs to have an identity (\`agentca/agent\`, \`agentca-agent\`) and to verify callers (\`agentca/verifier\`,
\`agentca-verify\`). The CA itself is in the whole package of the same name, which contains all of this too.
`

/** @param to directory for the tarball @returns its path */
export const packClient = (to: string): string => {
  const work = mkdtempSync(join(tmpdir(), 'agentca-client-'))
  try {
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest
    const bins = Object.entries(programs).filter(([, entry]) => existsSync(join(root, 'src', `${entry}.ts`)))
    const entries = [...Object.values(libraries), ...bins.map(([, entry]) => entry), ...threads]
    const compiled = join(work, 'compiled')
    mkdirSync(compiled)
    compile(entries, compiled)
    const loaded = closureOf(compiled, entries, '.js')
    const told = closureOf(compiled, Object.values(libraries), '.d.ts')
    const packages = [...new Set([...loaded.packages, ...told.packages])].sort()
    const wrong = packages.filter(name => notForClients.has(name) || !Object.hasOwn(manifest.dependencies, name))
    if (wrong.length > 0) throw new Error(`agents and backends must not need ${wrong.join(', ')}`)

    const place = join(work, 'package')
    for (const file of [...loaded.files, ...told.files]) {
      mkdirSync(dirname(join(place, 'dist', file)), { recursive: true })
      cpSync(join(compiled, file), join(place, 'dist', file))
    }
    for (const file of ['launch.cjs', 'package.json', ...bins.map(([name]) => name)]) {
      mkdirSync(join(place, 'bin'), { recursive: true })
      cpSync(join(root, 'bin', file), join(place, 'bin', file))
    }
    for (const [name] of bins) chmodSync(join(place, 'bin', name), 0o755)
    writeFileSync(join(place, 'README.md'), readme)
    const { name, version, license, engines, dependencies } = manifest
    const exported = ([path, entry]: readonly [string, string]) => [
      path,
      { types: `./dist/${entry}.d.ts`, default: `./dist/${entry}.js` },
    ]
    const own = {
      ...{ name, version, license, type: 'module', engines },
      description:
        'Identities for AI agents and backends: enrolment, renewal, verification, revocation (client side of agentca)',
      bin: Object.fromEntries(bins.map(([each]) => [each, `bin/${each}`])),
      exports: { ...Object.fromEntries(Object.entries(libraries).map(exported)), './package.json': './package.json' },
      dependencies: Object.fromEntries(packages.map(each => [each, dependencies[each]])),
    }
    writeFileSync(join(place, 'package.json'), `${JSON.stringify(own, null, 2)}\n`)
    const [packed] = JSON.parse(run('npm', ['pack', '--json', '--pack-destination', work], place)) as [
      { readonly filename: string },
    ]
    const tarball = join(to, `${name}-client-${version}.tgz`)
    mkdirSync(to, { recursive: true })
    cpSync(join(work, packed.filename), `${tarball}.part`)
    renameSync(`${tarball}.part`, tarball)
    return tarball
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

if (import.meta.main) process.stdout.write(`${packClient(resolve(process.argv[2] ?? root))}\n`)
