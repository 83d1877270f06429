// Entry point of a front: node src/front/main.ts, started by the core. One line of JSON on standard input says where the core is and by
// which secret it knows this process; the end of that input is the end of the core, and of this process. Logs to stderr, in JSON lines.
import { createInterface } from 'node:readline'
import { systemClock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log, LogFields } from '../base/log.ts'
import type { CorePlace } from './core-channel.ts'
import { type Front, startFront } from './front.ts'

/** As long as `agentca serve` waits for answers when it is asked to end. */
const graceMs = 10_000
/** sysexits' EX_TEMPFAIL: a new process may do better. */
const exitRestart = 75

const stderrLog = (bound: LogFields): Log => {
  const line = (level: string) => (fields: LogFields, message: string) => {
    process.stderr.write(
      `${JSON.stringify({ level, time: new Date().toISOString(), ...bound, ...fields, msg: message })}\n`,
    )
  }
  const log = { debug: () => {}, info: line('info'), warn: line('warn'), error: line('error') }
  return { ...log, child: fields => stderrLog({ ...bound, ...fields }) }
}

const readPlace = (line: string): CorePlace => {
  const { socket, secret } = JSON.parse(line) as Partial<CorePlace>
  if (typeof socket !== 'string' || typeof secret !== 'string')
    throw new Error('expected the socket and the secret of a core')
  return { socket, secret }
}

const main = (): void => {
  // A core that was killed reads nothing more: saying so in vain must not keep its fronts.
  process.stderr.on('error', () => {})
  const log = stderrLog({ process: 'front' })
  let front: Front | null = null
  // A caller's broken connection is no reason to keep the port from the next core's fronts.
  const gone = (): void => process.exit(exitRestart)
  const drain = (): void => (front === null ? process.exit(0) : front.drain(graceMs))
  process
    .on('SIGTERM', drain)
    .on('SIGINT', drain)
    .on('SIGHUP', () => {})
  const input = createInterface({ input: process.stdin })
  input.once('close', gone)
  process.stdin.on('error', gone)
  input.once('line', line => {
    front = startFront({
      place: readPlace(line),
      clock: systemClock,
      log,
      onEnd: (reason, orderly) => {
        log.info({ reason }, 'the front ends')
        process.exit(orderly ? 0 : exitRestart)
      },
    })
  })
}

try {
  main()
} catch (error) {
  process.stderr.write(`${JSON.stringify({ level: 'error', process: 'front', msg: messageOf(error) })}\n`)
  process.exit(exitRestart)
}
