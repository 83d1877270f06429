// A start that fails late, when the signer's process runs already.
import { execFile } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { root as checkout } from '../../scripts/bootstrap.mjs'
import { createStoryHome, type StoryHome } from './ca-process.ts'

let home: StoryHome
beforeAll(async () => {
  home = await createStoryHome()
})
afterAll(() => home?.remove())

test('a server that cannot publish says why and ends, with its signer', async () => {
  const { paths, env } = home
  const directory = join(paths.status, 'crl')
  rmSync(directory, { recursive: true })
  writeFileSync(directory, 'a file where the lists belong')
  const program = join(checkout, 'bin/agentca')
  const served = await new Promise(resolve => {
    // A start that does not end is ended, and has no exit code then.
    const options = { cwd: paths.home, env, encoding: 'utf8', timeout: 90_000 } as const
    execFile(program, ['serve'], options, (error, out, err) => resolve({ code: error?.code ?? 0, out, err }))
  })
  expect(served).toMatchObject({ code: 2, out: '', err: expect.stringContaining(directory) })
})
