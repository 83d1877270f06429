// A story's CA inside the test, composed as `agentca serve` composes it, with clocks that the story moves: hours pass without waiting.
import { dirname } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { noSteps } from '../../src/base/steps.ts'
import { loadConfig } from '../../src/cli/config-file.ts'
import { type RunningServer, startServer } from '../../src/server/serve.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import type { StoryHome } from './ca-process.ts'

export interface StoryTime {
  /** What both clocks of the CA are ahead of the machine's. Only forwards: a clock that goes back stops the CA from signing. */
  aheadMs: number
}

/** The machine's wall clock, also where `Date` is another one. */
export const machineNow = (): number => Math.floor(performance.timeOrigin + performance.now())

export const serveHere = (
  home: StoryHome,
  time: StoryTime,
  attestorsDirectory: string | null = null,
): Promise<RunningServer> => {
  const { config, profiles } = loadConfig({ env: home.env, cwd: dirname(home.paths.home) }, undefined)
  return startServer({
    config,
    paths: home.paths,
    profilesDirectory: profiles,
    attestorsDirectory,
    clock: {
      now: () => machineNow() + time.aheadMs,
      monotonic: () => systemClock.monotonic() + time.aheadMs,
    },
    log: createLog({ level: 'error', destination: 2 }),
    metrics: createMetrics(),
    reached: noSteps,
    version: 'story',
  })
}
