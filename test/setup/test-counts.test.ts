import { describe, expect, test } from 'vitest'
import { countTests, secondTryOf } from '../../scripts/test-counts.mjs'

const file = (name: string, ...statuses: readonly string[]) => ({
  name: `/house/${name}`,
  status: statuses.includes('failed') ? 'failed' : 'passed',
  assertionResults: statuses.map((status, n) => ({ status, fullName: `test ${n}` })),
})
const report = (...testResults: readonly ReturnType<typeof file>[]) => ({
  ok: testResults.every(({ status }) => status === 'passed'),
  testResults,
})
const broken = { ...file('test/story/a.test.ts'), status: 'failed' }

describe('a second try', () => {
  test('is for files whose tests start processes', () => {
    const first = report(file('test/story/a.test.ts', 'failed', 'passed'), file('test/pki/b.test.ts', 'passed'))
    expect(secondTryOf(first, '/house')).toEqual(['test/story/a.test.ts'])
    expect(secondTryOf(report(broken), '/house')).toEqual(['test/story/a.test.ts'])
  })

  test('is not given where any other test failed, nothing failed, or the runner broke', () => {
    const first = report(file('test/story/a.test.ts', 'failed'), file('test/pki/b.test.ts', 'failed'))
    expect(secondTryOf(first, '/house')).toEqual([])
    expect(secondTryOf(report(file('test/story/a.test.ts', 'passed')), '/house')).toEqual([])
    expect(secondTryOf(null, '/house')).toEqual([])
  })
})

describe('the count', () => {
  test('is of one run', () => {
    const first = report(file('test/pki/b.test.ts', 'passed', 'passed', 'skipped'), file('test/ca/c.test.ts', 'failed'))
    expect(countTests([first])).toEqual({ passed: 2, failed: 1, skipped: 1, unsteady: [] })
  })

  test('takes the second run of a file for its first, and names what passed only then', () => {
    const first = report(
      file('test/story/a.test.ts', 'failed', 'failed', 'passed'),
      file('test/ca/c.test.ts', 'passed'),
    )
    const second = report(file('test/story/a.test.ts', 'passed', 'failed', 'passed'))
    expect(countTests([first, second])).toEqual({
      passed: 3,
      failed: 1,
      skipped: 0,
      unsteady: ['/house/test/story/a.test.ts: test 0'],
    })
  })

  test('has a failure for a file that could not be loaded, for a runner that broke, and for no test at all', () => {
    expect(countTests([report(broken, file('test/ca/c.test.ts', 'passed'))]).failed).toBe(1)
    expect(countTests([null]).failed).toBe(1)
    expect(countTests([report()]).failed).toBe(1)
    expect(countTests([{ ...report(file('test/ca/c.test.ts', 'passed')), ok: false }]).failed).toBe(1)
    expect(countTests([report(broken), null]).failed).toBe(1)
  })
})
