// `agentca init`: a new CA in an empty home. Run again it changes nothing; run after an interruption it goes on.

import { randomBytes } from 'node:crypto'
import { Command } from 'commander'
import { systemClock } from '../base/clock.ts'
import type { Log, LogFields } from '../base/log.ts'
import { printable } from '../base/printable.ts'
import { encodePem } from '../pki/pem.ts'
import type { CeremonyKind } from '../schema/ceremony.ts'
import type { CeremonyText } from '../server/ceremony/transcript.ts'
import { type InitOptions, type InitReport, initHome } from '../server/init.ts'
import type { ExistingCertificates } from '../server/init-authority.ts'
import { type InitPlan, planInit } from '../server/init-plan.ts'
import { oneCertificate } from './ceremony-options.ts'
import { loadConfig } from './config-file.ts'
import { CliError } from './errors.ts'
import { readInput, readInputText } from './files.ts'
import { homeOf } from './home.ts'
import type { CommandIo } from './io.ts'
import { type OutputOptions, withOutput, writeFields, writeJson, writeTable } from './output.ts'

interface InitFlags extends OutputOptions {
  readonly home?: string
  readonly config?: string
  readonly trustDomain?: string
  readonly rootInput?: string
  readonly issuingInput?: string
  readonly crlInput?: string
  readonly root?: string
  readonly issuing?: string
  readonly rootCrl?: string
  readonly dryRun?: true
}

/** What happens, for whoever waits: lines on standard error. */
const progressLog = (io: CommandIo): Log => {
  const say = (_fields: LogFields, message: string): void => io.err(`${printable(message)}\n`)
  const log: Log = { debug: () => {}, info: say, warn: say, error: say, child: () => log }
  return log
}

const inputsOf = (io: CommandIo, flags: InitFlags): Partial<Record<CeremonyKind, CeremonyText>> => {
  const named: readonly (readonly [CeremonyKind, string | undefined])[] = [
    ['root', flags.rootInput],
    ['issuing', flags.issuingInput],
    ['crl', flags.crlInput],
  ]
  return Object.fromEntries(
    named.flatMap(([kind, file]) =>
      file === undefined ? [] : [[kind, { source: file, text: readInputText(io, file) }]],
    ),
  )
}

/** @throws CliError usage when one of the two comes without the other */
const existingOf = (io: CommandIo, { root, issuing, rootCrl }: InitFlags): ExistingCertificates | null => {
  if (root === undefined && issuing === undefined && rootCrl === undefined) return null
  if (root === undefined || issuing === undefined)
    throw new CliError('usage', 'certificates that were made elsewhere come together', {
      hint: 'give both: --root FILE --issuing FILE',
    })
  return {
    root: encodePem('CERTIFICATE', oneCertificate(io, root).der),
    issuing: encodePem('CERTIFICATE', oneCertificate(io, issuing).der),
    rootCrl: rootCrl === undefined ? null : readInput(io, rootCrl),
  }
}

const printPlan = (io: CommandIo, { output }: InitFlags, plan: InitPlan): void => {
  if (output === 'json') writeJson(io, plan)
  else {
    writeFields(io, [
      ['home', plan.home],
      ['trustDomain', plan.trustDomain],
      ['api', plan.urls.api],
      ['status', plan.urls.status],
    ])
    const rows = plan.parts.flatMap(({ part, action, facts }) =>
      Object.entries(facts).map(([name, fact], at) => [
        at === 0 ? action : '',
        at === 0 ? part : '',
        name,
        printable(Array.isArray(fact) ? fact.join(', ') || '-' : String(fact)),
      ]),
    )
    if (rows.length > 0) writeTable(io, ['action', 'part', 'what', 'value'], rows)
  }
  io.err(plan.state === 'already' ? 'already initialised\n' : 'dry run, nothing was made\n')
}

const printReport = (io: CommandIo, { output }: InitFlags, report: InitReport): void => {
  if (output === 'json') writeJson(io, report)
  else
    writeFields(io, [
      ['home', report.home],
      ['trustDomain', report.trustDomain],
      ['caId', report.caId],
      ['rootFingerprint', report.rootFingerprint],
      ['api', report.urls.api],
      ['status', report.urls.status],
      ['token', report.tokenUri],
      ['firstOperator', report.firstOperatorToken],
    ])
  for (const warning of report.warnings) io.err(`note: ${printable(warning)}\n`)
  io.err(
    report.state === 'already'
      ? 'already initialised: nothing was changed\n'
      : `next: agentca serve; then, as the first operator: agentca enroll --url ${report.urls.api} --ca-fingerprint ${report.rootFingerprint} --token-file ${report.firstOperatorToken} --dir DIR\n`,
  )
}

export const initCommand = (io: CommandIo): Command =>
  withOutput(
    new Command('init')
      .description('make a new CA in an empty home: tokens, keys, ceremonies, ledger, first operator')
      .option('--home <dir>', 'AGENTCA_HOME')
      .option('--config <file>', 'configuration (default: AGENTCA_CONFIG, else ca-config/agentca.yaml)')
      .option('--trust-domain <name>', 'part of every SPIFFE ID, for ever (default: the configuration’s)')
      .option('--root-input <file>', 'reviewed input of the root ceremony, instead of init’s own')
      .option('--issuing-input <file>', 'the same for the issuing CA')
      .option('--crl-input <file>', 'the same for the root’s CRL')
      .option('--root <file>', 'certificate of a root that is not made here, PEM')
      .option('--issuing <file>', 'certificate of the issuing CA by that root, PEM; its key is in the online token')
      .option('--root-crl <file>', 'that root’s CRL, DER')
      .option('--dry-run', 'say what would be made'),
    ['table', 'json'],
  ).action(async (flags: InitFlags) => {
    const existing = existingOf(io, flags)
    const options: InitOptions = {
      config: loadConfig(io, flags.config, { trustDomain: flags.trustDomain }).config,
      paths: homeOf(io, flags.home),
      clock: systemClock,
      log: progressLog(io),
      randomBytes,
      inputs: inputsOf(io, flags),
      ...(existing === null ? {} : { existing }),
    }
    if (flags.dryRun === true) printPlan(io, flags, await planInit(options))
    else printReport(io, flags, await initHome(options))
  })
