// Brings a machine that has only Node >= 18 with npm (and, as root, Debian's package manager) to where agentca runs: packages, the
// pinned runtime, the PKCS#11 addon, SoftHSM2 and OpenSSL's command, and for tests the foreign programs they use. Plain JavaScript,
// because it runs before anything is installed.
// `planSetup` decides from facts and is pure; `bootstrap` gathers the facts and carries the plan out. Idempotent.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, lstatSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))
export const pinnedNode = join(root, 'node_modules', '.bin', 'node')
const stampFile = join(root, 'node_modules', '.agentca-setup')

/** A fault that the person at the terminal can cure: one line, exit code 2. */
export class SetupProblem extends Error {}

/** Proxies whose recipes in docs/integrations are tried in them; not every distribution has each of them. */
const proxies = ['nginx', 'haproxy', 'caddy']

/**
 * Programs of test/compat, by the first of their commands that is not there, and the Debian package that brings it. Compilers of an old
 * distribution may be too old: then the suite skips what needs them, by name and version.
 */
export const foreignPackages = {
  apache2: ['apache2'],
  certbot: ['certbot'],
  lego: ['lego'],
  'redis-server': ['redis-server', 'redis-cli'],
  postgresql: ['postgres', 'initdb', 'psql'],
  'golang-go': ['go'],
  'default-jdk-headless': ['java', 'javac', 'keytool'],
  cargo: ['cargo'],
}

/** Where distributions and installers put what is not on everybody's PATH; test/compat looks there too. */
export const hiddenPlaces = () => [
  '/usr/local/bin',
  '/usr/sbin',
  '/usr/local/sbin',
  ...postgresPlaces(),
  '/usr/local/go/bin',
  join(homedir(), '.cargo/bin'),
]

/** Of several versions the newest. */
const postgresPlaces = () => {
  const place = '/usr/lib/postgresql'
  if (!existsSync(place)) return []
  return readdirSync(place)
    .toSorted((a, b) => Number(b) - Number(a))
    .map(version => join(place, version, 'bin'))
}

/** The install scripts that may run, by name; everything else a package wants to run at installation is not run. */
export const packagesWithInstallScripts = ['node', 'pkcs11js']

/**
 * What is to be done, from what the machine is like. Pure, so that every fault can be tested.
 * @param {'run' | 'test'} purpose tests also need the foreign programs that judge what the CA makes, and a compiler for a PKCS#11 module
 * @returns {{problem: string} | {packages: string[], install: boolean, wanted: string[]}} `wanted`: what tests are skipped without
 */
export const planSetup = (facts, purpose) => {
  if (facts.nodeMajor < 18)
    return {
      problem: `Node ${facts.nodeVersion} is too old: install Node 18 or later, then run the same command again`,
    }
  if (!facts.hasNpm)
    return { problem: 'npm is missing: install it (Debian: apt-get install npm), then run the same command again' }
  if (facts.modulesLinked && !facts.installed)
    return {
      problem:
        'node_modules is a link, and npm ci would empty the folder that it points to: remove the link, then run the same command again',
    }
  const missing = []
  if (!facts.softhsm) missing.push('softhsm2')
  if (!facts.openssl) missing.push('openssl')
  if (!facts.compiler && (!facts.installed || purpose === 'test')) missing.push('g++')
  if (!facts.make && !facts.installed) missing.push('make')
  if (!facts.python && (!facts.installed || purpose === 'test')) missing.push('python3')
  if (purpose === 'test') {
    if (!facts.curl) missing.push('curl')
    if (!facts.gnutls) missing.push('gnutls-bin')
  }
  if (missing.length > 0 && !facts.isRoot)
    return { problem: `missing: ${missing.join(', ')}; as root run: apt-get install -y ${missing.join(' ')}` }
  if (missing.length > 0 && !facts.hasApt)
    return { problem: `missing: ${missing.join(', ')}; install them with this system's package manager` }
  return { packages: missing, install: !facts.installed, wanted: wantedBy(facts, purpose) }
}

const wantedBy = (facts, purpose) => {
  if (purpose !== 'test' || !facts.isRoot || !facts.hasApt) return []
  const missing = proxies.filter(name => !facts.proxies.includes(name))
  missing.push(...Object.keys(foreignPackages).filter(name => !facts.foreign.includes(name)))
  if (!facts.pythonRequests) missing.push('python3-requests')
  if (!facts.rsyslog) missing.push('rsyslog', 'rsyslog-gnutls')
  return missing
}

const onPath = name => (process.env.PATH ?? '').split(delimiter).some(directory => existsSync(join(directory, name)))

const isSomewhere = name => onPath(name) || hiddenPlaces().some(place => existsSync(join(place, name)))

const lockHash = () =>
  createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex')

const expectedNode = () => JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).devDependencies.node

/** Where Debian, Fedora and others put SoftHSM2's module. */
export const softhsmModules = [
  '/usr/lib/softhsm/libsofthsm2.so',
  '/usr/lib64/softhsm/libsofthsm2.so',
  '/usr/lib64/pkcs11/libsofthsm2.so',
  '/usr/local/lib/softhsm/libsofthsm2.so',
  '/opt/homebrew/lib/softhsm/libsofthsm2.so',
]

export const gatherFacts = () => ({
  nodeVersion: process.versions.node,
  nodeMajor: Number(process.versions.node.split('.')[0]),
  hasNpm: onPath('npm'),
  hasApt: onPath('apt-get'),
  isRoot: process.getuid?.() === 0,
  softhsm: softhsmModules.some(existsSync),
  openssl: onPath('openssl'),
  compiler: onPath('g++') || onPath('c++'),
  make: onPath('make'),
  python: onPath('python3'),
  curl: onPath('curl'),
  gnutls: onPath('gnutls-cli') && onPath('certtool'),
  proxies: proxies.filter(name => onPath(name) || existsSync(join('/usr/sbin', name))),
  rsyslog: existsSync('/usr/sbin/rsyslogd'),
  foreign: Object.keys(foreignPackages).filter(name => foreignPackages[name].every(isSomewhere)),
  /** Looked at by tests alone: it takes a while. */
  get pythonRequests() {
    return spawnSync('python3', ['-c', 'import requests'], { stdio: 'ignore' }).status === 0
  },
  modulesLinked: lstatSync(join(root, 'node_modules'), { throwIfNoEntry: false })?.isSymbolicLink() === true,
  installed:
    existsSync(stampFile) &&
    readFileSync(stampFile, 'utf8') === lockHash() &&
    existsSync(pinnedNode) &&
    existsSync(join(root, 'node_modules/pkcs11js/build/Release')),
})

/** Runs a step with its output on stderr; what it printed decides which cure is named. */
const step = (what, command, args, options = {}) => {
  process.stderr.write(`agentca setup: ${what}\n`)
  const result = spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 26, ...options })
  if (result.status === 0) return
  const output = `${result.stdout ?? ''}${result.stderr ?? ''}${result.error?.message ?? ''}`
  const offline =
    /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|Could not resolve|Temporary failure|Unable to fetch/.test(
      output,
    )
  if (offline)
    throw new SetupProblem(`${what} needs the network: connect this machine, then run the same command again`)
  const last = output.trim().split('\n').slice(-12).join('\n')
  process.stderr.write(`${last}\n`)
  throw new SetupProblem(`${what} failed; try it by hand: ${command} ${args.join(' ')}`)
}

/** node-gyp would fetch headers from the internet; the runtime's own package carries them. N-API keeps them compatible. */
export const nodeHeaders = () =>
  ['linux', 'darwin']
    .map(platform => join(root, `node_modules/node/node_modules/node-${platform}-${process.arch}`))
    .find(directory => existsSync(join(directory, 'include', 'node')))

const installPackages = () => {
  const quiet = ['--no-fund', '--no-audit', '--loglevel=error']
  step('installing packages (npm ci)', 'npm', ['ci', '--ignore-scripts', ...quiet])
  step('installing the pinned runtime', 'npm', [
    'rebuild',
    'node',
    '--ignore-scripts=false',
    '--foreground-scripts=false',
    ...quiet,
  ])
  const headers = nodeHeaders()
  step('building the PKCS#11 addon', 'npm', ['rebuild', 'pkcs11js', '--ignore-scripts=false', ...quiet], {
    env: { ...process.env, ...(headers === undefined ? {} : { npm_config_nodedir: headers }) },
  })
  const found = spawnSync(pinnedNode, ['--version'], { encoding: 'utf8' }).stdout?.trim()
  if (found !== `v${expectedNode()}`)
    throw new SetupProblem(
      `the pinned runtime is ${found ?? 'missing'}, expected v${expectedNode()}; remove node_modules and run the same command again`,
    )
  writeFileSync(stampFile, lockHash())
}

const debianEnv = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
const aptInstall = ['install', '-y', '--no-install-recommends']
const policyFile = '/usr/sbin/policy-rc.d'

/** Debian starts a server that it installs, on ports of this machine, unless this file says no. */
const withoutStartingServices = run => {
  const isOurs = !existsSync(policyFile)
  if (isOurs) writeFileSync(policyFile, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    run()
  } finally {
    if (isOurs) rmSync(policyFile)
  }
}

/** One by one, because a name that a distribution does not know would stop all of them. */
const installWanted = names =>
  withoutStartingServices(() => {
    spawnSync('apt-get', ['update'], { env: debianEnv, stdio: 'ignore' })
    for (const name of names) {
      process.stderr.write(`agentca setup: installing ${name}\n`)
      const { status } = spawnSync('apt-get', [...aptInstall, name], { env: debianEnv, stdio: 'ignore' })
      if (status !== 0)
        process.stderr.write(`agentca setup: ${name} is not to be had here; the tests of its recipe are skipped\n`)
    }
  })

/** @throws SetupProblem */
const bootstrap = purpose => {
  const plan = planSetup(gatherFacts(), purpose)
  if ('problem' in plan) throw new SetupProblem(plan.problem)
  if (plan.packages.length > 0) {
    step('refreshing the package lists (apt-get update)', 'apt-get', ['update'], { env: debianEnv })
    step(`installing ${plan.packages.join(', ')}`, 'apt-get', [...aptInstall, ...plan.packages], { env: debianEnv })
  }
  if (plan.wanted.length > 0) installWanted(plan.wanted)
  if (plan.install) installPackages()
}

/**
 * Bootstraps or ends the process with one line and exit code 2.
 * @param {'run' | 'test'} purpose as of planSetup
 * @returns the environment in which `node` is the pinned runtime
 */
export const bootstrapOrExit = purpose => {
  try {
    bootstrap(purpose)
  } catch (error) {
    if (!(error instanceof SetupProblem)) throw error
    process.stderr.write(`agentca setup: ${error.message}\n`)
    process.exit(2)
  }
  return { ...process.env, PATH: `${join(root, 'node_modules', '.bin')}${delimiter}${process.env.PATH ?? ''}` }
}
