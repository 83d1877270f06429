// The CA as `agentca serve` composes it, in a process that its parent can ambush: when a numbered step is reached for the n-th time, or
// after a while, SIGKILL ends the core, its signer or both, because a thrown exception is not a crash. Talks to the parent over the IPC channel; an
// ambush during the start itself comes in the environment.
import { flushCompileCache } from 'node:module'
import { systemClock } from '../../src/base/clock.ts'
import type { Step } from '../../src/base/steps.ts'
import { loadConfig } from '../../src/cli/config-file.ts'
import { homeOf } from '../../src/cli/home.ts'
import { createReconciler } from '../../src/server/reconcile.ts'
import { type ReadyLine, type RunningServer, startServer } from '../../src/server/serve.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'

export type Ambush = { readonly kill: 'core' | 'signer' | 'both' } & (
  | { readonly step: Step; readonly nth: number }
  /** From when it is armed, whatever goes on then. */
  | { readonly afterMs: number }
)

/** What this process is asked: to lie in ambush, or to hold the signer's count of signatures against the ledger now. */
export type Asked = Ambush | 'reconcile'

/** What it tells. After `sprung` the core lives on: only its signer was killed. `reconciled`: keys whose counts do not fit. */
export type Told =
  | ReadyLine
  | { readonly armed: Ambush }
  | { readonly sprung: Ambush }
  | { readonly reconciled: readonly string[] }

const tell = (told: Told): void => {
  process.send?.(told)
}

const around = { env: process.env, cwd: process.cwd() }
const { config, profiles } = loadConfig(around, undefined)
const log = createLog({ level: config.log.level, destination: 2 })
const { STORY_AMBUSH: atStart } = process.env
let armed: Ambush | null = atStart === undefined ? null : (JSON.parse(atStart) as Ambush)
let times = 0
let server: RunningServer | null = null

const reached = (step: Step): void => {
  if (armed !== null && 'step' in armed && armed.step === step && ++times >= armed.nth) spring(armed)
}

const spring = (ambush: Ambush): void => {
  armed = null
  const signer = server?.core.supervisor.state().pid ?? null
  if (ambush.kill !== 'core' && signer !== null) process.kill(signer, 'SIGKILL')
  if (ambush.kill !== 'signer') process.kill(process.pid, 'SIGKILL')
  tell({ sprung: ambush })
}

const reconcile = async ({ core }: RunningServer): Promise<readonly string[]> => {
  const { issuance, audit, meta } = core.ledger
  return createReconciler({
    clock: systemClock,
    log,
    signer: core.signer,
    issuers: core.issuers,
    issuance,
    audit,
    meta,
  }).run()
}

process.on('message', (asked: Asked) => {
  if (asked !== 'reconcile') {
    armed = asked
    times = 0
    tell({ armed: asked })
    if ('afterMs' in asked) setTimeout(spring, asked.afterMs, asked)
  } else if (server !== null) void reconcile(server).then(reconciled => tell({ reconciled }))
})
// Its parent is gone: nobody is left to stop it.
process.once('disconnect', () => process.exit(1))

server = await startServer({
  config,
  paths: homeOf(around, undefined),
  profilesDirectory: profiles,
  clock: systemClock,
  log,
  metrics: createMetrics(),
  reached,
  version: 'crash-server',
})
process.once('SIGTERM', () => void server?.close(10_000).then(() => process.exit(0)))
tell(server.line)
// A process that is killed would never write it, and every start would compile everything again.
flushCompileCache()
