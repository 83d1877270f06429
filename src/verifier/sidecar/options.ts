// Command lines: one table of options for each command, read by node's own parser, shown as help. What a value means is read where it is
// used; here every option that is unknown, missing or given twice is told, with the cure.
import { parseArgs } from 'node:util'
import { messageOf } from '../../base/errors.ts'
import { SidecarError, usage } from './errors.ts'

export interface OptionSpec {
  /** What stands for the value in the help; null: a flag. */
  readonly value: string | null
  readonly many?: true
  readonly short?: string
  readonly choices?: readonly string[]
  readonly help: string
  /** Begins a group in the help. */
  readonly group?: string
}

export type OptionTable = Readonly<Record<string, OptionSpec>>

export interface GivenOptions {
  has(name: string): boolean
  one(name: string): string | null
  /** @throws SidecarError `usage` */
  need(name: string): string
  many(name: string): readonly string[]
  readonly positionals: readonly string[]
}

export interface CommandSpec {
  readonly usage: string
  readonly about: string
  readonly options: OptionTable
  /** How many words beside options. */
  readonly positionals: number
  readonly examples: readonly string[]
}

const columns = 78

const wrapped = (text: string, width: number): readonly string[] => {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + word.length >= width) {
      lines.push(line)
      line = ''
    }
    line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}

export const helpOf = ({ usage: line, about, options, examples }: CommandSpec): string => {
  const left = Object.entries(options).map(([name, { value, short }]) => {
    const flag = `${short === undefined ? '' : `-${short}, `}--${name}`
    return value === null ? flag : `${flag} ${value}`
  })
  const width = Math.min(34, Math.max(...left.map(each => each.length)))
  const rows = Object.values(options).flatMap(({ help, choices, many, group }, at) => {
    const notes = [choices === undefined ? '' : ` (${choices.join(', ')})`, many === true ? '; may be repeated' : '']
    const [first = '', ...rest] = wrapped(`${help}${notes.join('')}`, columns - width)
    const flag = left[at] as string
    const own =
      flag.length > width ? [`  ${flag}`, `  ${' '.repeat(width)}  ${first}`] : [`  ${flag.padEnd(width)}  ${first}`]
    return [
      ...(group === undefined ? [] : ['', `${group}:`]),
      ...own,
      ...rest.map(each => `  ${' '.repeat(width)}  ${each}`),
    ]
  })
  const shown = examples.map(each => `  ${each}`)
  return [`Usage: ${line}`, '', ...wrapped(about, columns), ...rows, '', 'Examples:', ...shown, ''].join('\n')
}

/** What node's parser says, in one line. */
const complaint = (error: unknown): string => messageOf(error).split(/[.\n]/)[0]?.toLowerCase() ?? 'wrong usage'

/** @throws SidecarError `usage` */
export const parseOptions = (command: string, spec: CommandSpec, argv: readonly string[]): GivenOptions => {
  const hint = `agentca-verify ${command} --help`
  const parsed = (() => {
    try {
      return parseArgs({
        args: [...argv],
        allowPositionals: true,
        strict: true,
        options: Object.fromEntries(
          Object.entries(spec.options).map(([name, { value, short }]) => [
            name,
            {
              type: value === null ? 'boolean' : 'string',
              multiple: true,
              ...(short === undefined ? {} : { short }),
            } as const,
          ]),
        ),
      })
    } catch (error) {
      throw new SidecarError('usage', complaint(error), { hint })
    }
  })()
  if (parsed.positionals.length > spec.positionals)
    throw usage(`unexpected argument ${parsed.positionals[spec.positionals]}`, hint)
  const values = parsed.values as Readonly<Record<string, readonly (string | boolean)[] | undefined>>
  for (const [name, { many, choices }] of Object.entries(spec.options)) {
    const given = values[name] ?? []
    if (given.length > 1 && many !== true) throw usage(`--${name} was given ${given.length} times`, hint)
    for (const value of given) {
      if (value === '') throw usage(`--${name} is empty`, hint)
      if (choices !== undefined && !choices.includes(value as string))
        throw usage(`--${name}: expected ${choices.join(', ')}, got "${value}"`, hint)
    }
  }
  const one = (name: string): string | null => (values[name]?.[0] as string | undefined) ?? null
  return {
    has: name => values[name] !== undefined,
    one,
    need: name => {
      const value = one(name)
      if (value === null) throw usage(`--${name} is missing`, hint)
      return value
    },
    many: name => (values[name] ?? []) as readonly string[],
    positionals: parsed.positionals,
  }
}
