// `npm run test:compat [-- NAME…] [--write]`: the foreign programs of test/compat against a CA, all or those whose files have NAME in their
// path. With --write what they came to goes into docs/compatibility.md; of what did not run the page keeps what it said.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bootstrapOrExit, root } from './bootstrap.mjs'

const args = process.argv.slice(2)
const names = args.filter(arg => arg !== '--write')
const unknown = names.find(name => name.startsWith('-'))
if (unknown !== undefined) {
  process.stderr.write(`${unknown} is no option: npm run test:compat [-- NAME…] [--write]\n`)
  process.exit(2)
}
const env = bootstrapOrExit('test')
const scratch = mkdtempSync(join(tmpdir(), 'agentca-compat-'))
const run = (command, commandArgs) =>
  spawnSync(command, commandArgs, {
    cwd: root,
    env: { ...env, COMPAT_RESULTS: scratch },
    stdio: ['ignore', 'inherit', 'inherit'],
  }).status === 0

let ok = false
try {
  const paths = names.length === 0 ? ['test/compat/'] : names.map(name => `test/compat/${name}`)
  ok = run('vitest', ['run', ...paths])
  // What failed is not published: the page is what stands.
  ok = run('node', ['test/compat/write-page.ts', scratch, ...(ok && args.includes('--write') ? ['--write'] : [])]) && ok
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
process.exit(ok ? 0 : 1)
