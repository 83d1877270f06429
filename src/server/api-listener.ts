// The API's listener: in this process, or in fronts before it.
import type { RequestListener } from 'node:http'
import { availableParallelism } from 'node:os'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Metrics } from '../base/metrics.ts'
import { createFronts, type Fronts } from '../front/fronts.ts'
import type { LimitRates } from '../http/limits.ts'
import { type Credentials, createTlsServer, type TlsServer } from '../http/tls-server.ts'
import type { Config } from '../schema/config.ts'

export interface ApiListenerOptions {
  readonly workers: Config['workers']
  /** Path of the socket on which fronts are heard. */
  readonly socket: string
  readonly credentials: Credentials
  readonly handler: RequestListener
  readonly rates: LimitRates
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
}

export type ApiListener = Pick<TlsServer, 'listen' | 'close' | 'setCredentials'>

/** One core of the machine is left to the core process. */
const frontsFor = (workers: Config['workers']): number =>
  workers === 'auto' ? Math.max(1, availableParallelism() - 1) : workers

const registerGauges = (fronts: Fronts, metrics: Metrics): void => {
  const sum = (of: (report: ReturnType<Fronts['reports']>[number]) => number): number =>
    fronts.reports().reduce((total, report) => total + of(report), 0)
  metrics.gauge('agentca_fronts_listening', () => [{ value: sum(({ listening }) => (listening ? 1 : 0)) }])
  metrics.gauge('agentca_front_starts', () => [{ value: sum(({ starts }) => starts) }])
  metrics.gauge('agentca_front_connections', () => [{ value: sum(({ connections }) => connections) }])
  metrics.gauge('agentca_front_memory_bytes', () => [{ value: sum(({ rssBytes }) => rssBytes) }])
}

export const createApiListener = (options: ApiListenerOptions): ApiListener => {
  const { workers, metrics, ...common } = options
  const count = frontsFor(workers)
  if (count === 0) return createTlsServer({ credentials: common.credentials, handler: common.handler })
  const fronts = createFronts({ ...common, log: common.log.child({ part: 'fronts' }), count })
  registerGauges(fronts, metrics)
  return fronts
}
