// `agentca events …`: what leaves this CA as events, and whether it arrives.
import { Command } from 'commander'
import type { EventDeliveryAnswer, EventSinkAnswer } from '../schema/event-answers.ts'
import { secondsArgument } from './arguments.ts'
import { withDryRun } from './confirmation.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { members, type View, writeRows } from './output.ts'

const sinkView: View<EventSinkAnswer> = {
  columns: members<EventSinkAnswer>('sink', 'state', 'behind', 'dead', 'deliveredAt', 'target', 'error'),
  name: row => row.sink,
}

const deliveryView = (dryRun: boolean): View<EventDeliveryAnswer> => ({
  columns: [
    ...members<EventDeliveryAnswer>('sink'),
    { name: 'outcome', value: row => (dryRun ? 'would be asked' : row.delivered ? 'delivered' : 'not delivered') },
    ...members<EventDeliveryAnswer>('error'),
  ],
  name: row => row.sink,
})

const none = 'no sink is configured: events.jsonl.file, events.syslog.address or events.webhook.url (docs/events.md)\n'

const statusCommand = (io: CommandIo): Command =>
  online(io, new Command('status').description('how far each sink of events has got'), async ({ client, format }) => {
    const { items } = await client.call('eventsStatus')
    writeRows(io, format, items, sinkView)
    if (items.length === 0) io.err(none)
    if (items.some(({ state }) => state === 'retrying')) io.setExitCode(10)
  })

const testCommand = (io: CommandIo): Command =>
  online<{ readonly wait: number; readonly dryRun?: true }>(
    io,
    withDryRun(
      new Command('test')
        .description('send one event to every sink, and wait until each has it')
        .option('--wait <duration>', 'how long to wait, up to 60s', secondsArgument, 10),
    ),
    async ({ client, options, format }) => {
      const waitMs = Math.min(60, options.wait) * 1000
      const { items, dryRun } = await client.call('eventsTest', { body: { waitMs, dryRun: options.dryRun } })
      writeRows(io, format, items, deliveryView(dryRun))
      if (items.length === 0) io.err(none)
      if (dryRun) io.err('dry run, nothing was sent\n')
      else if (items.some(({ delivered }) => !delivered)) {
        io.setExitCode(8)
        io.err('recorded, and delivered when the sink answers again\n  hint: agentca events status\n')
      }
    },
  )

export const eventsCommand = (io: CommandIo): Command =>
  new Command('events')
    .description('events to other systems: JSON lines, syslog, webhooks')
    .addCommand(statusCommand(io))
    .addCommand(testCommand(io))
