// `agentca instance …`: one enrolment, one key lineage.
import { Command, Option } from 'commander'
import type { InstanceAnswer, SubjectKindName } from '../schema/admin-answers.ts'
import type { TokenEvidenceAnswer } from '../schema/attestor-api.ts'
import { everyPage } from './admin-client.ts'
import { withDryRun } from './confirmation.ts'
import type { CommandIo } from './io.ts'
import { instanceView } from './live-things.ts'
import { online } from './online.ts'
import { members, type View, writeOne, writeRows } from './output.ts'
import { performRevocation, type RevocationOptions, withRevocation } from './revocation.ts'
import { subjectOf, withSubjectFilter } from './subject.ts'

/** Who vouched for it, and about whom. */
const evidenceText = ({ attestor, type, issuer, subject }: TokenEvidenceAnswer): string =>
  `${type} of ${attestor}: ${subject} (${issuer})`

const detailView: View<InstanceAnswer> = {
  columns: [
    ...instanceView.columns,
    ...members<InstanceAnswer>('spiffeId', 'changedAt'),
    { name: 'evidence', value: ({ evidence }) => (evidence == null ? null : evidenceText(evidence)) },
  ],
  name: instanceView.name,
}

interface ListOptions extends Partial<Record<SubjectKindName, string>> {
  readonly state?: InstanceAnswer['state']
}

const listCommand = (io: CommandIo): Command =>
  online<ListOptions>(
    io,
    withSubjectFilter(new Command('list').description('instances and the certificate each holds')).addOption(
      new Option('--state <state>', 'only these').choices(['active', 'locked', 'revoked']),
    ),
    async ({ client, options, format }) => {
      const rows: InstanceAnswer[] = []
      const query = { ...subjectOf(options, 'optional'), state: options.state }
      for await (const page of everyPage(client, 'instancesList', { query })) rows.push(...page)
      writeRows(io, format, rows, instanceView)
    },
  )

const unlockCommand = (io: CommandIo): Command =>
  online<{ readonly why?: string; readonly dryRun?: true }, [string]>(
    io,
    withDryRun(
      new Command('unlock')
        .description('let an instance work again that was locked because two held its lineage')
        .argument('<id>')
        .option('--why <text>', 'for the audit log'),
    ),
    async ({ client, options, format }, id) => {
      const { why, dryRun } = options
      const answer = await client.call('instancesUnlock', { params: { id }, body: { why, dryRun } })
      writeOne(io, format, answer, detailView)
      if (dryRun === true) io.err('dry run, nothing was changed\n')
    },
  )

const revokeCommand = (io: CommandIo): Command =>
  online<RevocationOptions, [string]>(
    io,
    withRevocation(new Command('revoke').description('end one instance for good').argument('<id>')),
    (session, id) => performRevocation(session, { by: 'instance', value: id }, `agentca instance revoke ${id}`),
  )

export const instanceCommand = (io: CommandIo): Command =>
  new Command('instance')
    .description('instances: one enrolment, one key lineage')
    .addCommand(listCommand(io))
    .addCommand(
      online<object, [string]>(
        io,
        new Command('show').description('one instance').argument('<id>'),
        async ({ client, format }, id) =>
          writeOne(io, format, await client.call('instancesShow', { params: { id } }), detailView),
      ),
    )
    .addCommand(unlockCommand(io))
    .addCommand(revokeCommand(io))
