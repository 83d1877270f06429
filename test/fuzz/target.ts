// What a fuzz target is: one parser, what it reads, and what must hold of everything that it accepts. The inputs come from elsewhere: the
// properties of parsers.test.ts, or the coverage-guided loop of scripts/fuzz.
import assert from 'node:assert/strict'
import { isAgentCaError } from '../../src/base/errors.ts'

/** What OpenSSL and Go must accept too when we do. */
export type ForeignForm = 'certificate' | 'csr' | 'crl' | 'ocsp-request'

export interface FuzzTarget {
  readonly name: string
  /** Which mutations have a chance to get far. */
  readonly form: 'der' | 'text' | 'binary'
  /** Inputs that are read, and what is near them. */
  readonly seeds: () => readonly Uint8Array[]
  /** Words that inputs are made of. */
  readonly words?: readonly string[]
  /** Longer ones are cut off before they are tried. */
  readonly maxLength: number
  /**
   * Reads, looks at everything that was read, and checks what must hold of it.
   * @returns what was read, for comparison; undefined: refused without an error, as the parser's own contract has it
   * @throws AgentCaError for a refusal; anything else is a finding
   */
  readonly read: (bytes: Uint8Array) => unknown
  /** What was read written again. `exact`: the very bytes that were read, else bytes that say the same. */
  readonly write?: { readonly exact: boolean; readonly of: (value: never) => Uint8Array }
  readonly foreign?: ForeignForm
}

const maxDepth = 12

/** Every property and getter, followed: what is read lazily is read now. A refusal inside is a value like others, and counted. */
class Look {
  refusals = 0

  at(value: unknown, depth = 0): unknown {
    if (typeof value === 'bigint') return `${value}n`
    if (typeof value === 'function' || typeof value === 'symbol') return undefined
    if (typeof value !== 'object' || value === null || depth > maxDepth) return value
    if (value instanceof Uint8Array) return Buffer.from(value).toString('hex')
    if (value instanceof Map || value instanceof Set || Array.isArray(value))
      return [...value].map(each => this.at(each, depth + 1))
    const holder = value as Record<string, unknown>
    return Object.fromEntries(namesOf(value).map(name => [name, this.#member(holder, name, depth)]))
  }

  #member(holder: Record<string, unknown>, name: string, depth: number): unknown {
    try {
      return this.at(holder[name], depth + 1)
    } catch (error) {
      if (!isAgentCaError(error)) throw error
      this.refusals++
      return { refused: error.code }
    }
  }
}

const namesOf = (value: object): readonly string[] => {
  const names = new Set(Object.keys(value))
  for (let at = Object.getPrototypeOf(value); at !== null && at !== Object.prototype; at = Object.getPrototypeOf(at))
    for (const [name, { get }] of Object.entries(Object.getOwnPropertyDescriptors(at))) if (get) names.add(name)
  return [...names]
}

/** `isWhole`: no part of it was refused when it was looked at. */
export type Outcome = { readonly read: unknown; readonly isWhole: boolean } | { readonly refused: string }

/** One input, and everything that must hold of it. @throws Error for a finding */
export const tryInput = async ({ read, write }: FuzzTarget, bytes: Uint8Array): Promise<Outcome> => {
  const before = Buffer.from(bytes)
  let value: unknown
  try {
    value = read(bytes)
    if (value instanceof Promise) value = await value
  } catch (error) {
    if (!isAgentCaError(error)) throw error
    checkRefusal(error)
    return { refused: error.code }
  }
  assert.ok(before.equals(bytes), 'the input was written to')
  if (value === undefined || value === null) return { refused: 'not accepted' }
  const look = new Look()
  const seen = look.at(value)
  if (write !== undefined) {
    const written = write.of(value as never)
    if (write.exact) assert.deepEqual(Buffer.from(written), before, 'written again it has other bytes')
    else assert.deepEqual(new Look().at(await read(written)), seen, 'written again it says something else')
  }
  return { read: seen, isWhole: look.refusals === 0 }
}

/** A message that echoes an input without end would be a way to write logs. */
const maxMessageLength = 32_768

const checkRefusal = ({ code, message }: { readonly code: string; readonly message: string }): void => {
  assert.match(code, /^[a-z][A-Za-z0-9_]*$/)
  assert.ok(message.length <= maxMessageLength, `a message of ${message.length} characters`)
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export const textOf = (bytes: Uint8Array): string | undefined => {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}

export const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))

export interface TextTarget {
  readonly name: string
  readonly seeds: readonly string[]
  readonly words?: readonly string[]
  readonly maxLength?: number
  readonly read: (text: string) => unknown
  readonly write?: { readonly exact: boolean; readonly of: (value: never) => string }
}

/** A parser of text: what is not UTF-8 never comes to it. */
export const textTarget = ({ read, write, seeds, maxLength = 4096, ...rest }: TextTarget): FuzzTarget => ({
  ...rest,
  form: 'text',
  maxLength,
  seeds: () => seeds.map(bytesOf),
  read: bytes => {
    const text = textOf(bytes)
    return text === undefined ? undefined : read(text)
  },
  ...(write === undefined ? {} : { write: { exact: write.exact, of: (value: never) => bytesOf(write.of(value)) } }),
})
