// bin/agentca where it finds other things around it: nothing, a checkout that is not set up, an installed package, an old Node.
import { spawn, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { root as checkout } from '../../scripts/bootstrap.mjs'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'agentca-launch-'))
  cpSync(join(checkout, 'bin'), join(root, 'bin'), { recursive: true })
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const put = (path: string, content: string): void => {
  mkdirSync(dirname(join(root, path)), { recursive: true })
  writeFileSync(join(root, path), content)
}
/** The runtime of the tests as the one that this checkout pins. */
const pin = (): void => {
  mkdirSync(join(root, 'node_modules/node/bin'), { recursive: true })
  symlinkSync(process.execPath, join(root, 'node_modules/node/bin/node'))
}
const launch = (...args: string[]) =>
  spawnSync(process.execPath, [join(root, 'bin/agentca'), ...args], { encoding: 'utf8', cwd: tmpdir() })

/** Says what it was started with, and waits for SIGTERM when told to. */
const program = `
if (process.argv[2] === 'wait') {
  process.on('SIGTERM', () => process.exit(42))
  setInterval(() => {}, 1000)
} else process.exitCode = Number(process.argv[2] ?? 0)
process.stdout.write(JSON.stringify({ args: process.argv.slice(2), execPath: process.execPath }) + '\\n')
`

describe('bin/agentca', () => {
  it('says in one line, with exit code 2, that there is nothing to run', () => {
    const { status, stdout, stderr } = launch('version')
    expect([status, stdout]).toEqual([2, ''])
    expect(stderr).toMatch(/^agentca: nothing to run in .*\n$/)
  })

  it('says in one line, with exit code 2, that a checkout is not set up', () => {
    put('src/cli/main.ts', program)
    const { status, stderr } = launch('version')
    expect(status).toBe(2)
    expect(stderr).toMatch(/^agentca: this checkout is not set up: run "npm start".*\n$/)
  })

  it('runs the compiled files of an installed package, and passes arguments and exit code', () => {
    put('package.json', '{"type":"module"}')
    put('dist/cli/main.js', program)
    const { status, stdout } = launch('7', '--flag')
    expect([status, (JSON.parse(stdout) as { args: unknown }).args]).toEqual([7, ['7', '--flag']])
  })

  it('runs the sources of a checkout under the pinned runtime', () => {
    put('package.json', '{"type":"module"}')
    put('src/cli/main.ts', program)
    pin()
    const { status, stdout } = launch('3')
    expect([status, (JSON.parse(stdout) as { args: unknown }).args]).toEqual([3, ['3']])
  })
})

describe('under a Node that cannot replace its own process', () => {
  /** The same as bin/agentca does, without execve, and with a runtime that is not the pinned one by its path. */
  const started = (...args: string[]) => {
    put('package.json', '{"type":"module"}')
    put('src/cli/main.ts', program)
    mkdirSync(join(root, 'node_modules/node/bin'), { recursive: true })
    writeFileSync(join(root, 'node_modules/node/bin/node'), `#!/bin/sh\nexec ${process.execPath} "$@"\n`, {
      mode: 0o755,
    })
    const script = `process.execve = undefined; require(${JSON.stringify(join(root, 'bin/launch.cjs'))}).launch('agentca', 'cli/main')`
    put('start.cjs', script)
    return spawn(process.execPath, [join(root, 'start.cjs'), ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  }

  it('passes the exit code on', async () => {
    const child = started('5')
    expect(await new Promise(resolve => child.once('exit', resolve))).toBe(5)
  })

  it('passes a signal on and lets the program end in its own way', async () => {
    const child = started('wait')
    await new Promise(resolve => child.stdout.once('data', resolve))
    child.kill('SIGTERM')
    expect(await new Promise(resolve => child.once('exit', resolve))).toBe(42)
  })
})
