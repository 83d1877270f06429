// Each of examples/, played as its README says, against one CA: exit code 0 means that the agent was let in and, once revoked, was not.
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { root as checkout } from '../../scripts/bootstrap.mjs'
import { type Ran, runProgram, type ServedCa, startServedCa } from './served-ca.ts'

let ca: ServedCa

beforeAll(async () => {
  ca = await startServedCa()
}, 180_000)
afterAll(() => ca?.[Symbol.asyncDispose]())

const isThere = (program: string, ...args: readonly string[]): Promise<boolean> =>
  new Promise(resolve => {
    const env = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin` }
    execFile(program, args, { env }, error => resolve(error === null))
  })

/** What an example needs beside this checkout. */
const needs: Readonly<Record<string, () => Promise<boolean>>> = {
  python: () => isThere('python3', '-c', 'import requests'),
  go: () => isThere('go', 'version'),
  nginx: () => isThere('nginx', '-v'),
}

const play = (name: string): Promise<Ran> =>
  runProgram('npm', ['run', '--silent', 'example', '--', name], { cwd: checkout, env: ca.env })

const commands = [...readFileSync(join(checkout, 'examples/README.md'), 'utf8').matchAll(/`npm run example -- (\w+)`/g)]

describe('an example', () => {
  it.for(commands.map(([, name]) => name as string))(
    '%s: the revoked agent is refused',
    { timeout: 120_000 },
    async (name, { skip }) => {
      if (!((await needs[name]?.()) ?? true)) skip(`${name} is not installed`)
      const { code, out, err } = await play(name)
      expect([code, err]).toEqual([0, ''])
      expect(out).toMatch(/refused/)
    },
  )

  it('that is not there is named with those that are', async () => {
    const { code, err } = await play('cobol')
    expect(code).toBe(2)
    expect(err).toMatch(/no example "cobol": expected one of typescript, /)
  })
})
