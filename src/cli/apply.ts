// `agentca apply`: owners, agents, services and policies as files say, for pipelines. Shows the difference, then makes it; what it leaves
// out stays, and only what belongs to the same set is ever retired, when that is asked for.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Command } from 'commander'
import { isAgentCaError } from '../base/errors.ts'
import type { RadiusAnswer } from '../schema/admin-answers.ts'
import { type Declared, type DeclaredFault, faultsBetween, readDeclared } from '../schema/apply.ts'
import { planOf } from './apply-plan.ts'
import type { PlannedStep, Step } from './apply-step.ts'
import { listArgument } from './arguments.ts'
import { type ConfirmationOptions, confirmRadius, describeRadius, withConfirmation } from './confirmation.ts'
import { CliError } from './errors.ts'
import { unreadable } from './files.ts'
import type { CommandIo } from './io.ts'
import { online, type Session } from './online.ts'
import { members, type View, writeJson, writeRows } from './output.ts'

interface ApplyOptions extends ConfirmationOptions {
  readonly file: readonly string[]
  readonly set?: string
  readonly prune?: true
  readonly takeOver?: true
  readonly why?: string
}

const filesOf = (io: CommandIo, named: readonly string[]): readonly string[] =>
  named.flatMap(name => {
    try {
      const path = resolve(io.cwd, name)
      if (!statSync(path).isDirectory()) return [name]
      return readdirSync(path)
        .filter(file => /\.ya?ml$/.test(file) && !file.startsWith('.'))
        .sort()
        .map(file => join(name, file))
    } catch (error) {
      throw unreadable(name, error)
    }
  })

const textOf = (io: CommandIo, file: string): string => {
  try {
    return readFileSync(resolve(io.cwd, file), 'utf8')
  } catch (error) {
    throw unreadable(file, error)
  }
}

const refuse = (io: CommandIo, faults: readonly DeclaredFault[]): void => {
  if (faults.length === 0) return
  const inOrder = faults.toSorted((a, b) => (a.file === b.file ? a.line - b.line : 0))
  for (const { file, line, path, problem } of inOrder)
    io.err(`${file}:${line}: ${path === '' ? '' : `${path}: `}${problem}\n`)
  throw new CliError('usage', `${faults.length} ${faults.length === 1 ? 'fault' : 'faults'}, nothing was done`, {
    hint: 'correct the files; agentca apply --dry-run shows what they would do',
  })
}

/** @throws CliError `usage` with every fault told, `file_unreadable` */
const readAll = (io: CommandIo, named: readonly string[]): readonly Declared[] => {
  const files = filesOf(io, named)
  const read = files.map(file => readDeclared(textOf(io, file), file))
  const declared = read.flatMap(each => each.declared)
  refuse(io, [...read.flatMap(({ faults }) => faults), ...faultsBetween(declared)])
  if (declared.length === 0)
    throw new CliError('usage', `no documents in ${named.join(', ')}`, { hint: 'docs/apply.md' })
  return declared
}

const shown = (value: unknown): string => {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return text === '' || text === '[]' || text === '{}' || text === 'null' ? '-' : text
}

const planView: View<PlannedStep> = {
  columns: [
    ...members<PlannedStep>('action', 'kind', 'name'),
    {
      name: 'difference',
      value: ({ changes, radius }) =>
        radius === null
          ? changes.map(({ member, from, to }) => `${member}: ${shown(from)} → ${shown(to)}`).join('; ')
          : describeRadius(radius),
    },
  ],
  name: row => `${row.kind}/${row.name}`,
}

const sumOf = (steps: readonly Step[]): RadiusAnswer => {
  const radii = steps.flatMap(({ planned }) => (planned.radius === null ? [] : [planned.radius]))
  const sum = (member: 'instances' | 'certificates' | 'intents' | 'tokens' | 'subscriptions'): number =>
    radii.reduce((total, radius) => total + radius[member], 0)
  return {
    registrations: radii.flatMap(({ registrations }) => registrations),
    instances: sum('instances'),
    certificates: sum('certificates'),
    intents: sum('intents'),
    tokens: sum('tokens'),
    subscriptions: sum('subscriptions'),
    serials: radii.flatMap(({ serials }) => serials),
  }
}

const commandOf = ({ file, set }: ApplyOptions): string =>
  `agentca apply ${file.map(each => `-f ${each}`).join(' ')} --set ${set} --prune`

/** Retirement is for good: its blast radius is told first, and the count confirmed. */
const confirmPruning = async (io: CommandIo, steps: readonly Step[], options: ApplyOptions): Promise<void> => {
  const retiring = steps.filter(({ planned }) => planned.action === 'retire')
  if (retiring.length === 0) return
  const radius = sumOf(retiring)
  io.err(`pruning retires ${retiring.length}, for good, and ends ${describeRadius(radius)}\n`)
  const change = `retire ${retiring.map(({ planned }) => `${planned.kind} ${planned.name}`).join(', ')}`
  await confirmRadius(io, { change, command: commandOf(options), radius }, options)
}

interface Outcome {
  readonly applied: readonly PlannedStep[]
  readonly failed: PlannedStep | null
}

/** One after the other, to the first that fails. */
const carryOut = async ({ io, format }: Session<ApplyOptions>, steps: readonly Step[]): Promise<void> => {
  const applied: PlannedStep[] = []
  const write = (outcome: Outcome): void => {
    if (format === 'json') writeJson(io, outcome)
    else writeRows(io, format, outcome.applied, planView)
  }
  for (const { planned, run } of steps)
    try {
      await run?.()
      applied.push(planned)
    } catch (error) {
      if (!isAgentCaError(error) || applied.length === 0) throw error
      write({ applied, failed: planned })
      io.err(`${planned.kind} ${planned.name}: ${error.message}\n`)
      io.err(`${applied.length} of ${steps.length} were applied; what is left is in the plan of the next apply\n`)
      io.setExitCode(8)
      return
    }
  write({ applied, failed: null })
  io.err(`${applied.length} applied\n`)
}

export const applyCommand = (io: CommandIo): Command =>
  online<ApplyOptions>(
    io,
    withConfirmation(
      new Command('apply')
        .description('register owners, agents, services and policies as files say; --dry-run shows the difference')
        .requiredOption(
          '-f, --file <file>',
          'YAML with one or several documents, or a directory; repeated',
          listArgument,
        )
        .option('--set <name>', 'the set that all of it belongs to, for --prune')
        .option(
          '--prune',
          'retire what belongs to the set and is in none of the files, and remove owners of it whom nothing is registered to',
        )
        .option('--take-over', 'also what belongs to another set')
        .option('--why <text>', 'for the audit log'),
    ),
    async session => {
      const { client, options, format } = session
      if (options.prune === true && options.set === undefined)
        throw new CliError('usage', '--prune needs --set', { hint: 'only what belongs to a set is ever retired' })
      const declared = readAll(io, options.file)
      const { steps, faults } = await planOf(
        {
          ...{ io, client },
          options: {
            set: options.set ?? null,
            prune: options.prune === true,
            takeOver: options.takeOver === true,
            why: options.why,
          },
        },
        declared,
      )
      refuse(io, faults)
      const changing = steps.filter(({ run }) => run !== null)
      const kept = steps.length - changing.length
      if (options.dryRun === true) {
        if (format === 'json') writeJson(io, { steps: steps.map(({ planned }) => planned) })
        else
          writeRows(
            io,
            format,
            changing.map(({ planned }) => planned),
            planView,
          )
        io.err(`dry run, nothing was changed: ${changing.length} to do, ${kept} as declared\n`)
        return
      }
      if (changing.length === 0) {
        if (format === 'json') writeJson(io, { applied: [], failed: null })
        io.err(`nothing to do: ${kept} as declared\n`)
        return
      }
      await confirmPruning(io, changing, options)
      await carryOut(session, changing)
    },
    ['table', 'json', 'jsonl', 'name'],
  )
