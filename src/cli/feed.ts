// `agentca feed …`
import { Command } from 'commander'
import type { FeedStatusAnswer, SubscriberAnswer } from '../schema/admin-answers.ts'
import { withDryRun } from './confirmation.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { members, type View, writeFields, writeJson, writeRows } from './output.ts'
import { spanText } from './span.ts'

const subscriberView = (now: number): View<SubscriberAnswer> => ({
  columns: [
    ...members<SubscriberAnswer>('subscriber', 'kind', 'state', 'lag', 'acked', 'sent'),
    { name: 'acked ago', value: row => (row.ackedAt === null ? null : spanText(now - Date.parse(row.ackedAt))) },
    ...members<SubscriberAnswer>('connectedAt', 'staleSince', 'coveredUntil'),
  ],
  name: row => row.subscriber,
})

const writeScreen = (io: CommandIo, status: FeedStatusAnswer): void => {
  const { epoch, n, oldest, heartbeatSeconds, leaseSeconds, subscribers } = status
  writeFields(io, [
    ['head', `${epoch}.${n}`],
    ['kept from', oldest],
    ['heartbeat', `every ${heartbeatSeconds}s, good for ${leaseSeconds}s`],
    ['subscribers', subscribers.length],
  ])
  if (subscribers.length === 0) return
  io.out('\n')
  writeRows(io, 'table', subscribers, subscriberView(Date.now()))
}

const statusCommand = (io: CommandIo): Command =>
  online(
    io,
    new Command('status').description('who follows the feed of revocations, and how far each has got'),
    async ({ client, format }) => {
      const status = await client.call('feedStatus')
      if (format === 'json') writeJson(io, status)
      else if (format === 'table') writeScreen(io, status)
      else writeRows(io, format, status.subscribers, subscriberView(Date.now()))
      const stale = status.subscribers.filter(({ kind, state }) => kind === 'service' && state === 'stale')
      if (stale.length === 0) return
      io.setExitCode(10)
      io.err(`not connected: ${stale.map(({ subscriber }) => subscriber).join(', ')}\n`)
    },
  )

const newEpochCommand = (io: CommandIo): Command =>
  online<{ readonly why?: string; readonly dryRun?: true }>(
    io,
    withDryRun(
      new Command('new-epoch')
        .description('after an older ledger was put back: every verifier gets the whole state anew')
        .option('--why <text>', 'for the audit log'),
    ),
    async ({ client, options: { why, dryRun = false }, format }) => {
      const body = why === undefined ? { dryRun } : { why, dryRun }
      const answer = await client.call('feedNewEpoch', { body })
      if (format === 'json') writeJson(io, answer)
      else
        writeFields(io, [
          ['feed', `${answer.epoch}.${answer.n}`],
          ['ended', answer.from],
        ])
      if (dryRun) io.err('dry run, the epoch goes on\n')
    },
    ['table', 'json'],
  )

export const feedCommand = (io: CommandIo): Command =>
  new Command('feed')
    .description('the feed of revocations to verifiers')
    .addCommand(statusCommand(io))
    .addCommand(newEpochCommand(io))
