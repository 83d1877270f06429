// RFC 5424 messages and RFC 5425 frames. Pure.
import type { OutgoingEvent } from './sink.ts'

/** RFC 5424 §6.2.1: log audit. */
const facility = 13
/** By OCSF's severity, informational to critical: informational, notice, warning, error, critical (RFC 5424, table 2). */
const severityCodes = [6, 5, 4, 3, 2]

const printable = (text: string, max: number): string => text.replace(/[^!-~]/g, '').slice(0, max) || '-'

export interface SyslogOrigin {
  readonly hostname: string
  readonly processId: number
}

/** The document is ASCII: MSG-ANY needs no byte order mark. The sequenceId (§7.3.1) is the event's place in the log. */
export const syslogMessage = (event: OutgoingEvent, { hostname, processId }: SyslogOrigin): string => {
  const priority = facility * 8 + (severityCodes[event.severityId - 1] ?? 6)
  const header = `<${priority}>1 ${event.time} ${printable(hostname, 255)} agentca ${processId} ${printable(event.kind, 32)}`
  return `${header} [meta sequenceId="${(event.sequence % 2_147_483_647) + 1}"] ${event.json}`
}

/** RFC 5425 §4.3: MSG-LEN SP SYSLOG-MSG, the length in octets. */
export const syslogFrame = (message: string): string => `${Buffer.byteLength(message, 'latin1')} ${message}`
