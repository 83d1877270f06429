// No core dumps of a process that holds keys and tokens in its memory, and of none that it starts. Node cannot set a limit of its own
// process; util-linux's prlimit can, for a process of the same user.
import { execFileSync } from 'node:child_process'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'

/** One octet, and not none: a kernel that pipes dumps to a program does so whatever the limit is, unless it is 1 (core(5), fs/coredump.c). */
const limit = '--core=1:1'

/** Where it cannot be done the server goes on, and says so. */
export const forbidCoreDumps = (log: Log): void => {
  try {
    execFileSync('prlimit', ['--pid', String(process.pid), limit], { stdio: ['ignore', 'ignore', 'pipe'] })
  } catch (error) {
    log.warn({ reason: messageOf(error) }, 'core dumps are not off: install util-linux, or start with LimitCORE=1')
  }
}
