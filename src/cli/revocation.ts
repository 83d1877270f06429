// One revocation at the command line, whatever selected it: what it would hit, the consent, the deed, and how far it is known to
// have got.
import { type Command, InvalidArgumentError, Option } from 'commander'
import { isRevocationReason, revocationReasons } from '../pki/crl-reasons.ts'
import type { FeedAppliedAnswer, RevocationAnswer } from '../schema/admin-answers.ts'
import type { AdminBodyInput } from '../schema/admin-api.ts'
import { appliedText, awaitApplied } from './applied.ts'
import { secondsArgument } from './arguments.ts'
import { confirmName, confirmRadius, describeRadius, hitCount, withDryRun } from './confirmation.ts'
import { CliError } from './errors.ts'
import type { CommandIo } from './io.ts'
import type { Session } from './online.ts'
import { type Format, writeFields, writeJson } from './output.ts'
import { awaitPublication, type Publication } from './publication.ts'

export interface RevocationOptions {
  readonly reason: string
  readonly why?: string
  readonly wait?: number
  readonly yes?: true
  readonly confirm?: string
  readonly dryRun?: true
}

/** A hold is reversible and has its own commands; removal from a list is what their end does. */
export const reasonNames = Object.keys(revocationReasons).filter(
  name => name !== 'certificateHold' && name !== 'removeFromCRL',
)

const reasonArgument = (text: string): string => {
  if (text === 'certificateHold')
    throw new InvalidArgumentError('certificateHold can be taken back: use agentca agent hold NAME')
  if (!isRevocationReason(text) || !reasonNames.includes(text))
    throw new InvalidArgumentError(`expected one of ${reasonNames.join(', ')}`)
  return text
}

/** The choices are known to completion, the parser says more than commander would. */
const reasonOption = (): Option => {
  const option = new Option('--reason <name>', 'RFC 5280 reason: keyCompromise, superseded, …').choices(reasonNames)
  return option.argParser(reasonArgument).makeOptionMandatory()
}

export const withRevocation = (command: Command): Command =>
  withDryRun(command)
    .addOption(reasonOption())
    .option('--why <text>', 'for the audit log')
    .option(
      '--wait <duration>',
      'wait until every service that follows the feed has applied it, or, where none does, until the published CRLs show it',
      secondsArgument,
    )
    .option('-y, --yes', 'do not ask, where at most one certificate is hit')
    .option('--confirm <count>', 'how many certificates you saw and accept to be hit; for a CA its name')

export interface Selector {
  readonly by: AdminBodyInput<'revoke'>['by']
  readonly value: string
}

const consent = async (
  io: CommandIo,
  selector: Selector,
  preview: RevocationAnswer,
  command: string,
  options: RevocationOptions,
): Promise<number> => {
  const change = `revoke by ${selector.by} ${selector.value}`
  if (selector.by === 'issuer') {
    confirmName(change, command, selector.value, options.confirm)
    return hitCount(preview.radius)
  }
  const { confirm, yes } = options
  return confirmRadius(
    io,
    { change, command, radius: preview.radius },
    { ...(yes === undefined ? {} : { yes }), ...(confirm === undefined ? {} : { confirm: Number(confirm) }) },
  )
}

/** How far it is known to have got; neither where nobody waits for it. */
interface Reached {
  readonly applied?: FeedAppliedAnswer
  readonly publication?: Publication
}

const awaitReached = async (
  client: Session<RevocationOptions>['client'],
  { feed, radius }: RevocationAnswer,
  waitSeconds: number | undefined,
): Promise<Reached> => {
  if (waitSeconds === undefined) return {}
  const applied = feed === null ? null : await awaitApplied(client, feed.n, waitSeconds)
  if (applied !== null) return { applied }
  return { publication: await awaitPublication(client, radius.serials, waitSeconds) }
}

const writeRevocation = (io: CommandIo, format: Format, answer: RevocationAnswer, reached: Reached): void => {
  const { applied, publication } = reached
  if (format === 'json' || format === 'jsonl') {
    writeJson(io, { ...answer, ...reached }, format)
    return
  }
  if (format === 'name') {
    for (const serial of answer.radius.serials) io.out(`${serial}\n`)
    return
  }
  writeFields(io, [
    [answer.by, answer.value],
    ['reason', answer.reason],
    ['certificates', hitCount(answer.radius)],
    ['instances', answer.radius.instances],
    ['tokens', answer.radius.tokens],
    ['at', answer.at],
    ['feed', answer.feed === null ? null : `${answer.feed.epoch}.${answer.feed.n}`],
    ...(applied === undefined ? [] : [['verifiers', appliedText(applied)] as const]),
    ...(publication === undefined ? [] : [['crl', `${publication.state} after ${publication.afterMs} ms`] as const]),
  ])
}

const tellApplied = (io: CommandIo, { missing }: FeedAppliedAnswer): void => {
  if (missing.length === 0) return
  io.setExitCode(8)
  io.err(`revoked and recorded; not applied everywhere yet: ${missing.length} stale\n  hint: agentca feed status\n`)
}

const tellPublication = (io: CommandIo, publication: Publication): void => {
  if (publication.state === 'published') return
  io.setExitCode(8)
  const what =
    publication.state === 'unseen'
      ? 'the published CRLs cannot be seen from here'
      : `${publication.missing} not on the published CRLs yet`
  io.err(`revoked and recorded; ${what}${publication.detail === null ? '' : `: ${publication.detail}`}\n`)
  io.err('  hint: agentca crl status\n')
}

/** @param command the same command without its confirmation, for hints */
export const performRevocation = async (
  { io, client, options, format }: Session<RevocationOptions>,
  selector: Selector,
  command: string,
): Promise<void> => {
  if (selector.by !== 'issuer' && options.confirm !== undefined && !/^\d{1,9}$/.test(options.confirm))
    throw new CliError('usage', `expected --confirm COUNT, got ${options.confirm}`, { hint: `${command} --dry-run` })
  const revoke = (dryRun: boolean, expected?: number) =>
    client.call('revoke', { body: { ...selector, reason: options.reason, why: options.why, expected, dryRun } })
  const preview = await revoke(true)
  io.err(`${options.dryRun ? 'dry run: ' : ''}this ends ${describeRadius(preview.radius)}\n`)
  if (options.dryRun === true) {
    writeRevocation(io, format, preview, {})
    return
  }
  const expected = await consent(io, selector, preview, `${command} --reason ${options.reason}`, options)
  const answer = await revoke(false, expected)
  const reached = await awaitReached(client, answer, options.wait)
  writeRevocation(io, format, answer, reached)
  if (reached.applied !== undefined) tellApplied(io, reached.applied)
  if (reached.publication !== undefined) tellPublication(io, reached.publication)
}
