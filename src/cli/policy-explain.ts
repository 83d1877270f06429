// `agentca policy explain` and `suggest`: why a call is decided as it is, and what an agent would need for what it really does.

import { Command } from 'commander'
import { printable } from '../base/printable.ts'
import type { AdminBodyInput } from '../schema/admin-api.ts'
import type { PolicyExplainAnswer, PolicySuggestAnswer, PolicyWayAnswer } from '../schema/policy-answers.ts'
import { countArgument, momentArgument, pairArgument } from './arguments.ts'
import { CliError } from './errors.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { writeFields, writeJson, writeRows } from './output.ts'

type Values = Record<string, string | number | boolean>

/** As actions.yaml has them: whole numbers and truth are not text. */
const valuesOf = (pairs: Readonly<Record<string, string>> | undefined): Values =>
  Object.fromEntries(
    Object.entries(pairs ?? {}).map(([name, text]) => {
      if (text === 'true' || text === 'false') return [name, text === 'true']
      return [name, /^-?(?:0|[1-9][0-9]{0,15})$/.test(text) ? Number(text) : text]
    }),
  )

interface ExplainOptions {
  readonly service?: true
  readonly resourceAttribute?: Readonly<Record<string, string>>
  readonly context?: Readonly<Record<string, string>>
  readonly source?: string
  readonly rate?: number
  readonly at?: string
}

/** `Tool::name`, `Resource::name`; a bare name is a Resource's. */
const resourceOf = (text: string, attributes: Values) => {
  const [, type = 'Resource', id = ''] = /^(?:(Tool|Resource)::)?(.+)$/.exec(text) ?? []
  if (id === '') throw new CliError('usage', `expected Tool::NAME or Resource::NAME, got ${text}`)
  return { type: type as 'Tool' | 'Resource', id: id.replace(/^"(.*)"$/, '$1'), attributes }
}

const bodyOf = (
  options: ExplainOptions,
  name: string,
  action: string,
  resource: string | undefined,
): AdminBodyInput<'policiesExplain'> => {
  const attributes = valuesOf(options.resourceAttribute)
  if (resource === undefined && Object.keys(attributes).length > 0)
    throw new CliError('usage', '--resource-attribute needs a resource', {
      hint: 'agentca policy explain NAME ACTION RESOURCE',
    })
  return {
    kind: options.service === true ? 'service' : 'agent',
    name,
    action,
    resource: resource === undefined ? undefined : resourceOf(resource, attributes),
    context: valuesOf(options.context),
    source: options.source,
    rate: options.rate,
    time: options.at,
  }
}

const grants: Readonly<Record<PolicyExplainAnswer['grant'], string>> = {
  scope: 'for every call: services that look scopes up let it in',
  conditional: 'for some calls: only a service that asks with the call lets it in',
  none: 'for no call',
}

const wayText = ({ changes, command, statement }: PolicyWayAnswer): string =>
  `${changes.join(' and ')}${command === null ? '' : `: ${command}`}${statement === null ? '' : `: ${statement}`}`

const writeExplanation = (io: CommandIo, answer: PolicyExplainAnswer): void => {
  const { kind, name, action, decision, grant, version, by, failed, ways } = answer
  writeFields(io, [
    ['decision', decision],
    ['who', `${kind} ${name}`],
    ['action', action],
    ['granted', grants[grant]],
    ['policies', version],
  ])
  if (by.length === 0) io.out('\nno statement permits it\n')
  for (const { id, file, line, text, until } of by)
    io.out(`\n${id} (${file}:${line})${until === null ? '' : `, until ${until}`}\n${text.replace(/^/gm, '  ')}\n`)
  for (const { statement, problem } of failed) io.out(`\n${statement} could not be evaluated: ${printable(problem)}\n`)
  io.out(`\nwhat would turn it:\n`)
  for (const way of ways) io.out(`  ${printable(wayText(way))}\n`)
}

export const explainCommand = (io: CommandIo): Command =>
  online<ExplainOptions, [string, string, string | undefined]>(
    io,
    new Command('explain')
      .description('which statement allows or denies, and the smallest change that would turn it')
      .argument('<name>', 'the agent')
      .argument('<action>', 'SERVICE:VERB')
      .argument('[resource]', 'Tool::NAME or Resource::NAME; without it the service itself, as a scope is')
      .option('--service', 'the caller is a service')
      .option('--resource-attribute <key=value>', 'of the resource, repeated', pairArgument)
      .option('--context <key=value>', 'what the service says of the call, repeated', pairArgument)
      .option('--source <address>', 'where the call comes from')
      .option('--rate <count>', 'calls within the last minute', countArgument)
      .option('--at <time>', 'when it is made; default: now', momentArgument),
    async ({ client, options, format }, name, action, resource) => {
      const answer = await client.call('policiesExplain', { body: bodyOf(options, name, action, resource) })
      if (format === 'json') writeJson(io, answer)
      else writeExplanation(io, answer)
      if (answer.decision === 'deny') io.setExitCode(5)
    },
    ['table', 'json'],
  )

const tellSuggestion = (io: CommandIo, { text, since, name, unused, undeclared }: PolicySuggestAnswer): void => {
  io.out(text)
  if (text === '') io.err(`since ${since} ${name} did nothing that a service declares\n`)
  if (unused.length > 0) io.err(`granted and not used since ${since}: ${unused.join(', ')}\n`)
  if (undeclared.length > 0) io.err(`done, and declared by no service in actions.yaml: ${undeclared.join(', ')}\n`)
}

export const suggestCommand = (io: CommandIo): Command =>
  online<{ readonly days: number; readonly used?: true }, [string]>(
    io,
    new Command('suggest')
      .description('the narrowest policy for what an agent really did, and grants that it never used')
      .argument('<agent>')
      .option('--days <count>', 'how far back', countArgument, 30)
      .option('--used', 'show what it did instead'),
    async ({ client, options, format }, name) => {
      const answer = await client.call('policiesSuggest', { query: { name, days: options.days } })
      if (format === 'json') writeJson(io, answer)
      else if (options.used === true)
        writeRows(io, format, answer.used, {
          columns: (['action', 'allowed', 'denied', 'last'] as const).map(each => ({
            name: each,
            value: row => row[each],
          })),
          name: row => row.action,
        })
      else tellSuggestion(io, answer)
    },
  )
