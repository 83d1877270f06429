// The CA as `agentca serve` composes it, in a process that its parent can ambush: when a numbered step is reached for the n-th time,
// SIGKILL ends the core, its signer or both, because a thrown exception is not a crash. Talks to the parent over the IPC channel.
import { flushCompileCache } from 'node:module'
import { systemClock } from '../../src/base/clock.ts'
import type { Step } from '../../src/base/steps.ts'
import { loadConfig } from '../../src/cli/config-file.ts'
import { homeOf } from '../../src/cli/home.ts'
import { type ReadyLine, type RunningServer, startServer } from '../../src/server/serve.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'

export interface Ambush {
  readonly step: Step
  readonly nth: number
  readonly kill: 'core' | 'signer' | 'both'
}

/** What this process tells its parent. After `sprung` the core lives on: only its signer was killed. */
export type Told = ReadyLine | { readonly armed: Ambush } | { readonly sprung: Ambush }

const tell = (told: Told): void => {
  process.send?.(told)
}

let armed: Ambush | null = null
let times = 0
let server: RunningServer | null = null

const reached = (step: Step): void => {
  if (armed === null || armed.step !== step || ++times < armed.nth) return
  const ambush = armed
  armed = null
  const signer = server?.core.supervisor.state().pid ?? null
  if (ambush.kill !== 'core' && signer !== null) process.kill(signer, 'SIGKILL')
  if (ambush.kill !== 'signer') process.kill(process.pid, 'SIGKILL')
  tell({ sprung: ambush })
}

process.on('message', (ambush: Ambush) => {
  armed = ambush
  times = 0
  tell({ armed: ambush })
})
// Its parent is gone: nobody is left to stop it.
process.once('disconnect', () => process.exit(1))

const around = { env: process.env, cwd: process.cwd() }
const { config, profiles } = loadConfig(around, undefined)
server = await startServer({
  config,
  paths: homeOf(around, undefined),
  profilesDirectory: profiles,
  clock: systemClock,
  log: createLog({ level: config.log.level, destination: 2 }),
  metrics: createMetrics(),
  reached,
  version: 'crash-server',
})
process.once('SIGTERM', () => void server?.close(10_000).then(() => process.exit(0)))
tell(server.line)
// A process that is killed would never write it, and every start would compile everything again.
flushCompileCache()
