// One process keeps its state in a directory: whoever comes second is told who is first, and takes its place once that is gone, however it went.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, it } from 'vitest'
import type { AgentIdentity } from '../../src/agent/index.ts'
import { agentVerifier } from '../../src/verifier/verifier.ts'
import { madeCredential } from '../agent/made-credential.ts'
import { createTiming } from '../agent/timing.ts'

const directories: string[] = []
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true })
})
const newDirectory = (): string => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-state-lock-'))
  directories.push(directory)
  return join(directory, 'state')
}

const identity = {
  current: () => madeCredential(1),
  onChange: () => () => {},
  fetch: (_: string, { signal }: { signal: AbortSignal }) =>
    new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
} as unknown as AgentIdentity
const open = (stateDirectory: string, maxStaleness = '5m') =>
  agentVerifier(
    { identity, onStale: 'refuse', maxStaleness, report: 'nothing', stateDirectory },
    { timing: createTiming() },
  )
const locksIn = (directory: string): readonly string[] =>
  readdirSync(directory).filter(name => name.startsWith('.verifier-'))

/** @returns once it holds the lock */
const otherProcess = async (directory: string) => {
  const program = `
    const { lockStateDirectory } = await import(${JSON.stringify(fileURLToPath(new URL('../../src/verifier/state-lock.ts', import.meta.url)))})
    await lockStateDirectory(${JSON.stringify(directory)})
    console.log('held')
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  return child
}

it('a second process is refused with the first one’s id and the cure, and takes its place once that was killed', async () => {
  const directory = newDirectory()
  const child = await otherProcess(directory)
  try {
    await expect(open(directory)).rejects.toMatchObject({
      code: 'directory_in_use',
      message: expect.stringContaining(`process ${child.pid}`),
      hint: expect.stringContaining('a directory of its own'),
    })
  } finally {
    child.kill('SIGKILL')
    await once(child, 'close')
  }
  await using _ = await open(directory)
  expect(locksIn(directory)).toHaveLength(1)
}, 180_000)

it('two verifiers of one process are two all the same, and a place is free when its verifier is disposed of or was never made', async () => {
  const directory = newDirectory()
  {
    await using _ = await open(directory)
    await expect(open(directory)).rejects.toMatchObject({ code: 'directory_in_use' })
  }
  await expect(open(directory, 'never')).rejects.toMatchObject({ code: 'option_invalid' })
  expect(locksIn(directory)).toEqual([])
  await using _ = await open(directory)
}, 180_000)
