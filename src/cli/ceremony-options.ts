// What the ceremony commands share: where tokens and files are unless a flag says so, how the steps are shown while they happen, and how
// the result is printed.

import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { printable } from '../base/printable.ts'
import type { Certificate } from '../pki/certificate.ts'
import type { CeremonyKind } from '../schema/ceremony.ts'
import type { CeremonyRun } from '../server/ceremony/run.ts'
import type { TokenTarget } from '../server/ceremony/token-target.ts'
import { type CeremonyOutcome, renderTranscript, transcriptFile } from '../server/ceremony/transcript.ts'
import type { HomePaths } from '../server/home.ts'
import { rootTokenLabel } from '../server/init-places.ts'
import { onlineTokenLabel } from '../server/signer-config.ts'
import { readCertificates } from './certificate-files.ts'
import { CliError } from './errors.ts'
import { readInputText } from './files.ts'
import { homeOf } from './home.ts'
import type { CommandIo } from './io.ts'
import { type Cell, type OutputOptions, withOutput, writeFields, writeJson } from './output.ts'

export interface CeremonyOptions extends OutputOptions {
  readonly input: string
  readonly home?: string
  readonly dryRun?: true
  readonly transcript?: string
}

export const withCeremony = (command: Command): Command =>
  withOutput(
    command
      .requiredOption('--input <file>', 'the reviewed input, YAML: see ca-config/ceremonies')
      .option('--dry-run', 'check everything, generate and sign nothing')
      .option('--transcript <file>', 'where the transcript goes (default: ceremonies/ in the home)')
      .option('--home <dir>', 'AGENTCA_HOME: where tokens and files are unless told otherwise'),
    ['table', 'json'],
  )

/** `--token-dir`, `--token` and `--softhsm-conf`, or the same for the root's token. */
export const withToken = (command: Command, which: 'token' | 'root-token', what: string): Command =>
  command
    .addOption(new Option(`--${which}-dir <dir>`, `${what}: SoftHSM2 token in a directory, made if it is not there`))
    .addOption(
      new Option(`--${which} <uri>`, `${what}: any token by its RFC 7512 URI, with pin-source`).conflicts(
        which === 'token' ? 'tokenDir' : 'rootTokenDir',
      ),
    )
    .addOption(new Option(`--${which === 'token' ? '' : 'root-'}softhsm-conf <file>`, 'softhsm2.conf for that URI'))

export interface TokenOptions {
  readonly tokenDir?: string
  readonly token?: string
  readonly softhsmConf?: string
}

/** The token that the flags name, or `otherwise`. @throws CliError usage */
export const tokenOf = (
  io: CommandIo,
  { token, tokenDir, softhsmConf }: TokenOptions,
  role: 'root' | 'online',
  otherwise: () => TokenTarget,
): TokenTarget => {
  if (softhsmConf !== undefined && token === undefined)
    throw new CliError('usage', 'a softhsm2.conf goes with a token’s URI', { hint: 'add --token URI' })
  if (token !== undefined)
    return {
      kind: 'uri',
      uri: token,
      softhsmConf: softhsmConf === undefined ? undefined : resolve(io.cwd, softhsmConf),
    }
  if (tokenDir === undefined) return otherwise()
  const label = role === 'root' ? rootTokenLabel : onlineTokenLabel
  return { kind: 'softhsm', directory: resolve(io.cwd, tokenDir), label }
}

/** @throws CliError file_unreadable, usage for more or less than one certificate */
export const oneCertificate = (io: CommandIo, file: string): Certificate => {
  const certificates = readCertificates(io, file)
  if (certificates.length > 1)
    throw new CliError('usage', `expected one certificate in ${file}, got ${certificates.length}`)
  return certificates[0]
}

/** What is run, from the flags: input, mode, transcript, and each step on standard error as it is done. */
export const runOf = <K extends CeremonyKind>(
  io: CommandIo,
  kind: K,
  options: CeremonyOptions,
): { readonly run: CeremonyRun<K>; readonly paths: HomePaths } => {
  const paths = homeOf(io, options.home)
  const dry = options.dryRun === true
  const usual = dry ? null : transcriptFile(paths.ceremonies, kind, Date.now())
  return {
    paths,
    run: {
      kind,
      text: { source: options.input, text: readInputText(io, options.input) },
      mode: dry ? 'dry-run' : 'perform',
      transcriptFile: options.transcript === undefined ? usual : resolve(io.cwd, options.transcript),
      onStep: ({ title, result }, number) => io.err(`${String(number).padStart(2)}. ${title}: ${result}\n`),
    },
  }
}

/** The default where a flag names no file. */
export const fileOr = (io: CommandIo, named: string | undefined, otherwise: string): string =>
  named === undefined ? otherwise : resolve(io.cwd, named)

export const presentFile = (file: string): string | null => (existsSync(file) ? file : null)

/** A dry run shows its transcript; a ceremony what it made, and where. */
export const printOutcome = <T>(
  io: CommandIo,
  options: CeremonyOptions,
  { record, transcript, value }: CeremonyOutcome<T | null>,
  fieldsOf: (made: T) => readonly (readonly [label: string, value: Cell])[],
): void => {
  if (value === null) {
    if (options.output === 'json') writeJson(io, record)
    else io.out(printableLines(renderTranscript(record)))
    io.err('dry run, nothing was generated, signed or written\n')
    return
  }
  const fields = [...fieldsOf(value), ['transcript', transcript?.textFile ?? null] as const]
  if (options.output === 'json') writeJson(io, { ceremony: record.ceremony, ...Object.fromEntries(fields) })
  else writeFields(io, fields)
}

const printableLines = (text: string): string => text.split('\n').map(printable).join('\n')
