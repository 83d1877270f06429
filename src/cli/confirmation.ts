// What a change would end, told before it is done, and the consent to it: y/N or --yes for one certificate, --confirm COUNT for many,
// --confirm NAME for a CA. The count goes to the server as well, which refuses when more would be hit by then.
import type { Command } from 'commander'
import { CaError } from '../ca/errors.ts'
import type { RadiusAnswer } from '../schema/admin-answers.ts'
import { countArgument } from './arguments.ts'
import { CliError } from './errors.ts'
import type { CommandIo } from './io.ts'

export interface ConfirmationOptions {
  readonly yes?: true
  readonly confirm?: number
  readonly dryRun?: true
}

export const withDryRun = (command: Command): Command =>
  command.option('--dry-run', 'say what would happen, and do nothing')

export const withConfirmation = (command: Command): Command =>
  withDryRun(command)
    .option('-y, --yes', 'do not ask, where at most one certificate is hit')
    .option('--confirm <count>', 'how many certificates you saw and accept to be hit', countArgument)

const counted = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`

/** Certificates that end, those being signed right now included. */
export const hitCount = (radius: RadiusAnswer): number => radius.certificates + radius.intents

export const describeRadius = (radius: RadiusAnswer): string => {
  const parts = [
    counted(radius.certificates, 'live certificate'),
    ...(radius.intents > 0 ? [`${radius.intents} being signed`] : []),
    counted(radius.instances, 'instance'),
    counted(radius.tokens, 'token'),
    ...(radius.subscriptions > 0 ? [counted(radius.subscriptions, 'subscription')] : []),
  ]
  const shown = radius.registrations.slice(0, 10).map(({ kind, name }) => `${kind} ${name}`)
  const more = radius.registrations.length - shown.length
  const whose = shown.length === 0 ? '' : ` of ${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`
  return `${parts.join(', ')}${whose}`
}

const needed = (what: string, count: number, hint: string): CaError =>
  new CaError('confirmation_needed', what, { hint, facts: { count } })

/**
 * @param change what would be done, as a sentence without its end: `retire agent billing`
 * @param command what to type again, without the confirmation
 * @returns the count that was accepted
 * @throws CaError confirmation_needed, CliError not_confirmed
 */
export const confirmRadius = async (
  io: CommandIo,
  { change, command, radius }: { readonly change: string; readonly command: string; readonly radius: RadiusAnswer },
  options: ConfirmationOptions,
): Promise<number> => {
  const count = hitCount(radius)
  if (options.confirm !== undefined) {
    if (options.confirm === count) return count
    throw needed(
      `${change} would end ${counted(count, 'certificate')}, not ${options.confirm}`,
      count,
      `${command} --confirm ${count}`,
    )
  }
  if (count > 1) throw needed(`${change} would end ${count} certificates`, count, `${command} --confirm ${count}`)
  if (options.yes === true) return count
  if (!io.isTerminal) throw needed(`${change} needs a confirmation`, count, `${command} --yes`)
  if (!(await io.confirm(`${change}?`)))
    throw new CliError('not_confirmed', `${change}: not confirmed, nothing was done`)
  return count
}

/** CA keys are named, never counted. @throws CaError confirmation_needed */
export const confirmName = (change: string, command: string, name: string, confirm: string | undefined): void => {
  if (confirm === name) return
  const wrong = confirm === undefined ? 'needs its name as a confirmation' : `is not confirmed by "${confirm}"`
  throw new CaError('confirmation_needed', `${change} ${wrong}`, { hint: `${command} --confirm ${name}` })
}
