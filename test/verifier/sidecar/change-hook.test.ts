// The command after a change: one at a time, once for many changes, again until it succeeds, and ended with its sidecar.
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { silentLog } from '../../../src/base/log.ts'
import { createChangeHook } from '../../../src/verifier/sidecar/change-hook.ts'

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-hook-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const linesOf = (name: string): readonly string[] => {
  const path = join(directory, name)
  return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : []
}
const untilHolds = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await sleep(5)
}
/** No wait between attempts. */
const timing = { idle: async (_: number, signal: AbortSignal) => turn(undefined, { signal }) }

describe('the command after a change', () => {
  it('runs once for the changes that come while it runs, never beside itself', async () => {
    const script = `echo begin >> ${directory}/runs; sleep 0.1; echo end >> ${directory}/runs`
    await using hook = createChangeHook(['sh', '-c', script], timing, silentLog)
    hook.changed()
    await untilHolds(() => linesOf('runs').length === 1)
    for (let i = 0; i < 5; i++) hook.changed()
    await untilHolds(() => linesOf('runs').length === 4)
    hook.changed()
    await untilHolds(() => linesOf('runs').length === 6)
    expect(linesOf('runs')).toEqual(['begin', 'end', 'begin', 'end', 'begin', 'end'])
  })

  it('runs again until it succeeds, and says why it did not', async () => {
    const told: unknown[] = []
    const log = { ...silentLog, error: (fields: object) => void told.push(fields) }
    const script = `echo try >> ${directory}/tries; echo no reason >&2; test $(wc -l < ${directory}/tries) -ge 3`
    await using hook = createChangeHook(['sh', '-c', script], timing, log)
    hook.changed()
    await untilHolds(() => linesOf('tries').length === 3)
    expect(told).toEqual([
      expect.objectContaining({ reason: 'exit code 1: no reason' }),
      expect.objectContaining({ reason: 'exit code 1: no reason' }),
    ])
  })

  it('is ended with its sidecar, and a program that is not there is told', async () => {
    const told: unknown[] = []
    const log = { ...silentLog, error: (fields: object) => void told.push(fields) }
    const missing = createChangeHook(['agentca-no-such-program'], timing, log)
    missing.changed()
    await untilHolds(() => told.length > 0)
    await missing[Symbol.asyncDispose]()
    expect(told[0]).toMatchObject({ reason: expect.stringContaining('ENOENT') })
    const slow = createChangeHook(['sh', '-c', `echo $$ > ${directory}/pid; exec sleep 60`], timing, silentLog)
    slow.changed()
    await untilHolds(() => linesOf('pid').length === 1 && linesOf('pid')[0] !== '')
    await slow[Symbol.asyncDispose]()
    const pid = Number(linesOf('pid')[0])
    await untilHolds(() => {
      try {
        process.kill(pid, 0)
        return false
      } catch {
        return true
      }
    })
  })
})
