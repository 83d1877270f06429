// `agentca orphans`: what nobody seems to need any more, why, and what to type about each; with --retire, the end of all that is listed.
import { Command, Option } from 'commander'
import { CaError } from '../ca/errors.ts'
import { orphanReasonNames } from '../schema/admin-api.ts'
import type { OrphanAnswer, OrphanEndAnswer, OrphanReasonName } from '../schema/orphan-answers.ts'
import { everyPage } from './admin-client.ts'
import { countArgument } from './arguments.ts'
import { CliError } from './errors.ts'
import type { CommandIo } from './io.ts'
import { online, type Session } from './online.ts'
import { members, type View, writeRows } from './output.ts'

const nameOf = (row: OrphanAnswer): string => (row.id === null ? row.name : row.id)

const dayOf = (time: string): string => time.slice(0, 10)

const orphanView: View<OrphanAnswer> = {
  columns: [
    ...members<OrphanAnswer>('what', 'name', 'id', 'state', 'owner'),
    {
      name: 'why',
      value: row =>
        row.reasons.map(({ reason, since }) =>
          `${reason} since ${dayOf(since)}`.replace('attestation_due since', 'attestation_due until'),
        ),
    },
    {
      name: 'next',
      value: ({ next, warnedAt }) =>
        next === null ? (warnedAt === null ? null : `warned ${dayOf(warnedAt)}`) : `${next.act} ${dayOf(next.at)}`,
    },
    {
      name: 'cure',
      value: row =>
        row.reasons
          .map(({ cure }) => cure)
          .filter((cure, at, all) => all.indexOf(cure) === at)
          .join('; '),
    },
  ],
  name: nameOf,
}

const endView: View<OrphanEndAnswer> = {
  columns: [
    ...members<OrphanEndAnswer>('what', 'name', 'id'),
    { name: 'why', value: row => row.reasons.map(({ reason }) => reason) },
    { name: 'outcome', value: row => row.problem ?? 'ended' },
  ],
  name: nameOf,
}

interface OrphansOptions {
  readonly reason?: readonly OrphanReasonName[]
  readonly retire?: true
  readonly why?: string
  readonly dryRun?: true
  readonly confirm?: number
}

const list = async ({ io, client, format, options }: Session<OrphansOptions>): Promise<void> => {
  const rows: OrphanAnswer[] = []
  const wanted = new Set<string>(options.reason ?? [])
  const only = wanted.size === 1 ? { reason: options.reason![0] } : {}
  for await (const page of everyPage(client, 'orphansList', { query: only }))
    rows.push(...page.filter(row => wanted.size === 0 || row.reasons.some(({ reason }) => wanted.has(reason))))
  writeRows(io, format, rows, orphanView)
  if (rows.length === 0) io.err('no orphans\n')
  else if (format === 'table') io.err('agentca orphans --retire --dry-run says what it would end\n')
}

const again = ({ reason = [] }: OrphansOptions): string =>
  ['agentca orphans --retire', ...reason.map(each => `--reason ${each}`)].join(' ')

const retire = async ({ io, client, format, options }: Session<OrphansOptions>): Promise<void> => {
  const { why } = options
  const reasons = options.reason === undefined ? undefined : [...options.reason]
  const end = (dryRun: boolean, expected?: number) =>
    client.call('orphansRetire', { body: { reasons, why, expected, dryRun } })
  const preview = await end(true)
  const count = preview.items.length
  const more = preview.more ? ', and more after them' : ''
  if (options.dryRun === true || count === 0) {
    writeRows(
      io,
      format,
      preview.items.map(row => ({ ...row, problem: row.problem ?? 'would be ended' })),
      endView,
    )
    io.err(
      count === 0
        ? 'no orphans, nothing was changed\n'
        : `dry run, nothing was changed: this ends ${count}${more}\n  next: ${again(options)} --confirm ${count}\n`,
    )
    return
  }
  if (options.confirm !== count)
    throw new CaError(
      'confirmation_needed',
      `this would end ${count} agents, instances and tokens${options.confirm === undefined ? '' : `, not ${options.confirm}`}`,
      { hint: `${again(options)} --dry-run shows them; then --confirm ${count}`, facts: { count } },
    )
  const { items } = await end(false, count)
  writeRows(io, format, items, endView)
  const failed = items.filter(({ problem }) => problem !== null)
  if (failed.length > 0) io.setExitCode(8)
  io.err(`ended ${items.length - failed.length} of ${items.length}${more}\n`)
}

export const orphansCommand = (io: CommandIo): Command =>
  online<OrphansOptions>(
    io,
    new Command('orphans')
      .description('agents, instances and tokens that nobody seems to need any more, and what to do about each')
      .addOption(
        new Option('--reason <name...>', 'only those with one of these reasons').choices([...orphanReasonNames]),
      )
      .option('--retire', 'end what is listed: agents are retired, instances and tokens revoked')
      .option('--why <text>', 'for the audit log')
      .option('--dry-run', 'with --retire: say what would happen, and do nothing')
      .option('--confirm <count>', 'with --retire: how many you saw and accept to be ended', countArgument),
    async session => {
      const { retire: asked, dryRun, confirm } = session.options
      if (asked === true) return retire(session)
      if (dryRun === true || confirm !== undefined)
        throw new CliError('usage', '--dry-run and --confirm go with --retire', {
          hint: 'agentca orphans --retire --dry-run',
        })
      return list(session)
    },
  )
