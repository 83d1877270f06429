// The supervisor where the operating system cannot start a process for a while.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { createSignerClient } from '../../src/signer/client.ts'
import { createSignerSupervisor } from '../../src/signer/supervisor.ts'
import { eventually } from './harness.ts'

let directory = ''
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-supervisor-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

test('a process that the kernel refuses is tried again', async () => {
  const client = createSignerClient({ socket: join(directory, 'refused.sock'), clock: systemClock, log: silentLog })
  // More than one argument may have (E2BIG): refused before there is a process.
  const env: Record<string, string> = { TOO_LARGE: 'x'.repeat(1 << 22) }
  const supervisor = createSignerSupervisor({
    configFile: join(directory, 'missing.json'),
    sessions: 1,
    client,
    clock: systemClock,
    log: silentLog,
    env,
  })
  expect(supervisor.state()).toMatchObject({ state: 'down', pid: null, detail: expect.stringContaining('E2BIG') })
  delete env.TOO_LARGE
  // There is no configuration, which only a process can find out.
  await eventually('a process', () => supervisor.state().detail.includes('ENOENT'))
  await supervisor.close()
  await client.close()
})

test('a process for which no file descriptors were left is tried again, and the supervisor ends', () => {
  const program = fileURLToPath(new URL('./starved-supervisor.ts', import.meta.url))
  const command = ['-c', 'ulimit -n 48; exec "$@"', 'sh', process.execPath, program, join(directory, 'starved.sock')]
  expect(execFileSync('/bin/sh', command, { encoding: 'utf8', timeout: 90_000 })).toBe('started again\n')
})
