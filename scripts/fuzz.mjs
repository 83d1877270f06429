// `npm run fuzz [-- TARGET… --seconds N --seed N --keep]`: sets the machine up, then fuzzes (scripts/fuzz/main.ts).
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { bootstrapOrExit, pinnedNode, root } from './bootstrap.mjs'

const env = bootstrapOrExit('run')
const result = spawnSync(pinnedNode, [join(root, 'scripts/fuzz/main.ts'), ...process.argv.slice(2)], {
  env,
  stdio: 'inherit',
})
process.exit(result.status ?? 1)
