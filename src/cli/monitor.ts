// `agentca monitor …`: the rules over what agents do, what they found, and whether a file of them would be taken.

import { Command } from 'commander'
import { printable } from '../base/printable.ts'
import { SchemaError } from '../schema/errors.ts'
import { parseMonitor } from '../schema/monitor.ts'
import type { FindingAnswer, MonitorStatusAnswer, RuleAnswer } from '../schema/monitor-answers.ts'
import { countArgument } from './arguments.ts'
import { readInputText } from './files.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { members, type OutputOptions, type View, withOutput, writeFields, writeJson, writeRows } from './output.ts'
import { spanText } from './span.ts'

const ruleView: View<Omit<RuleAnswer, 'cooldownSeconds'>> = {
  columns: [
    ...members<Omit<RuleAnswer, 'cooldownSeconds'>>('name', 'when', 'action', 'on', 'dryRun', 'agents', 'except'),
    { name: 'settings', value: row => JSON.stringify(row.settings) },
  ],
  name: row => row.name,
}

const findingView: View<FindingAnswer> = {
  columns: members<FindingAnswer>('at', 'rule', 'when', 'agent', 'instance', 'outcome', 'cure'),
  name: row => row.id,
}

const writeStatus = (io: CommandIo, status: MonitorStatusAnswer): void => {
  const { rulesFile, rules, dry, brake, agents, instances, dropped, unwritten } = status
  const { acted, allowed, windowSeconds, brakedAt } = brake
  writeFields(io, [
    ['rules', rulesFile === null ? 'none: there is no monitor.yaml' : `${rules} in ${rulesFile}, ${dry} of them dry`],
    ['brake', `${acted} of ${allowed} agents held or revoked by rules within ${spanText(windowSeconds * 1000)}`],
    ...(brakedAt === null ? [] : [['braked', `since ${brakedAt} (agentca monitor release-brake)`] as const]),
    ['in memory', `${agents} agents, ${instances} instances`],
    ['not told', `${dropped} decisions dropped by verifiers, ${unwritten} findings not in the audit log`],
  ])
}

const statusCommand = (io: CommandIo): Command =>
  online(
    io,
    new Command('status').description('rules, brake and record on one screen'),
    async ({ client, format }) => {
      const status = await client.call('monitorStatus')
      if (format === 'json') writeJson(io, status)
      else writeStatus(io, status)
      if (status.brake.brakedAt === null) return
      io.setExitCode(10)
      io.err(
        'the brake stopped what rules would have done: agentca monitor findings, then agentca monitor release-brake\n',
      )
    },
    ['table', 'json'],
  )

const rulesCommand = (io: CommandIo): Command =>
  online(io, new Command('rules').description('the rules in force'), async ({ client, format }) =>
    writeRows(io, format, (await client.call('monitorRules')).items, ruleView),
  )

const findingsCommand = (io: CommandIo): Command =>
  online<{ readonly agent?: string; readonly limit: number }>(
    io,
    new Command('findings')
      .description('what rules found and did, newest first; -o json has the evidence')
      .option('--agent <name>', 'of one agent')
      .option('-n, --limit <count>', 'at most so many', countArgument, 20),
    async ({ client, options: { agent, limit }, format }) => {
      const query = { limit, ...(agent === undefined ? {} : { agent }) }
      writeRows(io, format, (await client.call('monitorFindings', { query })).items, findingView)
    },
  )

const releaseBrakeCommand = (io: CommandIo): Command =>
  online<{ readonly why?: string; readonly dryRun?: boolean }>(
    io,
    new Command('release-brake')
      .description('let rules act on another share of the fleet: after looking at what they did')
      .option('--why <text>', 'for the audit log')
      .option('--dry-run', 'show how it stands, change nothing'),
    async ({ client, options: { why, dryRun = false }, format }) => {
      const body = { dryRun, ...(why === undefined ? {} : { why }) }
      const status = await client.call('monitorReleaseBrake', { body })
      if (format === 'json') writeJson(io, status)
      else writeStatus(io, status)
    },
    ['table', 'json'],
  )

const testCommand = (io: CommandIo): Command => {
  const command = withOutput(new Command('test'))
    .description('whether a file of rules would be taken, with every fault, and what it says; needs no server')
    .argument('<file>')
  return command.action((file: string) => {
    try {
      const { rules } = parseMonitor(readInputText(io, file), file)
      const rows = rules.map(({ name, when, action, on, dryRun, agents, except, cooldown: _, ...settings }) => {
        return { name, when, action, on, dryRun, agents, except, settings }
      })
      writeRows(io, command.opts<OutputOptions>().output, rows, ruleView)
    } catch (error) {
      if (!(error instanceof SchemaError)) throw error
      for (const { path, problem } of error.faults)
        io.err(`${file}: ${printable(path === '' ? problem : `${path}: ${problem}`)}\n`)
      io.setExitCode(2)
    }
  })
}

export const monitorCommand = (io: CommandIo): Command =>
  new Command('monitor')
    .description('rules over what agents do, and what they found')
    .addCommand(statusCommand(io))
    .addCommand(rulesCommand(io))
    .addCommand(findingsCommand(io))
    .addCommand(releaseBrakeCommand(io))
    .addCommand(testCommand(io))
