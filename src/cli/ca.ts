// `agentca ca …`: the CAs of this installation, and the rotation of issuing CAs.
import { Command } from 'commander'
import type { IssuerAnswer } from '../schema/admin-answers.ts'
import { certificatePem, readCertificates } from './certificate-files.ts'
import { confirmName, withDryRun } from './confirmation.ts'
import { CliError } from './errors.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { members, type View, writeOne, writeRows } from './output.ts'

const withPem = ['table', 'json', 'jsonl', 'name', 'pem'] as const

const issuerView: View<IssuerAnswer> = {
  columns: members<IssuerAnswer>('name', 'kind', 'state', 'daysLeft', 'notAfter', 'keyLabel', 'parent', 'subject'),
  name: row => row.name,
  pem: row => row.certificate,
}

const detailView: View<IssuerAnswer> = {
  ...issuerView,
  columns: [...issuerView.columns, ...members<IssuerAnswer>('serial', 'notBefore', 'keyHash', 'fingerprint')],
}

const listCommand = (io: CommandIo): Command =>
  online(
    io,
    new Command('list').description('root and issuing CAs'),
    async ({ client, format }) => writeRows(io, format, (await client.call('issuersList')).items, issuerView),
    withPem,
  )

const showCommand = (io: CommandIo): Command =>
  online<object, [string]>(
    io,
    new Command('show').description('one CA').argument('<name>'),
    async ({ client, format }, name) =>
      writeOne(io, format, await client.call('issuersShow', { params: { name } }), detailView),
    withPem,
  )

interface PrepareOptions {
  readonly certificate: string
  readonly keyLabel?: string
  readonly confirm?: string
  readonly dryRun?: true
}

const prepareCommand = (io: CommandIo): Command =>
  online<PrepareOptions, [string]>(
    io,
    withDryRun(
      new Command('prepare')
        .description('take over the certificate of a new issuing CA: known to all, not issuing yet')
        .argument('<name>')
        .requiredOption('--certificate <file>', 'made by agentca ceremony issuing, or by a root of your own')
        .option('--key-label <label>', 'label of its key in the token; the name unless given')
        .option('--confirm <name>', 'the name once more'),
    ),
    async ({ client, options, format }, name) => {
      const { keyLabel = name, confirm, dryRun } = options
      const certificates = readCertificates(io, options.certificate)
      if (certificates.length > 1)
        throw new CliError('usage', `expected one certificate in ${options.certificate}, got ${certificates.length}`)
      if (dryRun !== true)
        confirmName(
          `preparing ${name}`,
          `agentca ca prepare ${name} --certificate ${options.certificate}`,
          name,
          confirm,
        )
      const certificate = certificatePem(certificates[0])
      const body = { name, keyLabel, certificate, confirm: name, dryRun }
      writeOne(io, format, await client.call('issuersPrepare', { body }), detailView)
      io.err(
        dryRun === true
          ? 'dry run, nothing was changed\n'
          : `prepared; next, once verifiers have the new bundle: agentca ca activate ${name} --confirm ${name}\n`,
      )
    },
  )

interface ChangeOptions {
  readonly confirm?: string
  readonly dryRun?: true
}

const changeCommand = (
  io: CommandIo,
  verb: 'activate' | 'retire',
  route: 'issuersActivate' | 'issuersRetire',
  description: string,
): Command =>
  online<ChangeOptions, [string]>(
    io,
    withDryRun(
      new Command(verb).description(description).argument('<name>').option('--confirm <name>', 'the name once more'),
    ),
    async ({ client, options, format }, name) => {
      const { confirm, dryRun } = options
      if (dryRun !== true) confirmName(`to ${verb} ${name}`, `agentca ca ${verb} ${name}`, name, confirm)
      writeOne(io, format, await client.call(route, { params: { name }, body: { confirm: name, dryRun } }), detailView)
      if (dryRun === true) io.err('dry run, nothing was changed\n')
    },
  )

export const caCommand = (io: CommandIo): Command =>
  new Command('ca')
    .description('CA certificates and their rotation')
    .addCommand(listCommand(io))
    .addCommand(showCommand(io))
    .addCommand(prepareCommand(io))
    .addCommand(
      changeCommand(io, 'activate', 'issuersActivate', 'issue with this CA from now on; the one before stays valid'),
    )
    .addCommand(changeCommand(io, 'retire', 'issuersRetire', 'a CA that issues no more and whose leaves have ended'))
