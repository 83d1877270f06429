// The transcript by itself: there from the first moment, never overwritten, and honest about where a ceremony ended.
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  renderTranscript,
  type TranscriptHeader,
  type TranscriptRecord,
  withTranscript,
} from '../../src/server/ceremony/transcript.ts'
import { code } from './ceremony-bench.ts'

let directory: string
let file: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-transcript-'))
  file = join(directory, 'sub', 'root.txt')
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const header: TranscriptHeader = {
  ceremony: 'root',
  name: 'root-1',
  mode: 'perform',
  input: { source: 'root.yaml', text: 'ceremony: root\nname: root-1\n' },
  environment: { host: 'vault' },
}
const deps = () => ({ clock: { now: () => 1_800_000_000_000 }, file })
const record = (): TranscriptRecord => JSON.parse(readFileSync(`${file}.json`, 'utf8'))

describe('a transcript', () => {
  test('is on disk before the first step, as text and as JSON', async () => {
    await withTranscript(deps(), header, async () => {
      expect(record()).toMatchObject({ outcome: 'running', steps: [] })
      expect(readFileSync(file, 'utf8')).toContain('Outcome: running')
      expect(statSync(file).mode & 0o777).toBe(0o600)
    })
    expect(record().outcome).toBe('done')
  })

  test('shows facts of every shape as people read them', async () => {
    const { record: last } = await withTranscript(deps(), header, async transcript => {
      await transcript.step('look', () => ({
        facts: {
          short: 1,
          'longer name': 'x',
          lines: 'a\nb\n',
          list: [{ serial: '0a', at: 'now' }],
          none: [],
          inner: { deep: true },
        },
        value: 0,
      }))
      transcript.plan('sign', { key: 'root-1' })
    })
    const text = renderTranscript(last)
    expect(text).toBe(readFileSync(file, 'utf8'))
    expect(text).toContain(
      [
        '1. look (done, 2027-01-15T08:00:00.000Z)',
        '   short        1',
        '   longer name  x',
        '   lines:',
        '     a',
        '     b',
        '   list:',
        '     - serial 0a, at now',
        '   none: none',
        '   inner:',
        '     deep  true',
        '',
        '2. sign (planned, 2027-01-15T08:00:00.000Z)',
      ].join('\n'),
    )
    expect(text).toContain('  | ceremony: root\n  | name: root-1\n')
  })

  test('a failed step is in it with its message, and so is a failure between two steps', async () => {
    const fails = withTranscript(deps(), header, transcript =>
      transcript.step('sign', () => {
        throw new Error('the token is gone')
      }),
    )
    await expect(fails).rejects.toThrow('the token is gone')
    expect(record()).toMatchObject({
      outcome: 'failed',
      steps: [{ title: 'sign', result: 'failed', facts: { message: 'the token is gone' } }],
    })
    file = join(directory, 'second.txt')
    const between = withTranscript(deps(), header, async transcript => {
      await transcript.step('look', () => ({ facts: {}, value: 0 }))
      throw new Error('elsewhere')
    })
    await expect(between).rejects.toThrow('elsewhere')
    expect(record().steps.map(step => step.result)).toEqual(['done', 'failed'])
  })

  test('is never overwritten: neither the text nor the JSON', async () => {
    await withTranscript(deps(), header, async () => {})
    await expect(withTranscript(deps(), header, async () => {})).rejects.toThrow(code('transcript_exists'))
    rmSync(file)
    await expect(withTranscript(deps(), header, async () => {})).rejects.toThrow(code('transcript_exists'))
    expect(() => statSync(file)).toThrow(code('ENOENT'))
  })

  test('a process that is killed in a step leaves every step before it, and "running"', async () => {
    const script = join(directory, 'killed.ts')
    const module = new URL('../../src/server/ceremony/transcript.ts', import.meta.url).href
    writeFileSync(
      script,
      `import { withTranscript } from ${JSON.stringify(module)}
       await withTranscript({ clock: { now: () => Date.now() }, file: ${JSON.stringify(file)} }, ${JSON.stringify(header)}, async t => {
         await t.step('open the token', () => ({ facts: {}, value: 0 }))
         await t.step('sign', () => { process.kill(process.pid, 'SIGKILL'); return { facts: {}, value: 0 } })
       })`,
    )
    const child = spawn(process.execPath, [script], { stdio: 'ignore' })
    const signal = await new Promise(resolve => child.on('exit', (_, name) => resolve(name)))
    expect(signal).toBe('SIGKILL')
    expect(record()).toMatchObject({ outcome: 'running', steps: [{ title: 'open the token', result: 'done' }] })
    expect(execFileSync('tail', ['-n', '1', file], { encoding: 'utf8' })).toBe('Outcome: running\n')
  })
})
