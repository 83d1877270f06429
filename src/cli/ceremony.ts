// `agentca ceremony …`: the key ceremonies. They work on tokens and files of this machine alone, without a server, so that the root's can
// be performed where no network is.
import { randomBytes } from 'node:crypto'
import { Command, Option } from 'commander'
import { systemClock } from '../base/clock.ts'
import type { Certificate } from '../pki/certificate.ts'
import { performCrlCeremony } from '../server/ceremony/crl.ts'
import { timeText } from '../server/ceremony/draft.ts'
import {
  acceptIssuingCertificate,
  performIssuingCeremony,
  requestIssuingCertificate,
} from '../server/ceremony/issuing.ts'
import { findJudge } from '../server/ceremony/judge.ts'
import { performRootCeremony } from '../server/ceremony/root.ts'
import { runCeremony } from '../server/ceremony/run.ts'
import { fingerprintOf } from '../server/ceremony/steps.ts'
import { caFile, onlineTarget, rootCrlFile, rootTarget } from '../server/init-places.ts'
import { isInitialised } from '../server/init-record.ts'
import {
  type CeremonyOptions,
  fileOr,
  oneCertificate,
  presentFile,
  printOutcome,
  runOf,
  type TokenOptions,
  tokenOf,
  withCeremony,
  withToken,
} from './ceremony-options.ts'
import { loadConfig } from './config-file.ts'
import { CliError } from './errors.ts'
import { readInput } from './files.ts'
import type { CommandIo } from './io.ts'
import type { Cell } from './output.ts'

const surroundings = async () => ({ clock: systemClock, randomBytes, judge: await findJudge() })

const keepKeys = new Option(
  '--keep-keys',
  'use keys that are in the token under the input’s labels; generate missing ones only',
)

type Fields = readonly (readonly [label: string, value: Cell])[]

const certificateFields = (file: string, certificate: Certificate): Fields => [
  ['file', file],
  ['serial', certificate.serialHex],
  ['fingerprint', fingerprintOf(certificate.der)],
  ['notBefore', timeText(certificate.notBefore)],
  ['notAfter', timeText(certificate.notAfter)],
]

interface RootOptions extends CeremonyOptions, TokenOptions {
  readonly keepKeys?: true
  readonly out?: string
}

const rootCommand = (io: CommandIo): Command =>
  withToken(withCeremony(new Command('root')), 'token', 'the root’s token')
    .description('generate the root’s key and its self-signed certificate')
    .addOption(keepKeys)
    .option('--out <file>', 'the certificate, PEM (default: issuers/NAME.pem in the home)')
    .action(async (options: RootOptions) => {
      const { run, paths } = runOf(io, 'root', options)
      let file = ''
      const outcome = await runCeremony(await surroundings(), run, (deps, input) => {
        file = fileOr(io, options.out, caFile(paths, input.name))
        return performRootCeremony(deps, {
          input,
          token: tokenOf(io, options, 'root', () => rootTarget({ paths })),
          keys: options.keepKeys === true ? 'keep' : 'new',
          output: { path: file, mode: 'new' },
        })
      })
      printOutcome(io, options, outcome, certificate => certificateFields(file, certificate))
    })

interface IssuingOptions extends RootOptions {
  readonly config?: string
  readonly root?: string
  readonly rootTokenDir?: string
  readonly rootToken?: string
  readonly rootSofthsmConf?: string
  readonly csrOut?: string
  readonly certificate?: string
}

const issuingCommand = (io: CommandIo): Command => {
  const command = withCeremony(new Command('issuing'))
  withToken(withToken(command, 'token', 'the online token'), 'root-token', 'the root’s token')
  return command
    .description('generate an issuing CA’s key in the online token and have its certificate signed')
    .addOption(keepKeys)
    .option('--root <file>', 'the root’s certificate, PEM (default: issuers/ROOT.pem in the home)')
    .option('--out <file>', 'the certificate, PEM (default: issuers/NAME.pem in the home)')
    .addOption(
      new Option('--csr-out <file>', 'stop after a request for another organisation’s root').conflicts([
        'certificate',
        'root',
        'rootToken',
        'rootTokenDir',
        'out',
      ]),
    )
    .addOption(
      new Option('--certificate <file>', 'take the certificate that such a root made; needs its --root').conflicts([
        'rootToken',
        'rootTokenDir',
        'keepKeys',
      ]),
    )
    .option('--config <file>', 'configuration that names the online token')
    .action((options: IssuingOptions) =>
      options.csrOut === undefined ? issue(io, options) : request(io, options, options.csrOut),
    )
}

const onlineToken = (io: CommandIo, options: IssuingOptions, paths: Parameters<typeof rootTarget>[0]['paths']) =>
  tokenOf(io, options, 'online', () => onlineTarget({ config: loadConfig(io, options.config).config, paths }))

const request = async (io: CommandIo, options: IssuingOptions, csrOut: string): Promise<void> => {
  const { run, paths } = runOf(io, 'issuing', options)
  const file = fileOr(io, csrOut, csrOut)
  const token = onlineToken(io, options, paths)
  const outcome = await runCeremony(await surroundings(), run, (deps, input) =>
    requestIssuingCertificate(deps, {
      input,
      token,
      keys: options.keepKeys === true ? 'keep' : 'new',
      output: { path: file, mode: 'new' },
    }),
  )
  printOutcome(io, options, outcome, csr => [
    ['file', file],
    ['sha256', fingerprintOf(csr.der)],
  ])
  if (outcome.value !== null)
    io.err(
      `next, when the root has signed it: agentca ceremony issuing --input ${options.input} --certificate FILE --root FILE\n`,
    )
}

const issue = async (io: CommandIo, options: IssuingOptions): Promise<void> => {
  const { run, paths } = runOf(io, 'issuing', options)
  if (options.certificate !== undefined && options.root === undefined)
    throw new CliError('usage', 'a certificate from another root is checked against that root', {
      hint: 'add --root FILE with its certificate',
    })
  const token = onlineToken(io, options, paths)
  const rootOptions = {
    ...(options.rootToken === undefined ? {} : { token: options.rootToken }),
    ...(options.rootTokenDir === undefined ? {} : { tokenDir: options.rootTokenDir }),
    ...(options.rootSofthsmConf === undefined ? {} : { softhsmConf: options.rootSofthsmConf }),
  }
  const rootToken = tokenOf(io, rootOptions, 'root', () => rootTarget({ paths }))
  let file = ''
  const outcome = await runCeremony(await surroundings(), run, (deps, input) => {
    file = fileOr(io, options.out, caFile(paths, input.name))
    const root = oneCertificate(io, options.root ?? caFile(paths, input.issuer.name))
    const output = { path: file, mode: 'new' } as const
    if (options.certificate !== undefined)
      return acceptIssuingCertificate(deps, {
        input,
        token,
        root,
        output,
        certificate: oneCertificate(io, options.certificate),
      })
    const keys = options.keepKeys === true ? 'keep' : 'new'
    return performIssuingCeremony(deps, { input, token, keys, root, rootToken, output })
  })
  printOutcome(io, options, outcome, certificate => certificateFields(file, certificate))
  const { name } = outcome.record
  if (outcome.value !== null && isInitialised(paths))
    io.err(`next, while the CA runs: agentca ca prepare ${name} --certificate ${file} --confirm ${name}\n`)
}

interface CrlOptions extends CeremonyOptions, TokenOptions {
  readonly root?: string
  readonly previous?: string
  readonly out?: string
}

const crlCommand = (io: CommandIo): Command =>
  withToken(withCeremony(new Command('crl')), 'token', 'the root’s token')
    .description('sign the root’s CRL')
    .option('--root <file>', 'the root’s certificate, PEM (default: issuers/ROOT.pem in the home)')
    .option('--previous <file>', 'the list that is published now, DER (default: the file that is replaced)')
    .option('--out <file>', 'the list, DER; replaced in one step (default: status/crl/ROOT.crl in the home)')
    .action(async (options: CrlOptions) => {
      const { run, paths } = runOf(io, 'crl', options)
      let file = ''
      const outcome = await runCeremony(await surroundings(), run, (deps, input) => {
        file = fileOr(io, options.out, rootCrlFile(paths, input.issuer.name))
        const previous = options.previous ?? presentFile(file)
        return performCrlCeremony(deps, {
          input,
          root: oneCertificate(io, options.root ?? caFile(paths, input.issuer.name)),
          rootToken: tokenOf(io, options, 'root', () => rootTarget({ paths })),
          previous: previous === null ? null : readInput(io, previous),
          output: { path: file, mode: 'replace' },
        })
      })
      printOutcome(io, options, outcome, crl => [
        ['file', file],
        ['number', String(crl.number)],
        ['fingerprint', fingerprintOf(crl.der)],
        ['thisUpdate', timeText(crl.thisUpdate)],
        ['nextUpdate', timeText(crl.nextUpdate)],
        ['entries', crl.entries],
      ])
      const isPublished = file === rootCrlFile(paths, outcome.record.name) && isInitialised(paths)
      if (outcome.value !== null && isPublished)
        io.err('next, while the CA runs: agentca crl publish, which reads this file again\n')
    })

export const ceremonyCommand = (io: CommandIo): Command =>
  new Command('ceremony')
    .description('key ceremonies: root, issuing CA, root CRL; one reviewed file each')
    .addCommand(rootCommand(io))
    .addCommand(issuingCommand(io))
    .addCommand(crlCommand(io))
