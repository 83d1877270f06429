// YAML text to a validated value: the one door to zod and yaml. All faults at once, unknown keys included.
import { isMap, isScalar, isSeq, parseDocument, visit } from 'yaml'
import * as z from 'zod'
import { type Fault, SchemaError } from './errors.ts'

/** Longer than any file a person writes by hand. */
const maxTextLength = 262_144

/** Every fault of a zod error, with its path. */
export const faultsOf = (error: z.ZodError): readonly Fault[] =>
  error.issues.flatMap(issue => {
    const path = issue.path.map(String).join('.')
    if (issue.code === 'unrecognized_keys')
      return issue.keys.map(key => ({ path: [...issue.path.map(String), key].join('.'), problem: 'unknown key' }))
    return [{ path, problem: issue.message.charAt(0).toLowerCase() + issue.message.slice(1) }]
  })

/**
 * @param source what the text is called in messages: a file's name
 * @throws SchemaError with every fault of the text
 */
export const parseYaml = <T extends z.ZodType>(schema: T, text: string, source: string): z.output<T> => {
  if (text.length > maxTextLength)
    throw new SchemaError(source, [{ path: '', problem: `expected at most ${maxTextLength} characters` }])
  const document = parseDocument(text, { uniqueKeys: true, version: '1.2' })
  const faults: Fault[] = document.errors.map(error => ({ path: '', problem: error.message.split('\n')[0] as string }))
  // Aliases make a short text long; nothing here needs them.
  visit(document, {
    Alias: () => {
      faults.push({ path: '', problem: 'aliases are not allowed' })
    },
    // zod leaves it out without a word, and what is left out would be a misspelt key like any other.
    Pair: (_, { key }) => {
      if (isScalar(key) && key.value === '__proto__') faults.push({ path: '__proto__', problem: 'unknown key' })
      if (!isScalar(key)) faults.push({ path: '', problem: 'expected keys to be texts' })
    },
  })
  if (faults.length === 0 && document.contents !== null && !isMap(document.contents) && !isSeq(document.contents))
    faults.push({ path: '', problem: 'expected keys and values' })
  if (faults.length > 0) throw new SchemaError(source, faults)
  const result = schema.safeParse(document.toJS() ?? {})
  if (!result.success) throw new SchemaError(source, faultsOf(result.error))
  return result.data
}

const unitSeconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 }

/** `90s`, `10m`, `1h`, `30d`: a whole number and one unit. @returns seconds, or null */
export const parseDuration = (text: string): number | null => {
  const match = /^([1-9][0-9]{0,8})([smhd])$/.exec(text)
  return match === null ? null : Number(match[1]) * (unitSeconds[match[2] as string] as number)
}

/** A duration in seconds, written as text. */
export const duration = z.string().transform((text, context) => {
  const seconds = parseDuration(text)
  if (seconds !== null) return seconds
  context.addIssue({
    code: 'custom',
    message: `expected a duration such as 90s, 10m, 1h or 30d, got ${JSON.stringify(text)}`,
  })
  return z.NEVER
})
