// Values as people type them: durations, times, numbers, `key=value`. Each parser throws commander's error, which names the option.
import { InvalidArgumentError } from 'commander'
import { parseDuration } from '../schema/document.ts'

/** `90s`, `10m`, `1h`, `30d` in seconds. */
export const secondsArgument = (text: string): number => {
  const seconds = parseDuration(text)
  if (seconds === null) throw new InvalidArgumentError('expected a duration such as 90s, 10m, 1h or 30d')
  return seconds
}

const dateForm = /^\d{4}-\d{2}-\d{2}$/
const timeForm = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2})$/

/** A date is its first instant in UTC, a duration counts from `now`. @returns RFC 3339 in UTC, or null */
export const parseMoment = (text: string, now: number): string | null => {
  const seconds = parseDuration(text)
  if (seconds !== null) return new Date(now + seconds * 1000).toISOString()
  if (!dateForm.test(text) && !timeForm.test(text)) return null
  const at = Date.parse(text)
  // Date.parse rolls 2027-02-30 over into March.
  if (Number.isNaN(at) || (dateForm.test(text) && new Date(at).toISOString().slice(0, 10) !== text)) return null
  return new Date(at).toISOString()
}

export const momentArgument = (text: string): string => {
  const moment = parseMoment(text, Date.now())
  if (moment === null)
    throw new InvalidArgumentError('expected 2027-01-01, 2027-01-01T12:00:00Z, or a duration from now such as 30d')
  return moment
}

/** The same, or `never`, which takes an end date away. Words, because commander has no null. */
export const momentOrNeverArgument = (text: string): string => (text === 'never' ? text : momentArgument(text))

export const countArgument = (text: string): number => {
  if (!/^(?:0|[1-9][0-9]{0,8})$/.test(text)) throw new InvalidArgumentError('expected a whole number')
  return Number(text)
}

/** For options that may be given several times. */
export const listArgument = (text: string, previous: readonly string[] | undefined): readonly string[] => [
  ...(previous ?? []),
  text,
]

/** `key=value`, several times. */
export const pairArgument = (
  text: string,
  previous: Readonly<Record<string, string>> | undefined,
): Readonly<Record<string, string>> => {
  const at = text.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('expected KEY=VALUE')
  const key = text.slice(0, at)
  if (previous !== undefined && Object.hasOwn(previous, key)) throw new InvalidArgumentError(`${key} is given twice`)
  return { ...previous, [key]: text.slice(at + 1) }
}
