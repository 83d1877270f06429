// The daemon's options as a table: what can be typed, what is told by --help, and how text becomes values. Secrets have no option: they
// come from files and descriptors.
import { execFile } from 'node:child_process'
import { resolve } from 'node:path'
import { type ParseArgsConfig, parseArgs, promisify } from 'node:util'
import { messageOf } from '../../base/errors.ts'
import { AgentError } from '../errors.ts'
import type { AskedAccess } from '../generation.ts'
import type { AgentKeyAlgorithm } from '../key-pair.ts'
import type { AgentIdentityOptions } from '../settings.ts'
import type { DaemonIo } from './io.ts'

export interface OptionHelp {
  /** What stands for the value in --help; null: the option has none. */
  readonly value: string | null
  readonly short?: string
  readonly help: string
}

export type OptionTable = Readonly<Record<string, OptionHelp>>
export type Values = Readonly<Record<string, string | boolean | undefined>>

export const identityOptions: OptionTable = {
  url: { value: 'URL', help: 'API of the CA, https://HOST:PORT (AGENTCA_URL)' },
  'ca-file': { value: 'FILE', help: 'the roots to trust, PEM (AGENTCA_CA_FILE)' },
  'ca-fingerprint': { value: 'sha256:HEX', help: 'instead: the one root to trust, by the SHA-256 of its DER' },
  'token-file': { value: 'FILE', help: 'join token to enrol with (AGENTCA_TOKEN_FILE)' },
  'token-fd': { value: 'N', help: 'instead: join token from an open file descriptor (AGENTCA_TOKEN_FD)' },
  'jwt-file': { value: 'FILE', help: 'instead: a JWT that the platform keeps fresh there (AGENTCA_JWT_FILE)' },
  service: { value: 'NAME', help: 'the identity must be this service’s' },
  'key-algorithm': { value: 'NAME', help: 'P-256 (default), P-384 or Ed25519' },
  patience: { value: 'DURATION', help: 'how long the start waits for a CA that cannot answer, 2m unless given' },
}

export const directoryOptions: OptionTable = {
  dir: { value: 'DIR', help: 'where the identity lies; made if it is not there (AGENTCA_DIR)' },
  owner: { value: 'USER', help: 'user who shall own the files, name or number' },
  group: { value: 'GROUP', help: 'group of the files, name or number' },
  'key-mode': { value: 'MODE', help: 'mode of the two files that hold the key: 0400, 0440, 0600 or 0640' },
}

export const changeOptions: OptionTable = {
  'on-change': {
    value: 'COMMAND',
    help: 'run after the files changed, without a shell, AGENTCA_DIR in its environment',
  },
  'on-revoked': { value: 'COMMAND', help: 'run when the CA took the identity back' },
  signal: { value: 'NAME', help: 'signal to send after the files changed, for example HUP; with --pid-file' },
  'pid-file': { value: 'FILE', help: 'whom to send it to' },
}

export const logOptions: OptionTable = {
  'log-format': { value: 'FORMAT', help: 'text (default) or json' },
  verbose: { value: null, short: 'v', help: 'say more' },
}

export const helpOption: OptionTable = { help: { value: null, short: 'h', help: 'this text' } }
export const outputOption: OptionTable = { output: { value: 'FORMAT', short: 'o', help: 'table (default) or json' } }

/** What every command that gets or keeps an identity takes, and what is its own. */
export const identityCommand = (own: OptionTable): OptionTable => ({
  ...identityOptions,
  ...own,
  ...logOptions,
  ...helpOption,
})

const optionLine = ([name, { value, short, help }]: readonly [string, OptionHelp]): string =>
  `  ${`${short === undefined ? '    ' : `-${short}, `}--${name}${value === null ? '' : ` ${value}`}`.padEnd(34)} ${help}`

export const helpOf = (table: OptionTable): string => Object.entries(table).map(optionLine).join('\n')

export const invalid = (message: string, hint: string): AgentError => AgentError.of('option_invalid', message, { hint })

/** Edits between two words, each letter an edit: enough to find what somebody meant. */
const distance = (a: string, b: string): number => {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    row = next
  }
  return row[b.length]!
}

export const nearest = (word: string, known: readonly string[]): string | null => {
  const best = known.map(each => [distance(word, each), each] as const).sort(([a], [b]) => a - b)[0]
  return best !== undefined && best[0] <= Math.max(2, word.length / 3) ? best[1] : null
}

/**
 * @param command for messages
 * @throws AgentError `option_invalid` naming the option, with the one that was meant where that can be guessed
 */
export const parseOptions = (
  command: string,
  argv: readonly string[],
  table: OptionTable,
): { readonly values: Values; readonly positionals: readonly string[] } => {
  const hint = `agentca-agent ${command} --help`
  const options: NonNullable<ParseArgsConfig['options']> = {}
  for (const [name, { value, short }] of Object.entries(table))
    options[name] = { type: value === null ? 'boolean' : 'string', ...(short === undefined ? {} : { short }) }
  for (const arg of argv) {
    const name = /^--([^=]+)/.exec(arg)?.[1]
    if (name === undefined || Object.hasOwn(table, name)) continue
    const meant = nearest(name, Object.keys(table))
    throw invalid(`there is no option --${name}`, meant === null ? hint : `did you mean --${meant}?`)
  }
  try {
    const { values, positionals } = parseArgs({ args: [...argv], options, strict: true, allowPositionals: true })
    for (const [name, value] of Object.entries(values)) if (value === '') throw new Error(`--${name} is empty`)
    return { values: values as Values, positionals }
  } catch (error) {
    throw invalid(
      messageOf(error)
        .split('. ')[0]!
        .replace(/^Option /, 'option '),
      hint,
    )
  }
}

export const textOf = (values: Values, name: string): string | undefined => {
  const value = values[name]
  return typeof value === 'string' ? value : undefined
}

const unitSeconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 }

/** @throws AgentError `option_invalid` */
export const secondsOf = (values: Values, name: string): number | undefined => {
  const text = textOf(values, name)
  if (text === undefined) return undefined
  const match = /^(\d{1,7})([smhd])$/.exec(text)
  if (match === null) throw invalid(`--${name}: expected a duration, got ${text}`, 'for example 90s, 10m or 1h')
  return Number(match[1]) * unitSeconds[match[2]!]!
}

/** @throws AgentError `option_invalid` */
export const oneOf = <T extends string>(values: Values, name: string, known: readonly [T, ...T[]]): T => {
  const text = textOf(values, name)
  if (text === undefined) return known[0]
  const found = known.find(each => each === text)
  if (found === undefined)
    throw invalid(`--${name}: expected ${known.join(' or ')}, got ${text}`, `--${name} ${known[0]}`)
  return found
}

const run = promisify(execFile)

const idOf = async (database: 'passwd' | 'group', name: string): Promise<number> => {
  if (/^\d{1,10}$/.test(name)) return Number(name)
  const id = await run('getent', ['--', database, name]).then(
    ({ stdout }) => Number(stdout.split(':')[2]),
    () => Number.NaN,
  )
  if (Number.isSafeInteger(id)) return id
  throw invalid(`there is no ${database === 'passwd' ? 'user' : 'group'} ${name} on this machine`, `getent ${database}`)
}

const accessOf = async (values: Values): Promise<Partial<AskedAccess>> => {
  const [owner, group, mode] = [textOf(values, 'owner'), textOf(values, 'group'), textOf(values, 'key-mode')]
  if (mode !== undefined && !/^0?[46][04]0$/.test(mode))
    throw invalid(`--key-mode: expected 0400, 0440, 0600 or 0640, got ${mode}`, '--key-mode 0640')
  return {
    ...(owner === undefined ? {} : { uid: await idOf('passwd', owner) }),
    ...(group === undefined ? {} : { gid: await idOf('group', group) }),
    ...(mode === undefined ? {} : { keyMode: Number.parseInt(mode, 8) }),
  }
}

/** What the SDK takes. Paths are as the command's own directory has them. @throws AgentError `option_invalid` */
export const identityOptionsOf = async (io: DaemonIo, values: Values): Promise<AgentIdentityOptions> => {
  const path = (name: string): string | undefined => {
    const text = textOf(values, name)
    return text === undefined ? undefined : resolve(io.cwd, text)
  }
  const fd = textOf(values, 'token-fd')
  if (fd !== undefined && !/^(0|[3-9]|\d{2,6})$/.test(fd))
    throw invalid(`--token-fd: expected the number of an open file descriptor, got ${fd}`, '--token-fd 3 3<token.file')
  const patience = secondsOf(values, 'patience')
  const algorithms: readonly [AgentKeyAlgorithm, ...AgentKeyAlgorithm[]] = ['P-256', 'P-384', 'Ed25519']
  const given = {
    url: textOf(values, 'url'),
    caFile: path('ca-file'),
    caFingerprint: textOf(values, 'ca-fingerprint'),
    tokenFile: path('token-file'),
    tokenFd: fd === undefined ? undefined : Number(fd),
    jwtFile: path('jwt-file'),
    dir: path('dir'),
    service: textOf(values, 'service'),
    patienceSeconds: patience,
  }
  return {
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
    keyAlgorithm: oneOf(values, 'key-algorithm', algorithms),
    access: await accessOf(values),
  }
}
