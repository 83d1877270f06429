// `npm run package:client [-- DIR]`: sets the machine up, then packs what agents and backends need under the pinned runtime.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { bootstrapOrExit, pinnedNode, root } from './bootstrap.mjs'

const env = bootstrapOrExit('run')
const result = spawnSync(pinnedNode, [join(root, 'scripts/pack-client.ts'), ...process.argv.slice(2)], {
  env,
  stdio: 'inherit',
})
process.exit(result.status ?? 1)
