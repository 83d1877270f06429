// `npm start` as somebody new meets it, in a copy of this checkout: the first run, the second, beside a CA that runs, without the
// demonstration, and where a port is taken.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'
import { type Ran, runProgram } from '../story/served-ca.ts'
import { type CheckoutCopy, copyCheckout } from './checkout-copy.ts'

let copy: CheckoutCopy
let env: NodeJS.ProcessEnv
beforeAll(() => {
  copy = copyCheckout()
  env = {
    ...copy.env,
    AGENTCA_LISTEN_API: '127.0.0.1:0',
    AGENTCA_LISTEN_STATUS: '127.0.0.1:0',
    AGENTCA_LISTEN_OPS: '127.0.0.1:0',
  }
})
afterAll(() => copy?.[Symbol.dispose]())

const npmStart = (...flags: readonly string[]): Promise<Ran> =>
  runProgram('npm', ['start', '--silent', '--', ...flags], { cwd: copy.directory, env })

/** Lines of steps, without what differs from run to run. */
const stepsOf = (text: string): readonly string[] =>
  text.split('\n').flatMap(line => {
    const step = /^ +\d+\.\d\d s {2}(.+)$/.exec(line)?.[1]
    if (step === undefined) return []
    return [
      step
        .replaceAll(/sha256:[0-9a-f]{64}/g, 'sha256:HASH')
        .replaceAll(/\b[0-9a-f]{32}\b/g, 'HEX')
        .replaceAll(/127\.0\.0\.1:\d+/g, 'HOST')
        .replaceAll(/\bdemo-(?!backend)\w+/g, 'demo-NAME')
        .replaceAll(/\d+ ms/g, 'N ms')
        .replaceAll(/pid \d+/g, 'pid N')
        .replaceAll(/\/\S*\/\.agentca\b/g, 'HOME'),
    ]
  })

/** What README.md says that `npm start` prints. */
const promised = (): readonly string[] => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  return stepsOf(/```text\n([\s\S]*?)```/.exec(readme)?.[1] ?? '')
}

/** `npm start -- --no-demo` without npm between, so that a signal reaches it. */
const startCa = async (): Promise<ChildProcess> => {
  const child = spawn(process.execPath, ['scripts/start.mjs', '--no-demo'], {
    cwd: copy.directory,
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  for await (const chunk of child.stdout.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
    said += chunk
    if (said.includes('the CA keeps running')) break
  }
  child.stdout.resume()
  expect(stepsOf(said).at(0)).toBe('the CA is ready: https://HOST (API), http://HOST (CRL, OCSP), pid N')
  return child
}

describe('npm start', () => {
  let serial: string
  it('makes a CA and shows an agent enrolling, calling, being revoked and refused; with --once it ends', async () => {
    const { code, out, err } = await npmStart('--once')
    expect([code, err]).toEqual([0, ''])
    expect(stepsOf(out)).toEqual(promised())
    expect(promised().length).toBeGreaterThan(8)
    serial = /serial ([0-9a-f]{32})/.exec(out)?.[1] ?? ''
    expect(existsSync(join(copy.directory, '.agentca/run/admin.sock'))).toBe(false)
  }, 120_000)

  it('keeps the CA when it runs again, and shows the same with another agent', async () => {
    const { code, out, err } = await npmStart('--once')
    expect([code, err]).toEqual([0, ''])
    expect(stepsOf(out)).toEqual(promised().filter(step => !/^(made a CA|the root key)/.test(step)))
    expect(/serial ([0-9a-f]{32})/.exec(out)?.[1]).not.toBe(serial)
  }, 120_000)

  it('only runs the CA with --no-demo, and attaches to one that runs', async () => {
    const ca = await startCa()
    try {
      const { code, out } = await npmStart('--once')
      expect([code, stepsOf(out)[0]]).toEqual([0, 'a CA is running in this checkout: attached to it'])
      expect(stepsOf(out)).toContain(promised().at(-1))
      expect(ca.exitCode).toBe(null)
      const status = await runProgram('./bin/agentca', ['status'], { cwd: copy.directory, env })
      expect(status.code).toBe(0)
    } finally {
      ca.kill('SIGTERM')
    }
    expect(await once(ca, 'exit')).toEqual([0, null])
    expect((await runProgram('./bin/agentca', ['status'], { cwd: copy.directory, env })).code).toBe(7)
  }, 120_000)

  it('leaves no CA behind when its reader goes away', async () => {
    const pipe = `${process.execPath} scripts/start.mjs | head -n 1; exit "\${PIPESTATUS[0]}"`
    const { code, out, err } = await runProgram('bash', ['-c', pipe], { cwd: copy.directory, env })
    expect([code, stepsOf(out).length, err]).toEqual([0, 1, ''])
    expect((await runProgram('./bin/agentca', ['status'], { cwd: copy.directory, env })).code).toBe(7)
  }, 120_000)

  it('says in one line which flags there are, with exit code 2', async () => {
    const { code, out, err } = await npmStart('--nonce')
    expect([code, out, err]).toEqual([2, '', "agentca: Unknown option '--nonce': expected --once or --no-demo\n"])
  })

  it('says in one line which port is taken and how to choose another, with exit code 2', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as AddressInfo
    env.AGENTCA_LISTEN_OPS = `127.0.0.1:${port}`
    try {
      const { code, err } = await npmStart('--once')
      expect([code, err.trim().split('\n')]).toEqual([
        2,
        [
          expect.stringMatching(
            new RegExp(`^agentca: listen\\.ops: 127\\.0\\.0\\.1:${port} is taken.*AGENTCA_LISTEN_OPS=`),
          ),
        ],
      ])
    } finally {
      other.close()
      env.AGENTCA_LISTEN_OPS = '127.0.0.1:0'
    }
  }, 120_000)
})
