// What the suite has, without running it: vitest collects every test and runs none of them, for none has this name, and each `compat`
// writes down what it declares. (`vitest list` reads files without running them, and finds only tests that are written out.)
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root } from '../../scripts/bootstrap.mjs'
import { type CheckResult, readResults } from './page.ts'

export const declaredChecks = (): readonly CheckResult[] => {
  const folder = mkdtempSync(join(tmpdir(), 'agentca-compat-'))
  try {
    const env: NodeJS.ProcessEnv = { ...process.env, COMPAT_RESULTS: folder }
    // This may be a test itself: a runner in a runner must not take itself for its worker.
    for (const name of Object.keys(env))
      if (/^VITEST|^VITE_|^NODE_OPTIONS$|^AGENTCA_TESTS$/.test(name)) delete env[name]
    const vitest = join(root, 'node_modules/vitest/vitest.mjs')
    execFileSync(process.execPath, [vitest, 'run', 'test/compat/', '--testNamePattern', '^no test has this name$'], {
      cwd: root,
      env,
      stdio: ['ignore', 'ignore', 'pipe'],
      maxBuffer: 1 << 26,
    })
    return readResults(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
