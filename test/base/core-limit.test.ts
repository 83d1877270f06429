// What a shell makes of the limit on core dumps that it inherits.
import { execFileSync, spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { withoutCoreDumps } from '../../src/base/core-limit.ts'

const hasPrlimit = spawnSync('prlimit', ['--version']).status === 0

test.skipIf(!hasPrlimit).each([
  ['1:1', '1 1'],
  ['0:0', '0 0'],
  ['11:11', '0 0'],
  ['4096:4096', '0 0'],
])('a limit of %s octets becomes one of %s (with prlimit)', (inherited, limit) => {
  const shell = ['sh', '-c', withoutCoreDumps, 'sh', 'cat', '/proc/self/limits']
  const limits = execFileSync('prlimit', [`--core=${inherited}`, ...shell], { encoding: 'utf8' })
  const [, soft, hard] = /^Max core file size +(\d+) +(\d+) /m.exec(limits) ?? []
  expect(`${soft} ${hard}`).toBe(limit)
})
