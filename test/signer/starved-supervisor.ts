// A program that starts the supervisor when it has no file descriptors left, gives some back, and says what came of it. Its limit of
// open files is its parent's business.
import { closeSync, openSync } from 'node:fs'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { createSignerClient } from '../../src/signer/client.ts'
import { createSignerSupervisor } from '../../src/signer/supervisor.ts'
import { eventually } from './harness.ts'

const [socket = ''] = process.argv.slice(2)
const client = createSignerClient({ socket, clock: systemClock, log: silentLog })
const taken: number[] = []
try {
  for (;;) taken.push(openSync('/dev/null', 'r'))
} catch {
  // None left.
}
const supervisor = createSignerSupervisor({
  configFile: `${socket}.json`,
  sessions: 1,
  client,
  clock: systemClock,
  log: silentLog,
})
await eventually('no process', () => supervisor.state().detail.includes('EMFILE'))
for (const descriptor of taken) closeSync(descriptor)
// There is no configuration, which only a process can find out.
await eventually('a process', () => supervisor.state().detail.includes('ENOENT'))
await supervisor.close()
await client.close()
process.stdout.write('started again\n')
