// `agentca serve`: the server in the foreground. One JSON line on stdout when it is ready, everything else on stderr; SIGTERM drains,
// SIGHUP reads the profiles and the monitor's rules again and keeps the old ones when they have a fault.
import { resolve } from 'node:path'
import { Command } from 'commander'
import { systemClock } from '../base/clock.ts'
import { noSteps } from '../base/steps.ts'
import { forbidCoreDumps } from '../server/core-dumps.ts'
import { ServerError } from '../server/errors.ts'
import { isInitialised } from '../server/init.ts'
import { type RunningServer, startServer } from '../server/serve.ts'
import { createLog } from '../telemetry/log.ts'
import { createMetrics } from '../telemetry/metrics.ts'
import { loadConfig } from './config-file.ts'
import { homeOf } from './home.ts'
import type { CommandIo } from './io.ts'
import { readVersion } from './version.ts'

const graceMs = 10_000

/** Resolves when the server was asked to end and has ended. */
const untilSignalled = (server: RunningServer, reload: () => void): Promise<void> =>
  new Promise((resolve, reject) => {
    const end = (): void => {
      process.off('SIGHUP', reload)
      server.close(graceMs).then(resolve, reject)
    }
    process.once('SIGTERM', end)
    process.once('SIGINT', end)
    process.on('SIGHUP', reload)
  })

interface ServeOptions {
  readonly home?: string
  readonly config?: string
  readonly profiles?: string
  readonly workers?: string
}

export const serveCommand = (io: CommandIo): Command =>
  new Command('serve')
    .description('run the CA: API, status, ops and admin listeners')
    .option('--home <dir>', 'AGENTCA_HOME')
    .option('--config <file>', 'configuration (default: AGENTCA_CONFIG, else ca-config/agentca.yaml)')
    .option('--profiles <dir>', "profiles (default: the configuration's)")
    .option('--workers <number>', "front processes, or auto (default: the configuration's)")
    .action(async (options: ServeOptions) => {
      const paths = homeOf(io, options.home)
      const flags = options.workers === undefined ? {} : { workers: options.workers }
      const { config, profiles, monitor, attestors } = loadConfig(io, options.config, flags)
      if (!isInitialised(paths))
        throw new ServerError('not_initialised', `there is no CA in ${paths.home}`, { hint: 'agentca init' })
      const log = createLog({ level: config.log.level, destination: 2 })
      forbidCoreDumps(log)
      const server = await startServer({
        config,
        paths,
        profilesDirectory: options.profiles === undefined ? profiles : resolve(io.cwd, options.profiles),
        monitorFile: monitor,
        attestorsDirectory: attestors,
        clock: systemClock,
        log,
        metrics: createMetrics(),
        reached: noSteps,
        version: readVersion(),
      })
      io.out(`${JSON.stringify(server.line)}\n`)
      const reload = (): void => {
        server
          .reload()
          .catch(error => log.error({ err: error }, 'nothing reloaded: profiles and rules stay as they were'))
      }
      await untilSignalled(server, reload)
    })
