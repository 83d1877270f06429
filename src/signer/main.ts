// Entry point of the signer process: node src/signer/main.ts --config FILE [--exit-with-stdin]. Says on stdout, in JSON lines, that it
// listens; logs to stderr. Whoever starts it sets UV_THREADPOOL_SIZE (sessions + 4), because C_Sign runs on that pool.
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { systemClock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log, LogFields } from '../base/log.ts'
import { parseSignerConfig } from './config.ts'
import { exitConfig, exitRestart, runSignerProcess, type SignerProcess } from './process.ts'

const stderrLog = (bound: LogFields): Log => {
  const line = (level: string) => (fields: LogFields, message: string) => {
    process.stderr.write(
      `${JSON.stringify({ level, time: new Date().toISOString(), ...bound, ...fields, msg: message })}\n`,
    )
  }
  return {
    debug: () => {},
    info: line('info'),
    warn: line('warn'),
    error: line('error'),
    child: fields => stderrLog({ ...bound, ...fields }),
  }
}

const say = (value: object): void => {
  process.stdout.write(`${JSON.stringify(value)}\n`)
}

const main = async (): Promise<void> => {
  // A core that was killed reads nothing more: saying so in vain must not keep its signer from writing its counts and ending in order.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  const log = stderrLog({ process: 'signer' })
  const { values } = parseArgs({
    options: { config: { type: 'string' }, 'exit-with-stdin': { type: 'boolean', default: false } },
  })
  if (values.config === undefined) throw new Error('usage: main.ts --config FILE')
  const config = parseSignerConfig(readFileSync(values.config, 'utf8'))
  let running: SignerProcess | null = null
  let ending = false
  const end = async (code: number, reason: string): Promise<void> => {
    if (ending) return
    ending = true
    log.info({ reason, code }, 'the signer ends')
    // An orderly end would write counts over those of the signer that followed, and remove its socket.
    if (running?.isReplaced()) process.kill(process.pid, 'SIGKILL')
    // A module that hangs in its own exit handlers must not keep the process.
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), 5000).unref()
    await running?.close().catch(error => log.error({ reason: messageOf(error) }, 'closing failed'))
    process.exit(code)
  }
  process.on('SIGTERM', () => void end(0, 'SIGTERM'))
  process.on('SIGINT', () => void end(0, 'SIGINT'))
  process.on('SIGHUP', () => {})
  if (values['exit-with-stdin']) {
    process.stdin
      .on('end', () => void end(0, 'the parent is gone'))
      .on('error', () => void end(0, 'the parent is gone'))
    process.stdin.resume()
  }
  running = await runSignerProcess(config, {
    clock: systemClock,
    log,
    onRestart: reason => {
      say({ signer: 'failed', detail: reason })
      void end(exitRestart, reason)
    },
  })
  if (ending) return
  const { state, detail } = running.service.health()
  say({ signer: state, detail, socket: config.socket, pid: process.pid })
}

main().catch(error => {
  say({ signer: 'failed', detail: messageOf(error) })
  process.stderr.write(`${JSON.stringify({ level: 'error', process: 'signer', msg: messageOf(error) })}\n`)
  process.exit(exitConfig)
})
