// The set-up's plan from made-up machines, and what it leaves npm to say on this one.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  foreignPackages,
  gatherFacts,
  packagesWithInstallScripts,
  planSetup,
  root,
  type SetupFacts,
} from '../../scripts/bootstrap.mjs'
import { cleanEnv } from './checkout-copy.ts'

const ready: SetupFacts = {
  nodeVersion: '20.0.0',
  nodeMajor: 20,
  hasNpm: true,
  hasApt: true,
  isRoot: true,
  softhsm: true,
  openssl: true,
  compiler: true,
  make: true,
  python: true,
  curl: true,
  gnutls: true,
  proxies: ['nginx', 'haproxy', 'caddy'],
  pythonRequests: true,
  rsyslog: true,
  foreign: Object.keys(foreignPackages),
  modulesLinked: false,
  installed: true,
}
const bare: SetupFacts = {
  ...ready,
  softhsm: false,
  openssl: false,
  compiler: false,
  make: false,
  python: false,
  curl: false,
  gnutls: false,
  proxies: [],
  foreign: [],
  installed: false,
}

describe('the plan of the set-up', () => {
  it('has nothing to do on a machine that is ready', () =>
    expect(planSetup(ready, 'test')).toEqual({ packages: [], install: false, wanted: [] }))

  it('installs everything on a bare machine, as root', () =>
    expect(planSetup(bare, 'run')).toEqual({
      packages: ['softhsm2', 'openssl', 'g++', 'make', 'python3'],
      install: true,
      wanted: [],
    }))

  it('needs no compiler once the addon is built', () =>
    expect(planSetup({ ...bare, installed: true }, 'run')).toEqual({
      packages: ['softhsm2', 'openssl'],
      install: false,
      wanted: [],
    }))

  it('installs for tests what judges the CA from outside, for running it nothing of that', () => {
    const facts = { ...ready, compiler: false, make: false, python: false, curl: false, gnutls: false }
    const packages = ['g++', 'python3', 'curl', 'gnutls-bin']
    expect(planSetup(facts, 'test')).toEqual({ packages, install: false, wanted: [] })
    expect(planSetup(facts, 'run')).toEqual({ packages: [], install: false, wanted: [] })
  })

  it('wants proxies for tests where it may install them, and does without them elsewhere', () => {
    const facts = { ...ready, proxies: ['nginx'] }
    expect(planSetup(facts, 'test')).toEqual({ packages: [], install: false, wanted: ['haproxy', 'caddy'] })
    for (const other of [{ isRoot: false }, { hasApt: false }])
      expect(planSetup({ ...facts, ...other }, 'test')).toEqual({ packages: [], install: false, wanted: [] })
    expect(planSetup(facts, 'run')).toMatchObject({ wanted: [] })
    expect(planSetup({ ...ready, pythonRequests: false, rsyslog: false }, 'test')).toMatchObject({
      wanted: ['python3-requests', 'rsyslog', 'rsyslog-gnutls'],
    })
    expect(planSetup({ ...ready, foreign: ['cargo'] }, 'test')).toMatchObject({
      wanted: Object.keys(foreignPackages).filter(name => name !== 'cargo'),
    })
  })

  it.each([
    ['a Node that is too old', { nodeMajor: 16, nodeVersion: '16.20.0' }, /install Node 18/],
    ['a missing npm', { hasNpm: false }, /apt-get install npm/],
    ['missing packages without root', { softhsm: false, isRoot: false }, /as root run: apt-get install -y softhsm2$/],
    [
      'a missing compiler without root',
      { installed: false, compiler: false, isRoot: false },
      /apt-get install -y g\+\+$/,
    ],
    ['packages of another checkout', { installed: false, modulesLinked: true }, /remove the link/],
    ['a system without apt', { openssl: false, hasApt: false }, /package manager/],
  ])('answers %s with one line that names the cure', (_, facts, cure) => {
    const plan = planSetup({ ...ready, ...facts }, 'run')
    expect(plan).toHaveProperty('problem')
    const { problem } = plan as { problem: string }
    expect(problem).toMatch(cure)
    expect(problem).not.toContain('\n')
  })

  it('finds this machine ready, since the tests run on it', () => {
    const facts = gatherFacts()
    expect(facts).toMatchObject({ softhsm: true, openssl: true, hasNpm: true })
  })

  it('runs the install scripts that package.json allows, and no others', () => {
    const { allowScripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      allowScripts: Readonly<Record<string, boolean>>
    }
    const allowed = Object.keys(allowScripts).filter(name => allowScripts[name])
    expect(allowed.sort()).toEqual([...packagesWithInstallScripts].sort())
  })

  it('leaves newer versions of npm nothing to warn of or to block', context => {
    const npm = (...args: readonly string[]) => spawnSync('npm', args, { cwd: root, env: cleanEnv(), encoding: 'utf8' })
    const { status, stdout, stderr } = npm('install-scripts', 'ls')
    if (/Unknown command/.test(`${stdout}${stderr}`)) context.skip('this npm does not review install scripts')
    expect([status, stdout.trim()]).toEqual([0, 'No packages with unreviewed install scripts.'])
    const dry = npm('ci', '--dry-run', '--offline')
    expect([dry.status, /warn/i.test(dry.stderr)]).toEqual([0, false])
  })
})
