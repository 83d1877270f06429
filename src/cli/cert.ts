// `agentca cert …`

import { Command, Option } from 'commander'
import { printable } from '../base/printable.ts'
import { parseOnePem } from '../pki/pem.ts'
import { parseSerialHex } from '../pki/serial.ts'
import type { CertificateAnswer, IdentityAnswer } from '../schema/admin-answers.ts'
import { everyPage } from './admin-client.ts'
import { exportCommand, releasedPem } from './cert-export.ts'
import { certificatePem, readCertificates } from './certificate-files.ts'
import { certificateReportView, reportCertificate } from './certificate-report.ts'
import { withDryRun } from './confirmation.ts'
import { readInputText } from './files.ts'
import type { CommandIo } from './io.ts'
import { certificateDetailView, certificateView } from './live-things.ts'
import { online } from './online.ts'
import { members, type OutputOptions, type View, withOutput, writeJson, writeOne, writeRows } from './output.ts'
import { performRevocation, type RevocationOptions, withRevocation } from './revocation.ts'
import { type SubjectChoice, subjectOf, withSubjectFilter } from './subject.ts'

const withPem = ['table', 'json', 'jsonl', 'name', 'pem'] as const

const identityView: View<IdentityAnswer> = {
  columns: members<IdentityAnswer>(
    'spiffeId',
    'serial',
    'agent',
    'instance',
    'generation',
    'notBefore',
    'notAfter',
    'renewAfter',
    'notGranted',
  ),
  name: row => row.serial,
  pem: row => row.certificate + row.chain,
}

interface IssueOptions extends SubjectChoice {
  readonly csr: string
  readonly dryRun?: true
}

const issueCommand = (io: CommandIo): Command =>
  online<IssueOptions>(
    io,
    withDryRun(
      withSubjectFilter(
        new Command('issue').description('a certificate for a request that you vouch for'),
      ).requiredOption('--csr <file>', 'certification request, PEM; its names are ignored, the registration decides'),
    ),
    async ({ client, options, format }) => {
      const subject = subjectOf(options, 'required')
      const csr = readInputText(io, options.csr)
      // A private key in the file must not travel; the server would refuse the rest just the same.
      parseOnePem(csr, 'CERTIFICATE REQUEST')
      const { dryRun } = options
      const identity = await client.call('certificatesIssue', { body: { ...subject, csr, dryRun } })
      writeOne(io, format, identity, identityView)
      if (dryRun === true) io.err('dry run, nothing was issued\n')
      if (identity.notGranted.length > 0) io.err(`not granted: ${printable(identity.notGranted.join(', '))}\n`)
    },
    withPem,
  )

interface ListOptions extends SubjectChoice {
  readonly instance?: string
  readonly state?: CertificateAnswer['state']
  readonly after?: string
  readonly all?: true
}

const states = ['intent', 'issued', 'revoked', 'held', 'expired', 'orphaned', 'void'] as const

const listCommand = (io: CommandIo): Command =>
  online<ListOptions>(
    io,
    withSubjectFilter(new Command('list').description('certificates, newest first, 100 at a time'))
      .option('--instance <id>', 'of this instance')
      .addOption(new Option('--state <state>', 'only these').choices(states))
      .addOption(new Option('--after <serial>', 'the next 100 after this one').argParser(parseSerialHex))
      .option('--all', 'all of them'),
    async ({ client, options, format }) => {
      const { instance, state, after } = options
      const query = { ...subjectOf(options, 'optional'), instance, state, after }
      if (options.all !== true) {
        const page = await client.call('certificatesList', { query })
        writeRows(io, format, page.items, certificateView)
        if (page.next !== null) io.err(`more: --after ${page.next}, or --all\n`)
        return
      }
      const rows: CertificateAnswer[] = []
      for await (const items of everyPage(client, 'certificatesList', { query })) {
        // One document a line needs no memory, however long the list.
        if (format === 'jsonl') for (const row of items) writeJson(io, row, 'jsonl')
        else rows.push(...items)
      }
      if (format !== 'jsonl') writeRows(io, format, rows, certificateView)
    },
  )

const showCommand = (io: CommandIo): Command =>
  online<object, [string]>(
    io,
    new Command('show').description('one certificate and how it came about').argument('<serial>', '', parseSerialHex),
    async ({ client, format }, serial) => {
      const detail = await client.call('certificatesShow', { params: { serial } })
      if (format === 'pem') io.out(releasedPem(detail.certificate, serial))
      else writeOne(io, format, detail, certificateDetailView)
    },
    withPem,
  )

const inspectCommand = (io: CommandIo): Command => {
  const command = withOutput(new Command('inspect'), withPem)
    .description('what a certificate file says; needs no server')
    .argument('<file>', 'PEM, one or several, or DER')
  return command.action((file: string) => {
    const { output } = command.opts<OutputOptions>()
    const certificates = readCertificates(io, file)
    if (output === 'pem') {
      for (const certificate of certificates) io.out(certificatePem(certificate))
      return
    }
    const reports = certificates.map(reportCertificate)
    if (output !== 'table') {
      writeRows(io, output, reports, certificateReportView)
      return
    }
    for (const [at, report] of reports.entries()) {
      if (at > 0) io.out('\n')
      writeOne(io, output, report, certificateReportView)
    }
  })
}

const revokeCommand = (io: CommandIo): Command =>
  online<RevocationOptions, [string]>(
    io,
    withRevocation(
      new Command('revoke').description('revoke one certificate for good').argument('<serial>', '', parseSerialHex),
    ),
    (session, serial) => performRevocation(session, { by: 'serial', value: serial }, `agentca cert revoke ${serial}`),
  )

export const certCommand = (io: CommandIo): Command =>
  new Command('cert')
    .description('certificates')
    .addCommand(issueCommand(io))
    .addCommand(listCommand(io))
    .addCommand(showCommand(io))
    .addCommand(inspectCommand(io))
    .addCommand(revokeCommand(io))
    .addCommand(exportCommand(io))
