// `npm test`: sets the machine up, then types, lint and every test; closes with `N passed, N failed`. `--fast` leaves out the
// stories that start real processes. Any other argument is handed to the test runner (a path, a name).
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bootstrapOrExit, root } from './bootstrap.mjs'

const args = process.argv.slice(2)
const fast = args.includes('--fast')
const rest = args.filter(arg => arg !== '--fast')
const env = { ...bootstrapOrExit('test'), ...(fast ? { AGENTCA_TESTS: 'fast' } : {}) }
const scratch = mkdtempSync(join(tmpdir(), 'agentca-test-'))

const run = (name, command, commandArgs) => {
  process.stdout.write(`\n== ${name}\n`)
  return spawnSync(command, commandArgs, { cwd: root, env, stdio: ['ignore', 'inherit', 'inherit'] }).status === 0
}

let passed = 0
let failed = 0
let skipped = 0
try {
  for (const [name, command, commandArgs] of [
    ['types', 'tsc', ['-p', '.']],
    ['lint', 'biome', ['check', '--error-on-warnings', '.']],
  ]) {
    if (run(name, command, commandArgs)) passed++
    else failed++
  }
  const report = join(scratch, 'report.json')
  const ok = run('tests', 'vitest', [
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    ...rest,
  ])
  let counts = { numPassedTests: 0, numFailedTests: 0, numPendingTests: 0, numTotalTests: 0 }
  try {
    counts = JSON.parse(readFileSync(report, 'utf8'))
  } catch {
    // No report: the runner itself broke; counted as a failure below.
  }
  passed += counts.numPassedTests
  failed += counts.numFailedTests
  skipped += counts.numPendingTests + (counts.numTodoTests ?? 0)
  // A suite that could not be loaded fails the run without a failed test; a run without a test proves nothing.
  if ((!ok && counts.numFailedTests === 0) || counts.numTotalTests === 0) failed++
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
// The count is the last line and nothing else is on it: programs read it.
if (skipped > 0) process.stdout.write(`\n${skipped} skipped\n`)
process.stdout.write(`\n${passed} passed, ${failed} failed\n`)
process.exit(failed === 0 ? 0 : 1)
