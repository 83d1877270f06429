// `agentca audit verify`: every leaf recomputed, every signed checkpoint compared. Run against a server, or against an export on a
// machine that trusts nobody; what makes it strong is a checkpoint and a log key that were kept elsewhere.
import { Command } from 'commander'
import { parseNote } from '../audit/checkpoint.ts'
import { type LogVerdict, verifyLog } from '../audit/verify-log.ts'
import { parseOnePem } from '../pki/pem.ts'
import { createAdminClient } from './admin-client.ts'
import { listArgument } from './arguments.ts'
import { type AuditSource, fileSource, leavesOf, readNotes, serverSource } from './audit-source.ts'
import { type ConnectionOptions, openConnection } from './connection.ts'
import { CliError } from './errors.ts'
import { readInputText } from './files.ts'
import type { CommandIo } from './io.ts'
import { withConnection } from './online.ts'
import { members, type OutputOptions, type View, withOutput, writeJson, writeRows } from './output.ts'

interface VerifyOptions extends ConnectionOptions, OutputOptions {
  readonly file?: string
  readonly checkpoint?: readonly string[]
  readonly logKey?: string
}

type Finding = LogVerdict['findings'][number]

const findingView: View<Finding> = {
  columns: [
    ...members<Finding>('index', 'kind', 'event'),
    { name: 'at', value: row => (row.at === null ? null : new Date(row.at).toISOString()) },
    ...members<Finding>('detail'),
  ],
  name: row => String(row.index),
}

/** All notes must be of one log; the first one names it. */
const originOfNotes = (notes: readonly string[]): string => {
  const [first] = notes
  return first === undefined ? '' : parseNote(first).origin
}

interface Judged {
  readonly verdict: LogVerdict
  /** Leaves up to here are covered by a signed checkpoint. */
  readonly covered: number
  readonly trust: 'kept key' | 'key of the log itself' | 'none'
}

const judge = async (io: CommandIo, source: AuditSource, options: VerifyOptions): Promise<Judged> => {
  const kept = (options.checkpoint ?? []).flatMap(file => readNotes(io, file))
  const pem = options.logKey === undefined ? source.publicKey : readInputText(io, options.logKey)
  const notes = [...kept, ...source.checkpoints]
  if (pem === null && kept.length > 0)
    throw new CliError('usage', 'checkpoints cannot be checked without the log key', {
      hint: 'give its PEM with --log-key FILE',
    })
  const trusted = pem === null ? [] : notes
  const spki = pem === null ? new Uint8Array() : parseOnePem(pem, 'PUBLIC KEY')
  const log = { origin: originOfNotes(trusted), spki }
  const verdict = await verifyLog({ leaves: leavesOf(source), checkpoints: trusted, log })
  const sizes = trusted.map(note => parseNote(note).size).filter(size => size <= verdict.size)
  return {
    verdict,
    covered: Math.max(0, ...sizes),
    trust: pem === null ? 'none' : options.logKey === undefined ? 'key of the log itself' : 'kept key',
  }
}

const report = (io: CommandIo, { verdict, covered, trust }: Judged, options: VerifyOptions): void => {
  const { size, checkpoints, findings } = verdict
  if (options.output === 'json') writeJson(io, { size, checkpoints, covered, trust, findings })
  else if (findings.length > 0) writeRows(io, options.output, findings, findingView)
  else io.out(`whole: ${size} leaves, ${covered} of them under ${checkpoints} signed checkpoints\n`)
  if (findings.length > 0) {
    io.setExitCode(9)
    io.err(`the log does not verify: ${findings.length} finding${findings.length === 1 ? '' : 's'}\n`)
    return
  }
  if (trust === 'none' || (checkpoints === 0 && size > 0)) {
    io.setExitCode(10)
    io.err('only the chain was checked, which whoever can write the log can make anew\n')
    io.err('  hint: give --log-key FILE and --checkpoint FILE that were kept elsewhere\n')
  } else if (trust === 'key of the log itself')
    io.err('the log key came from the log itself; give one that was kept elsewhere with --log-key FILE\n')
}

export const verifyCommand = (io: CommandIo): Command => {
  const command = withConnection(withOutput(new Command('verify'), ['table', 'json', 'jsonl']))
    .description('recompute the whole log and compare it with its signed checkpoints')
    .option('--file <file>', 'an export instead of the server')
    .option('--checkpoint <file>', 'signed checkpoints that were kept elsewhere, may be repeated', listArgument)
    .option('--log-key <file>', 'public key of the log, PEM, that was kept elsewhere')
  return command.action(async () => {
    const options = command.opts<VerifyOptions>()
    const source =
      options.file === undefined
        ? await serverSource(createAdminClient(openConnection(io, options)))
        : await fileSource(io, options.file)
    report(io, await judge(io, source, options), options)
  })
}
