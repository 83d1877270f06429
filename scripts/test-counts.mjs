// What runs of the test runner come to, from its JSON reports. Pure.
import { relative, sep } from 'node:path'

/** Whose tests start processes and wait for them: on a machine that stalls, one of them may fail for a reason that is not ours. */
const folders = ['test/story/', 'test/compat/', 'test/cli/', 'test/setup/']

const isFailed = ({ status, assertionResults }) =>
  status === 'failed' || assertionResults.some(each => each.status === 'failed')

/**
 * The files that get a second try, alone. None where any other file failed: the run has failed anyway.
 * @param report of the first run; null: it broke
 */
export const secondTryOf = (report, root) => {
  const failed = (report?.testResults ?? [])
    .filter(isFailed)
    .map(({ name }) => relative(root, name).split(sep).join('/'))
  return failed.every(name => folders.some(folder => name.startsWith(folder))) ? failed : []
}

const namesOf = (results, status) =>
  results.flatMap(({ name, assertionResults }) =>
    assertionResults.filter(each => each.status === status).map(({ fullName }) => `${name}: ${fullName}`),
  )

/**
 * @param reports of one run or two, the second of the files that got a second try; null: it broke
 * @returns {{passed: number, failed: number, skipped: number, unsteady: string[]}} `unsteady`: failed, and passed on the second try
 */
export const countTests = ([first, second]) => {
  if (first == null) return { passed: 0, failed: 1, skipped: 0, unsteady: [] }
  const again = second?.testResults ?? []
  const isAgain = ({ name }) => again.some(each => each.name === name)
  const results = [...first.testResults.filter(each => !isAgain(each)), ...again]
  const count = status => namesOf(results, status).length
  const broken = results.filter(
    each => each.status === 'failed' && !each.assertionResults.some(({ status }) => status === 'failed'),
  ).length
  const passed = count('passed')
  const failed = count('failed') + broken
  const passedNow = new Set(namesOf(again, 'passed'))
  return {
    passed,
    // A run without a test proves nothing, and an error outside of any test is one as well.
    failed: failed === 0 && (passed === 0 || !(second ?? first).ok) ? 1 : failed,
    skipped: ['pending', 'skipped', 'todo', 'disabled'].reduce((sum, status) => sum + count(status), 0),
    unsteady: namesOf(first.testResults.filter(isAgain), 'failed').filter(name => passedNow.has(name)),
  }
}
