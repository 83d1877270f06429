// `agentca audit …`
import { createWriteStream } from 'node:fs'
import { resolve } from 'node:path'
import { finished } from 'node:stream/promises'
import { Command, Option } from 'commander'
import { messageOf } from '../base/errors.ts'
import type { CheckpointAnswer, LeafAnswer } from '../schema/admin-answers.ts'
import { countArgument } from './arguments.ts'
import { type CheckpointLine, serverSource } from './audit-source.ts'
import { verifyCommand } from './audit-verify.ts'
import { withDryRun } from './confirmation.ts'
import { CliError } from './errors.ts'
import { writeOutput } from './files.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { members, type View, writeJson, writeRows } from './output.ts'

/** Members that have a column of their own, or say what the column says. */
const shownMembers: ReadonlySet<string> = new Set(['at', 'event', 'sub', 'who', 'req', 'src'])

const factsText = ({ content = {} }: LeafAnswer): string =>
  Object.entries(content)
    .filter(([key]) => !shownMembers.has(key))
    .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(' ')

const leafView: View<LeafAnswer> = {
  columns: [
    ...members<LeafAnswer>('index', 'at', 'event', 'subject'),
    { name: 'who', value: row => String(row.content?.who ?? '') },
    { name: 'facts', value: factsText },
  ],
  name: row => String(row.index),
}

interface TailOptions {
  readonly number?: number
  readonly subject?: string
  readonly agent?: string
  readonly event?: string
}

const tailCommand = (io: CommandIo): Command =>
  online<TailOptions>(
    io,
    new Command('tail')
      .description('the latest entries, the newest last')
      .option('-n, --number <count>', 'how many, 20 unless given', countArgument)
      .option('--agent <name>', 'only about this agent, its instances and certificates')
      .addOption(
        new Option(
          '--subject <kind:name>',
          'only about this: agent, service, operator, owner, instance, issuer or profile',
        ).conflicts('agent'),
      )
      .option('--event <name>', 'only these'),
    async ({ client, options, format }) => {
      const { number: limit, agent, event } = options
      const subject = agent === undefined ? options.subject : `agent:${agent}`
      const { items } = await client.call('auditTail', { query: { limit, subject, event } })
      writeRows(io, format, items.toReversed(), leafView)
    },
  )

/** Where an export goes: a new file, with back-pressure, or standard output. */
const openSink = (io: CommandIo, file: string | undefined) => {
  if (file === undefined) return { write: async (line: string) => io.out(line), end: async () => {} }
  const stream = createWriteStream(resolve(io.cwd, file), { flags: 'wx', mode: 0o600 })
  const done = finished(stream).catch((error: unknown) => {
    throw new CliError('file_not_written', `cannot write ${file}: ${messageOf(error)}`)
  })
  // Told by `end`; here only so that a failure before it is not unhandled.
  done.catch(() => {})
  return {
    write: async (line: string) => {
      if (!stream.write(line)) await Promise.race([new Promise(ready => stream.once('drain', ready)), done])
    },
    end: () => {
      stream.end()
      return done
    },
  }
}

const exportCommand = (io: CommandIo): Command =>
  online<{ readonly file?: string }>(
    io,
    new Command('export')
      .description('the whole log with its exact bytes, a JSON document a line; agentca audit verify --file reads it')
      .option('--file <file>', 'write there (0600); a file that exists is not overwritten'),
    async ({ client, options }) => {
      const source = await serverSource(client)
      const sink = openSink(io, options.file)
      for (const checkpoint of source.checkpoints) {
        const line: CheckpointLine = { checkpoint, publicKey: source.publicKey ?? undefined }
        await sink.write(`${JSON.stringify(line)}\n`)
      }
      let leaves = 0
      for await (const leaf of source.answers()) {
        await sink.write(`${JSON.stringify(leaf)}\n`)
        leaves++
      }
      await sink.end()
      io.err(`${leaves} leaves, ${source.checkpoints.length} checkpoints\n`)
    },
    ['jsonl'],
  )

const writeNote = (io: CommandIo, answer: CheckpointAnswer, file: string | undefined): void => {
  if (file !== undefined) writeOutput(io, file, answer.note)
  else io.out(answer.note)
}

const checkpointCommand = (io: CommandIo): Command =>
  online<{ readonly file?: string; readonly dryRun?: true }>(
    io,
    withDryRun(
      new Command('checkpoint')
        .description('sign the log as it is now; keep the note where whoever runs the CA cannot change it')
        .option('--file <file>', 'write the note there'),
    ),
    async ({ client, options: { file, dryRun = false }, format }) => {
      const answer = await client.call('auditCheckpoint', { body: { dryRun } })
      if (format === 'json') writeJson(io, answer)
      else if (dryRun) io.out(`${answer.size} leaves, head ${answer.head}\n`)
      else writeNote(io, answer, file)
      if (dryRun) io.err('dry run, nothing was signed\n')
    },
    ['table', 'json'],
  )

export const auditCommand = (io: CommandIo): Command =>
  new Command('audit')
    .description('the audit log')
    .addCommand(tailCommand(io))
    .addCommand(verifyCommand(io))
    .addCommand(exportCommand(io))
    .addCommand(checkpointCommand(io))
