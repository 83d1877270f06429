// `npm run torture [-- --minutes N --kills N --seed N]`: sets the machine up, then plays the crash story for that long (scripts/torture/main.ts).
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { bootstrapOrExit, pinnedNode, root } from './bootstrap.mjs'

const env = bootstrapOrExit('run')
const child = spawn(pinnedNode, [join(root, 'scripts/torture/main.ts'), ...process.argv.slice(2)], {
  env,
  stdio: 'inherit',
})
// The terminal sends Ctrl-C to both; the child sums up what it has played and ends what it started first.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => child.kill('SIGTERM'))
child.once('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 1)))
