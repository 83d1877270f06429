// What code of an attacker's own could do in a front, which parses what strangers send: run under the flags that fronts are started
// with, it reads nothing but code, writes nothing and starts nothing.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'
import { confinementOf } from '../../src/front/supervisor.ts'

const entry = join(root, 'src/front/main.ts')

test('reads no secret, writes no file and starts no program', () => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-front-'))
  const pin = join(directory, 'user.pin')
  writeFileSync(pin, '1234')
  const attempts = {
    code: `readFileSync(${JSON.stringify(entry)})`,
    pin: `readFileSync(${JSON.stringify(pin)})`,
    home: `readdirSync(${JSON.stringify(join(root, '.agentca'))})`,
    write: `writeFileSync(${JSON.stringify(join(directory, 'x'))}, 'x')`,
    program: "execFileSync('/bin/true')",
    module: "process.dlopen({ exports: {} }, '/nowhere.node')",
  }
  const tries = Object.entries(attempts).map(
    ([name, code]) =>
      `try { ${code}; said.${name} = 'done' } catch (error) { said.${name} = error.code ?? error.message }`,
  )
  const program = [
    "const { readFileSync, readdirSync, writeFileSync } = require('node:fs')",
    "const { execFileSync } = require('node:child_process')",
    'const said = {}',
    ...tries,
    'console.log(JSON.stringify(said))',
  ].join('\n')
  try {
    const said = execFileSync(process.execPath, [...confinementOf(entry), '-e', program], { encoding: 'utf8' })
    expect(JSON.parse(said)).toEqual({
      code: 'done',
      pin: 'ERR_ACCESS_DENIED',
      home: 'ERR_ACCESS_DENIED',
      write: 'ERR_ACCESS_DENIED',
      program: 'ERR_ACCESS_DENIED',
      module: 'ERR_DLOPEN_DISABLED',
    })
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
})
