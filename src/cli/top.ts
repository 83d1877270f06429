// `agentca top`: who calls how often, now. On a terminal the picture is drawn again and again; elsewhere it is drawn once.
import { setTimeout as delay } from 'node:timers/promises'
import { Command } from 'commander'
import type { AgentRateAnswer, RatesAnswer, StrangerAnswer, TopAnswer } from '../schema/monitor-answers.ts'
import { countArgument, secondsArgument } from './arguments.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { type Column, members, type View, writeFields, writeJson, writeRows } from './output.ts'
import { spanText } from './span.ts'

const rateColumns = <T extends RatesAnswer>(): readonly Column<T>[] => [
  { name: 'per minute', value: row => row.perMinute },
  { name: 'denied', value: row => row.deniedPerMinute },
  { name: 'per second', value: row => row.perSecond },
]

const agentView: View<AgentRateAnswer> = {
  columns: [
    ...members<AgentRateAnswer>('agent'),
    ...rateColumns<AgentRateAnswer>(),
    ...members<AgentRateAnswer>('instances', 'services'),
  ],
  name: row => row.agent,
}

type ServiceRow = TopAnswer['services'][number]
const serviceView: View<ServiceRow> = {
  columns: [...members<ServiceRow>('service'), ...rateColumns<ServiceRow>()],
  name: row => row.service,
}

const strangerView = (now: number): View<StrangerAnswer> => ({
  columns: [
    { name: 'no identity, from', value: row => row.source },
    ...members<StrangerAnswer>('calls', 'service'),
    { name: 'last', value: row => `${spanText(now - Date.parse(row.last))} ago` },
  ],
  name: row => row.source,
})

const writeScreen = (io: CommandIo, top: TopAnswer): void => {
  const { perMinute, deniedPerMinute, perSecond } = top.total
  writeFields(io, [
    ['at', top.at],
    ['calls', `${perMinute} in the last minute, ${deniedPerMinute} denied, ${perSecond} a second`],
  ])
  const part = (draw: () => void): void => {
    io.out('\n')
    draw()
  }
  if (top.agents.length > 0) part(() => writeRows(io, 'table', top.agents, agentView))
  if (top.services.length > 0) part(() => writeRows(io, 'table', top.services, serviceView))
  if (top.strangers.length > 0) part(() => writeRows(io, 'table', top.strangers, strangerView(Date.parse(top.at))))
}

/** Home, and everything below it away. */
const clearScreen = '\x1b[H\x1b[J'

interface TopOptions {
  readonly once?: boolean
  readonly every: number
  readonly limit: number
}

export const topCommand = (io: CommandIo): Command =>
  online<TopOptions>(
    io,
    new Command('top')
      .description('live rates of agents and services')
      .option('--once', 'draw it once; so it is where there is no terminal')
      .option('--every <duration>', 'how often it is drawn again', secondsArgument, 2)
      .option('--limit <count>', 'at most so many rows of each kind', countArgument, 20),
    async ({ client, options, format }) => {
      const draw = async (): Promise<void> => {
        const top = await client.call('activityTop', { query: { limit: options.limit } })
        if (options.once !== true && io.isTerminal && format === 'table') io.out(clearScreen)
        if (format === 'table') writeScreen(io, top)
        else if (format === 'name') writeRows(io, format, top.agents, agentView)
        else writeJson(io, top, format === 'jsonl' ? 'jsonl' : 'json')
      }
      await draw()
      if (options.once === true || !io.isTerminal) return
      for (;;) {
        await delay(options.every * 1000)
        await draw()
      }
    },
  )
