// Every variable that any part reads is known: a server must not refuse to start because a command's variable is set beside it.
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'
import { configPaths } from '../../src/schema/config.ts'
import { environmentNames, unknownVariables } from '../../src/schema/environment.ts'

it('knows every variable that the sources read', () => {
  const files = globSync(['src/**/*.ts', 'scripts/**/*.{ts,mjs}', 'bin/*'], { cwd: root })
  const read = files.flatMap(file =>
    [...readFileSync(join(root, file), 'utf8').matchAll(/\benv(?:\.|\[')(AGENTCA_[A-Z_]+)/g)].map(match => match[1]!),
  )
  expect(read).toContain('AGENTCA_CONFIG')
  const known = new Set(configPaths.flatMap(path => environmentNames(path.split('.'))))
  expect(unknownVariables(Object.fromEntries(read.map(name => [name, 'x'])), known)).toEqual([])
})
