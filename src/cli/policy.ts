// `agentca policy …`: who may do what, as files that are checked, tried, compared and put in force.
import { Command, Option } from 'commander'
import { loadCedar } from '../policy/cedar.ts'
import { compilePolicies, type Policies, type PolicyFiles } from '../policy/cedar-compile.ts'
import { createPolicyEvaluator } from '../policy/cedar-scopes.ts'
import { describesCaller, runPolicyTests } from '../policy/cedar-tests.ts'
import type { PolicyAppliedAnswer, PolicyTestAnswer } from '../schema/policy-answers.ts'
import { CliError } from './errors.ts'
import type { CommandIo } from './io.ts'
import { online, type Session } from './online.ts'
import { type OutputOptions, withOutput, writeJson, writeOne, writeRows } from './output.ts'
import { explainCommand, suggestCommand } from './policy-explain.ts'
import { readPolicies } from './policy-files.ts'
import { faultView, tellFailures, tellFaults, testView, versionView, writeDifferences } from './policy-output.ts'

interface ConfigOption {
  readonly config?: string
}

interface ChangeOptions extends ConfigOption {
  readonly why?: string
  readonly dryRun?: true
}

const withFiles = (command: Command): Command =>
  command
    .argument('[directory]', 'of *.cedar, actions.yaml and tests/*.yaml; default: policies beside the configuration')
    .addOption(new Option('--config <file>', 'configuration (AGENTCA_CONFIG)'))

const withChange = (command: Command): Command =>
  command.option('--why <text>', 'for the audit log').option('--dry-run', 'show what would be, and change nothing')

const hasErrors = (faults: readonly { readonly severity: string }[]): boolean =>
  faults.some(({ severity }) => severity === 'error')

const checkCommand = (io: CommandIo): Command => {
  const command = withFiles(
    withOutput(new Command('check').description('every fault of a set of policies, by file and line; needs no server')),
  )
  return command.action(async (named: string | undefined) => {
    const { output, config } = command.opts<OutputOptions & ConfigOption>()
    const { directory, files } = readPolicies(io, named, config)
    const { faults, policies } = compilePolicies(await loadCedar(), files)
    if (output !== 'table') writeRows(io, output, faults, faultView)
    else tellFaults(io, directory, faults)
    if (policies !== null && output === 'table')
      io.err(
        `${policies.statements.length} statements, ${policies.services.length} services, ${policies.tests.length} cases\n`,
      )
    if (faults.length > 0) io.setExitCode(hasErrors(faults) ? 2 : 10)
  })
}

/** @throws CliError `usage` */
const refuseFaulty = (io: CommandIo, directory: string, faults: Parameters<typeof tellFaults>[2]): void => {
  tellFaults(io, directory, faults)
  const errors = faults.filter(({ severity }) => severity === 'error').length
  if (errors > 0) throw new CliError('usage', `${directory}: ${errors} faults`, { hint: 'agentca policy check' })
}

/** Cases that describe their callers need nobody's registrations. */
const testHere = async (policies: Policies): Promise<readonly PolicyTestAnswer[]> => {
  using evaluator = createPolicyEvaluator(await loadCedar(), policies)
  return runPolicyTests(evaluator, () => null, Date.now())
}

const needsServer = ({ tests }: Policies): boolean =>
  tests.some(test => !describesCaller(test) && (test.agent ?? test.service) !== undefined)

const testCommand = (io: CommandIo): Command =>
  online<ConfigOption, [string | undefined]>(
    io,
    withFiles(
      new Command('test').description(
        'run the cases of tests/*.yaml; a server is asked only about registrations that they name',
      ),
    ),
    async ({ client, options, format }, named) => {
      const { directory, files } = readPolicies(io, named, options.config)
      const { faults, policies } = compilePolicies(await loadCedar(), files)
      refuseFaulty(io, directory, faults)
      const found = policies as Policies
      const tests = needsServer(found)
        ? (await client.call('policiesPlan', { body: { files: { ...files } } })).tests
        : await testHere(found)
      writeRows(io, format, tests, testView)
      tellFailures(io, tests)
      const failed = tests.filter(({ problem }) => problem !== null).length
      if (format === 'table') io.err(`${tests.length - failed} of ${tests.length} cases hold\n`)
      if (failed > 0) io.setExitCode(9)
    },
  )

const diffCommand = (io: CommandIo): Command =>
  online<ConfigOption, [string | undefined]>(
    io,
    withFiles(new Command('diff').description('who would gain and who would lose what, against what is in force')),
    async ({ client, options, format }, named) => {
      const { directory, files } = readPolicies(io, named, options.config)
      const plan = await client.call('policiesPlan', { body: { files: { ...files } } })
      refuseFaulty(io, directory, plan.faults)
      writeDifferences(io, format, plan.differences)
    },
  )

const tellApplied = ({ io, format }: Session<object>, answer: PolicyAppliedAnswer): void => {
  if (format === 'json') writeJson(io, answer)
  else if (format === 'name') io.out(`${answer.version ?? 'none'}\n`)
  else writeDifferences(io, format, answer.differences)
  if (answer.dryRun) io.err('dry run, nothing was changed\n')
  else io.err(`policies ${answer.version} are in force; ${answer.changed} registrations changed\n`)
}

const applyCommand = (io: CommandIo): Command =>
  online<ChangeOptions, [string | undefined]>(
    io,
    withChange(withFiles(new Command('apply').description('put a set of policies in force; every case must hold'))),
    async (session, named) => {
      const { client, options } = session
      const { directory, files } = readPolicies(io, named, options.config)
      const body = { files: { ...files } as Record<string, string>, why: options.why, dryRun: options.dryRun }
      const answer = await client.call('policiesApply', { body })
      tellFaults(io, directory, answer.faults)
      tellApplied(session, answer)
    },
  )

const versionArgument = (text: string): number => {
  if (!/^[1-9][0-9]{0,8}$/.test(text)) throw new CliError('usage', `expected the number of a version, got ${text}`)
  return Number(text)
}

const rollbackCommand = (io: CommandIo): Command =>
  online<ChangeOptions, [string | undefined]>(
    io,
    withChange(
      new Command('rollback')
        .description('put an earlier version in force again')
        .argument('[version]', 'default: the one that was in force before'),
    ),
    async (session, named) => {
      const { client, options } = session
      const version = named === undefined ? await versionBefore(session) : versionArgument(named)
      const body = { version, why: options.why, dryRun: options.dryRun }
      tellApplied(session, await client.call('policiesRollback', { body }))
    },
  )

/** @throws CliError `usage` */
const versionBefore = async ({ client }: Session<object>): Promise<number> => {
  const { items } = await client.call('policiesList')
  const [before] = items
    .filter(({ state }) => state !== 'active')
    .toSorted((a, b) => Date.parse(b.activatedAt) - Date.parse(a.activatedAt) || b.version - a.version)
  if (before === undefined) throw new CliError('usage', 'there is no earlier version', { hint: 'agentca policy list' })
  return before.version
}

const writeFilesOf = (io: CommandIo, files: PolicyFiles): void => {
  for (const [name, text] of Object.entries(files)) io.out(`// ${name}\n${text}${text.endsWith('\n') ? '' : '\n'}\n`)
}

const showCommand = (io: CommandIo): Command =>
  online<object, [string]>(
    io,
    new Command('show').description('the files of one version').argument('[version]', 'its number', 'active'),
    async ({ client, format }, version) => {
      const { files, ...summary } = await client.call('policiesShow', { params: { version } })
      if (format === 'json') writeJson(io, { ...summary, files })
      else if (format === 'table') writeFilesOf(io, files)
      else writeOne(io, format, summary, versionView)
    },
  )

export const policyCommand = (io: CommandIo): Command =>
  new Command('policy')
    .description('who may do what, by Cedar policies')
    .addCommand(checkCommand(io))
    .addCommand(testCommand(io))
    .addCommand(diffCommand(io))
    .addCommand(applyCommand(io))
    .addCommand(rollbackCommand(io))
    .addCommand(
      online(io, new Command('list').description('every version, newest first'), async ({ client, format }) =>
        writeRows(io, format, (await client.call('policiesList')).items, versionView),
      ),
    )
    .addCommand(showCommand(io))
    .addCommand(explainCommand(io))
    .addCommand(suggestCommand(io))
