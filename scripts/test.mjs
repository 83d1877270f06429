// `npm test`: sets the machine up, then types, lint and every test; closes with `N passed, N failed`. `--fast` leaves out the
// stories that start real processes. Those among them that fail are tried once more, alone, and named. Any other argument is handed to the test runner (a path, a name).
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bootstrapOrExit, root } from './bootstrap.mjs'
import { countTests, secondTryOf } from './test-counts.mjs'

const args = process.argv.slice(2)
const fast = args.includes('--fast')
const rest = args.filter(arg => arg !== '--fast')
const env = { ...bootstrapOrExit('test'), ...(fast ? { AGENTCA_TESTS: 'fast' } : {}) }
const scratch = mkdtempSync(join(tmpdir(), 'agentca-test-'))

const run = (name, command, commandArgs) => {
  process.stdout.write(`\n== ${name}\n`)
  return spawnSync(command, commandArgs, { cwd: root, env, stdio: ['ignore', 'inherit', 'inherit'] }).status === 0
}

/** @returns its JSON report; null where the runner itself broke */
const runTests = (name, vitestArgs) => {
  const report = join(scratch, `${name}.json`)
  const ok = run(name, 'vitest', [
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    ...vitestArgs,
  ])
  try {
    return { ok, ...JSON.parse(readFileSync(report, 'utf8')) }
  } catch {
    return null
  }
}

let passed = 0
let failed = 0
let skipped = 0
const unsteady = []
try {
  for (const [name, command, commandArgs] of [
    ['types', 'tsc', ['-p', '.']],
    ['lint', 'biome', ['check', '--error-on-warnings', '.']],
  ]) {
    if (run(name, command, commandArgs)) passed++
    else failed++
  }
  const first = runTests('tests', rest)
  const again = secondTryOf(first, root)
  const counts = countTests(again.length === 0 ? [first] : [first, runTests('tests that failed, alone', again)])
  passed += counts.passed
  failed += counts.failed
  skipped += counts.skipped
  unsteady.push(...counts.unsteady)
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
for (const name of unsteady) process.stdout.write(`\npassed on a second try only: ${name}\n`)
// The count is the last line and nothing else is on it: programs read it.
if (skipped > 0) process.stdout.write(`\n${skipped} skipped\n`)
process.stdout.write(`\n${passed} passed, ${failed} failed\n`)
process.exit(failed === 0 ? 0 : 1)
