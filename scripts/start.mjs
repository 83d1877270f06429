// `npm start [-- --once | --no-demo]`: sets the machine up, then starts the CA and shows what it is for (scripts/demo/main.ts).
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { bootstrapOrExit, pinnedNode, root } from './bootstrap.mjs'

const env = bootstrapOrExit('run')
const child = spawn(pinnedNode, [join(root, 'scripts/demo/main.ts'), ...process.argv.slice(2)], {
  env,
  stdio: 'inherit',
})
// The terminal sends Ctrl-C to both; the child ends the CA first and says when it is done.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => child.kill('SIGTERM'))
child.once('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 1)))
