// Benchmark figures: what is told is a ratio to a limit of the same run, under the names that others read.
import { execFileSync, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { changeOf, figureOf, lineOf, medianRun, readFigures } from '../../scripts/bench/figure.ts'

const main = join(import.meta.dirname, '../../scripts/bench/main.ts')

const runs = [
  { value: 500, limitValue: 200 },
  { value: 100, limitValue: 100 },
  { value: 900, limitValue: 100 },
]

describe('a figure', () => {
  it('is the run whose ratio is the median, so that ratio is value / limitValue', () => {
    const figure = figureOf('issue', { metric: 'cpuPerCertificate', unit: 'µs', limit: 'the cryptography', runs })
    expect(figure).toMatchObject({ value: 500, limitValue: 200, ratio: 2.5, runs: 3, min: 100, max: 900 })
  })

  it('takes the lower of the two middle runs of an even number', () => {
    expect(medianRun([...runs, { value: 400, limitValue: 100 }])).toEqual({ value: 500, limitValue: 200 })
  })

  it('needs a run', () => {
    expect(() => medianRun([])).toThrow(RangeError)
  })

  it('carries what readers of the JSON lines look for', () => {
    const figure = figureOf('ocsp', { metric: 'requestsPerSecond', unit: '/s', limit: 'bare node:http', runs })
    expect(Object.keys(figure)).toEqual(
      'bench metric value unit limit limitValue ratio runs min max cores node at'.split(' '),
    )
    expect(Date.parse(figure.at)).toBeGreaterThan(0)
    expect(figure.cores).toBeGreaterThan(0)
  })

  it('is one line for people, with its limit and its spread', () => {
    const line = lineOf(figureOf('issue', { metric: 'cpuPerCertificate', unit: 'µs', limit: 'the cryptography', runs }))
    expect(line).toBe(
      'issue/cpuPerCertificate              500 µs       = 2.50 × the cryptography (200); 3 runs, 100 to 900',
    )
  })
})

describe('a comparison', () => {
  const measured = { metric: 'cpuPerCertificate', unit: 'µs', limit: 'the cryptography' }
  const earlier = figureOf('issue', { ...measured, runs: [{ value: 500, limitValue: 200 }] })
  const figure = figureOf('issue', { ...measured, runs: [{ value: 440, limitValue: 220 }] })

  it('is of the ratio first, with the last figure of the file', () => {
    const lines = [figure, earlier].map(each => JSON.stringify(each)).join('\n')
    const found = readFigures(`${lines}\n`).get('issue/cpuPerCertificate')
    expect(changeOf(figure, found)).toBe(`ratio −20.0 %, value −12.0 % since ${earlier.at}`)
  })

  it('says on which machine the earlier run was, and nothing of what was not measured then', () => {
    expect(changeOf(figure, { ...earlier, cores: 64, node: 'v1.0.0' })).toMatch(/ \(64 cores, v1\.0\.0\)$/)
    expect(changeOf(figure, undefined)).toBe(null)
  })

  it('names the line that is no figure', () => {
    expect(() => readFigures(`${JSON.stringify(figure)}\n{"bench":"issue"}\n`)).toThrow(/line 2 is no figure/)
    const none = spawnSync(process.execPath, [main, 'issue', '--compare', main], { encoding: 'utf8' })
    expect([none.status, none.stdout]).toEqual([2, ''])
    expect(none.stderr).toMatch(/line 1 is no figure .*expected a file that --json wrote/)
  })
})

/** Names that programs outside this repository read. */
const contract = [
  'issue/cpuPerCertificate',
  'issue/certificatesPerSecond',
  'renew/renewalsPerSecond',
  'ledger/slowdown',
  'ledger/bytesPerCertificate',
  'start/readySeconds',
  'ocsp/requestsPerSecond',
  'crl/buildSeconds',
  'crl/requestsPerSecond',
]

describe('the benchmarks', () => {
  const listed = execFileSync(process.execPath, [main, '--list'], { encoding: 'utf8' }).trim().split('\n')

  it('are listed by their metrics, the contract’s among them', () => {
    expect(listed).toEqual(expect.arrayContaining(contract))
    expect(new Set(listed).size).toBe(listed.length)
  })

  it('refuse a name that is none', () => {
    const run = () => execFileSync(process.execPath, [main, 'isue'], { encoding: 'utf8', stdio: 'pipe' })
    expect(run).toThrow(/no benchmark is called isue/)
  })
})
