// `agentca token …`: join tokens, each shown once.
import { existsSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { Command } from 'commander'
import type { TokenAnswer, TokenCreated } from '../schema/admin-answers.ts'
import { everyPage } from './admin-client.ts'
import { countArgument, secondsArgument } from './arguments.ts'
import { keyHashOfFile } from './certificate-files.ts'
import { withDryRun } from './confirmation.ts'
import { CliError } from './errors.ts'
import type { CommandIo } from './io.ts'
import { tokenView } from './live-things.ts'
import { online } from './online.ts'
import { members, type View, writeOne, writeRows } from './output.ts'
import { type SubjectChoice, subjectOf, withSubjectFilter } from './subject.ts'

interface CreateOptions extends SubjectChoice {
  readonly ttl?: number
  readonly uses?: number
  readonly bindKey?: string
  readonly file?: string
  readonly dryRun?: true
}

/** What is shown of a new token where its secret went into a file. */
const keptView: View<Omit<TokenCreated, 'token'>> = {
  columns: [
    ...members<Omit<TokenCreated, 'token'>>('expiresAt', 'uses', 'id'),
    { name: 'for', value: row => `${row.subject.kind} ${row.subject.name}` },
    ...members<Omit<TokenCreated, 'token'>>('url', 'caFingerprint'),
  ],
  name: row => row.id,
}

const createdView: View<TokenCreated> = {
  columns: [...members<TokenCreated>('token'), ...keptView.columns],
  name: row => row.id,
}

const enrolLine = (created: TokenCreated, file: string): string =>
  `agentca enroll --url ${created.url} --ca-fingerprint ${created.caFingerprint} --token-file ${file} --dir DIR`

/** The token into a file of the operator alone instead of onto the screen. */
const keepToken = (io: CommandIo, created: TokenCreated, file: string): Omit<TokenCreated, 'token'> => {
  const { token, ...rest } = created
  writeFileSync(resolve(io.cwd, file), `${token}\n`, { mode: 0o600, flag: 'wx' })
  return rest
}

const createCommand = (io: CommandIo): Command =>
  online<CreateOptions>(
    io,
    withDryRun(
      withSubjectFilter(new Command('create').description('a join token: one enrolment, shown once'))
        .option('--ttl <duration>', 'how long it lives, 10m unless given', secondsArgument)
        .option('--uses <count>', 'how many instances it enrols, 1 unless given', countArgument)
        .option('--bind-key <file>', 'only this key may use it: PEM of a public key, certificate or request')
        .option('--file <file>', 'write the token there (0600) instead of showing it'),
    ),
    async ({ client, options, format }) => {
      const { kind, name } = subjectOf(options, 'required')
      const { ttl, uses, bindKey, file, dryRun } = options
      // Before the token exists: it could not be shown again.
      if (file !== undefined && existsSync(resolve(io.cwd, file)))
        throw new CliError('file_not_written', `${file} exists already`, { hint: 'remove it, or name another file' })
      const bindKeyHash = bindKey === undefined ? undefined : keyHashOfFile(io, bindKey)
      const created = await client.call('tokensCreate', {
        body: { kind, name, ttlSeconds: ttl, uses, bindKeyHash, dryRun },
      })
      if (dryRun === true) io.err('dry run, nothing was created\n')
      if (file === undefined || dryRun === true) writeOne(io, format, created, createdView)
      else writeOne(io, format, keepToken(io, created, file), keptView)
      if (dryRun !== true) io.err(`next, where it runs: ${enrolLine(created, file ?? 'FILE')}\n`)
    },
  )

const listCommand = (io: CommandIo): Command =>
  online<SubjectChoice>(
    io,
    withSubjectFilter(new Command('list').description('join tokens, never their secrets')),
    async ({ client, options, format }) => {
      const rows: TokenAnswer[] = []
      const query = subjectOf(options, 'optional')
      for await (const page of everyPage(client, 'tokensList', { query })) rows.push(...page)
      writeRows(io, format, rows, tokenView)
    },
  )

const revokeCommand = (io: CommandIo): Command =>
  online<{ readonly why?: string; readonly dryRun?: true }, [string]>(
    io,
    withDryRun(
      new Command('revoke')
        .description('a token enrols nobody any more; what it enrolled stays (agentca revoke --token)')
        .argument('<id>')
        .option('--why <text>', 'for the audit log'),
    ).option('-y, --yes', 'accepted; a token is revoked without a question'),
    async ({ client, options, format }, id) => {
      const { why, dryRun } = options
      writeOne(io, format, await client.call('tokensRevoke', { params: { id }, body: { why, dryRun } }), tokenView)
      if (dryRun === true) io.err('dry run, nothing was changed\n')
    },
  )

export const tokenCommand = (io: CommandIo): Command =>
  new Command('token')
    .description('join tokens')
    .addCommand(createCommand(io))
    .addCommand(listCommand(io))
    .addCommand(revokeCommand(io))
