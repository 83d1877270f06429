// The events of a running core, from its configuration.
import { createEvents, type Events, type EventsConfig } from '../events/events.ts'
import type { Config } from '../schema/config.ts'
import type { Core, CoreOptions } from './core.ts'

const configOf = ({ shape, only, except, jsonl, syslog, webhook }: Config['events']): EventsConfig => ({
  shape,
  only: only === undefined ? null : new Set(only),
  except: new Set(except),
  jsonl: jsonl.file === undefined ? null : { file: jsonl.file },
  syslog:
    syslog.address === undefined || syslog.caFile === undefined
      ? null
      : {
          host: syslog.address.host,
          port: syslog.address.port,
          caFile: syslog.caFile,
          serverName: syslog.serverName,
          credentialFile: syslog.credentialFile,
        },
  webhook:
    webhook.url === undefined || webhook.secretFile === undefined
      ? null
      : { url: webhook.url, secretFile: webhook.secretFile, caFile: webhook.caFile },
})

export const createCoreEvents = (
  core: Core,
  options: Pick<CoreOptions, 'config' | 'clock' | 'log' | 'metrics'>,
): Events => {
  const { config, clock, log, metrics } = options
  const { ledger, caId } = core
  return createEvents(
    {
      clock,
      log: log.child({ part: 'events' }),
      metrics,
      caId,
      audit: ledger.audit,
      cursors: ledger.eventCursors,
      random: Math.random,
    },
    configOf(config.events),
  )
}
