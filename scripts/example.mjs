// `npm run example -- NAME`: sets the machine up, then runs one of the examples against the CA of this checkout (scripts/examples/main.ts).
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { bootstrapOrExit, pinnedNode, root } from './bootstrap.mjs'

const env = bootstrapOrExit('run')
const child = spawn(pinnedNode, [join(root, 'scripts/examples/main.ts'), ...process.argv.slice(2)], {
  env,
  stdio: 'inherit',
})
// The terminal sends Ctrl-C to both; the child ends what it started first.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => child.kill('SIGTERM'))
child.once('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 1)))
