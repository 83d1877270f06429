// The sinks of one CA, each fed for itself: what the configuration asks for, how far each has got, and a proof that they work.
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Metrics } from '../base/metrics.ts'
import type { EventCursorsPort } from '../store/event-cursors-port.ts'
import type { AuditPort } from '../store/ports.ts'
import type { Leaf, LeafDraft } from '../store/records.ts'
import { eventOf, severities } from './event.ts'
import { createJsonlSink } from './jsonl-sink.ts'
import { ocsfOf } from './ocsf.ts'
import { createPump, type Pace, type Pump, type PumpStatus } from './pump.ts'
import { asciiJson, type OutgoingEvent, type Sink } from './sink.ts'
import { createSyslogSink, type SyslogSinkOptions } from './syslog-sink.ts'
import { createWebhookSink } from './webhook-sink.ts'

export interface EventsConfig {
  readonly shape: 'agentca' | 'ocsf'
  /** Kinds that go out; null: all but `except`. */
  readonly only: ReadonlySet<string> | null
  readonly except: ReadonlySet<string>
  readonly jsonl: { readonly file: string } | null
  readonly syslog: SyslogSinkOptions | null
  readonly webhook: { readonly url: string; readonly secretFile: string; readonly caFile?: string | undefined } | null
}

export interface EventsDeps {
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly caId: string
  readonly audit: Pick<AuditPort, 'append' | 'head' | 'read'>
  readonly cursors: EventCursorsPort
  readonly random: () => number
  readonly pace?: Partial<Pace>
}

export interface Delivery {
  readonly sink: Sink['name']
  readonly delivered: boolean
  readonly error: string | null
}

export interface Events {
  status(): readonly PumpStatus[]
  /** Appends this leaf and waits until every sink has it. */
  test(leaf: LeafDraft, waitMs: number): Promise<readonly Delivery[]>
  reopen(): void
  close(): Promise<void>
}

const sinksOf = (config: EventsConfig, clock: Clock): readonly Sink[] => [
  ...(config.jsonl === null ? [] : [createJsonlSink(config.jsonl.file)]),
  ...(config.syslog === null ? [] : [createSyslogSink(config.syslog)]),
  ...(config.webhook === null ? [] : [createWebhookSink({ ...config.webhook, now: clock.now })]),
]

const encoder =
  (config: EventsConfig, caId: string) =>
  (leaf: Leaf): OutgoingEvent | null => {
    if (config.only === null ? config.except.has(leaf.event) : !config.only.has(leaf.event)) return null
    const event = eventOf(leaf, caId)
    const { id, kind, sequence, severity, time } = event
    const json = asciiJson(config.shape === 'ocsf' ? ocsfOf(event) : event)
    return { id, kind, sequence, severityId: severities.indexOf(severity) + 1, time, json }
  }

export const createEvents = (deps: EventsDeps, config: EventsConfig): Events => {
  const { clock, log, audit, cursors, random, pace, metrics } = deps
  const encode = encoder(config, deps.caId)
  const pumps: readonly Pump[] = sinksOf(config, clock).map(sink =>
    createPump({ clock, log, audit, cursors, sink, encode, random, ...(pace === undefined ? {} : { pace }) }),
  )
  const status = (): readonly PumpStatus[] => pumps.map(pump => pump.status())
  metrics.gauge('agentca_events_behind', () =>
    status().map(({ sink, behind }) => ({ value: behind, labels: { sink } })),
  )
  metrics.gauge('agentca_events_dead', () => status().map(({ sink, dead }) => ({ value: dead, labels: { sink } })))
  let closing: Promise<void> | null = null
  return {
    status,
    test: async (leaf, waitMs) => {
      const { size } = await audit.append([leaf])
      return Promise.all(
        pumps.map(async pump => {
          const delivered = await pump.reached(size, waitMs)
          const { sink, error } = pump.status()
          return { sink, delivered, error: delivered ? null : (error ?? 'not delivered yet') }
        }),
      )
    },
    reopen: () => {
      for (const pump of pumps) pump.reopen()
    },
    close: () => {
      closing ??= Promise.all(pumps.map(pump => pump.close())).then(() => {})
      return closing
    },
  }
}
