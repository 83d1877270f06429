// `npm run build`: src/ compiled to JavaScript and declarations in dist/, as the package carries them. Sources need no build to run.
import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { bootstrapOrExit, root } from './bootstrap.mjs'

const env = bootstrapOrExit('run')
rmSync(join(root, 'dist'), { recursive: true, force: true })
const result = spawnSync('tsc', ['-p', 'tsconfig.build.json'], { cwd: root, env, stdio: 'inherit' })
process.exit(result.status ?? 1)
