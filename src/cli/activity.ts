// `agentca activity AGENT`: what an agent did, by what the services that it called reported.
import { Command } from 'commander'
import type { UseAnswer } from '../schema/monitor-answers.ts'
import { secondsArgument } from './arguments.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { members, type View, writeJson, writeRows } from './output.ts'
import { spanText } from './span.ts'

const daySeconds = 86_400

const view = (now: number): View<UseAnswer> => ({
  columns: [
    ...members<UseAnswer>('service', 'action', 'resourceClass', 'allowed', 'denied'),
    { name: 'last', value: row => `${spanText(now - Date.parse(row.last))} ago` },
  ],
  name: row => `${row.service} ${row.action}`,
})

export const activityCommand = (io: CommandIo): Command =>
  online<{ readonly since: number }, [string]>(
    io,
    new Command('activity')
      .description('what an agent did, and what it was denied, newest first')
      .argument('<agent>')
      .option(
        '--since <duration>',
        'how far back: whole hours for two days, whole days before',
        secondsArgument,
        daySeconds,
      ),
    async ({ client, options, format }, name) => {
      const now = Date.now()
      const since = new Date(now - options.since * 1000).toISOString()
      const activity = await client.call('activityShow', { params: { name }, query: { since } })
      if (format === 'json') writeJson(io, activity)
      else writeRows(io, format, activity.uses, view(now))
      if (activity.uses.length === 0)
        io.err(`no service reported a call of ${name} within ${spanText(options.since * 1000)}\n`)
    },
  )
