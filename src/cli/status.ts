// `agentca status`: one screen.
import { Command } from 'commander'
import type { StatusAnswer } from '../schema/admin-answers.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { cellText, paint, writeFields, writeJson, writeTable } from './output.ts'
import { spanText } from './span.ts'

const counts = (row: Readonly<Record<string, number>>): string =>
  Object.entries(row)
    .map(([name, count]) => `${count} ${name}`)
    .join(', ')

/** Red at the point where doctor fails, yellow where a rotation wants planning. */
const daysText = (io: CommandIo, kind: 'root' | 'issuing', days: number): string => {
  const [failing, warning] = kind === 'root' ? [182, 365] : [30, 60]
  return days < failing
    ? paint(io, 'red', String(days))
    : days < warning
      ? paint(io, 'yellow', String(days))
      : String(days)
}

const issuerRows = (io: CommandIo, { issuers }: StatusAnswer, now: number): readonly (readonly string[])[] =>
  issuers.map(({ name, kind, state, daysLeft, crl }) => [
    name,
    kind,
    state,
    daysText(io, kind, daysLeft),
    ...(crl === null
      ? ['-', '-', '-', '-']
      : [
          cellText(crl.number),
          cellText(crl.entries),
          spanText(now - Date.parse(crl.thisUpdate)),
          spanText(Date.parse(crl.nextUpdate) - now),
        ]),
  ])

const policiesText = (io: CommandIo, { active, unfinished }: StatusAnswer['policies']): string => {
  const inForce = active === null ? 'none in force' : `version ${active}`
  return unfinished === null
    ? inForce
    : `${inForce}; ${paint(io, 'yellow', `version ${unfinished} is coming into force`)} (agentca policy list)`
}

const writeScreen = (io: CommandIo, status: StatusAnswer, now: number): void => {
  const { certificates, registrations, signer, audit, clock, feed, policies, recovered, attestors, rates } = status
  writeFields(io, [
    ['agentca', `${status.version}, ${status.mode}, up ${spanText(now - Date.parse(status.startedAt))}`],
    ['trust domain', status.trustDomain],
    ['ca id', status.caId],
    ['api', status.urls.api],
    ['status', status.urls.status],
  ])
  io.out('\n')
  writeTable(io, ['ca', 'kind', 'state', 'days left', 'crl', 'entries', 'age', 'left'], issuerRows(io, status, now))
  io.out('\n')
  writeFields(io, [
    ['certificates', counts(certificates)],
    ['agents', counts(registrations.agent)],
    ['services', counts(registrations.service)],
    ['operators', counts(registrations.operator)],
    [
      'last minute',
      `${rates.issuedPerMinute} issued, ${rates.refusedPerMinute} refused, ${rates.revokedPerMinute} revoked`,
    ],
    ['signer', `${signer.state}: ${signer.detail}, ${signer.restarts} restarts`],
    ['clock', clock.state === 'ok' ? 'ok' : `${clock.state}: ${clock.detail} (agentca clock accept)`],
    [
      'audit',
      audit.checkpoint === null
        ? `${audit.size} leaves, no checkpoint yet`
        : `${audit.size} leaves, ${audit.checkpoint.size} signed ${spanText(now - Date.parse(audit.checkpoint.at))} ago`,
    ],
    ['feed', `${feed.epoch}.${feed.n}`],
    ['policies', policiesText(io, policies)],
    ...attestors.map(({ name, state }) => ['attestor', `${name}: ${state}`] as const),
    ...recovered.map(
      ({ operator, at }) =>
        ['recovered', `${operator}, let in on the machine ${spanText(now - Date.parse(at))} ago`] as const,
    ),
  ])
}

export const statusCommand = (io: CommandIo): Command =>
  online(
    io,
    new Command('status').description('the CA on one screen'),
    async ({ client, format }) => {
      const status = await client.call('status')
      if (format === 'json') writeJson(io, status)
      else writeScreen(io, status, Date.now())
    },
    ['table', 'json'],
  )
