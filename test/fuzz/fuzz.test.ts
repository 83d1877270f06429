// The coverage-guided loop of `npm run fuzz`, for a few seconds over all targets, and the differential against OpenSSL and Go. The seed is
// always the same here: new paths are for the long run, which leaves what it finds in test/fuzz/corpus, where parsers.test.ts fails on it.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { disagreements, reasons } from '../../scripts/fuzz/differential.ts'
import { instrumented } from '../../scripts/fuzz/instrument.ts'
import { parseFuzzOptions } from '../../scripts/fuzz/options.ts'

const root = join(import.meta.dirname, '../..')

describe('the loop', () => {
  it('finds nothing in twelve seconds', { timeout: 600_000 }, () => {
    const { stdout, stderr, status } = spawnSync(
      process.execPath,
      ['scripts/fuzz/main.ts', '--total', '12', '--seed', '1'],
      {
        cwd: root,
        encoding: 'utf8',
        maxBuffer: 2 ** 26,
      },
    )
    expect([status, stdout.match(/^.*(?:FOUND|REFUSED).*$/gm), stderr]).toEqual([0, null, expect.any(String)])
    expect(stdout).toMatch(/fuzz: seed \d+, \d+ targets, \d+ inputs, 0 findings\n$/)
  })

  it('counts functions, branches, loops and right-hand sides, and leaves the rest as it was', () => {
    const source =
      'const f = (a) => (a && a.b ? { c: 1 } : [2])\nif (f) f(0)\nelse for (const x of [1]) f(x)\nswitch (1) { case 1: f({ b: 1 }) }\n'
    const { code, count } = instrumented(source, 5)
    expect(count).toBe(8)
    const counters = new Uint32Array(20)
    Object.assign(globalThis, { __agentcaRan: counters })
    new Function(code)()
    expect([...counters.slice(0, 5), ...counters.slice(13)].every(each => each === 0)).toBe(true)
    expect(counters.slice(5, 13).filter(each => each > 0)).toHaveLength(6)
    expect(code.split('\n')).toHaveLength(source.split('\n').length)
  })
})

describe('the differential', () => {
  it('names what others refuse', ({ skip }) => {
    const { tried, found } = disagreements('certificate', [new Uint8Array(Buffer.from('3003020101', 'hex'))])
    skip(tried.includes('not installed'), tried)
    expect(found.map(({ by }) => by)).toEqual(['OpenSSL', 'Go'])
  })

  it('has a reason of some words for each disagreement', () => {
    for (const { reason, pattern } of reasons)
      expect([reason.length > 20, new RegExp(pattern).test('')]).toEqual([true, false])
  })
})

describe('the arguments of npm run fuzz', () => {
  const parse = (...args: string[]) => parseFuzzOptions(args, { known: ['a', 'b'], newSeed: 7 })
  it('are targets, a time for each or for all, and a seed', () => {
    expect(parse()).toEqual({ names: [], secondsEach: 600, seed: 7, keep: false, list: false })
    expect(parse('--total', '10')).toMatchObject({ secondsEach: 5 })
    expect(parse('a', '--seconds=3', '--seed', '9', '--keep')).toMatchObject({
      names: ['a'],
      secondsEach: 3,
      seed: 9,
      keep: true,
    })
  })

  it.each([
    [['c'], 'c is no target: --list shows them'],
    [['--seconds'], '--seconds wants a number'],
    [['--seconds', '1', '--total', '1'], 'expected --seconds or --total, got both'],
  ])('%s are refused with a reason', (args, reason) => {
    expect(parse(...args)).toBe(reason)
  })
})
