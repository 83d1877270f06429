// How many signatures each key made for each purpose, ever. Numbers are reserved on disk in blocks before they are used, so that a
// crash over-counts and never under-counts: the core compares them with its ledger to find signatures nobody asked for.
import { join } from 'node:path'
import { readIfPresent, writeDurably } from './durable-file.ts'
import { TokenError } from './errors.ts'
import type { SignatureCount, SignPurpose } from './port.ts'

interface Counter {
  total: number
  reserved: number
  uncertain: number
  sinceStart: number
}

interface Stored {
  readonly total: number
  readonly reserved: number
  readonly uncertain: number
}

export interface SignatureCounters {
  /** Before C_Sign. Durable for this call when it returns. */
  increment(key: string, purpose: SignPurpose): void
  counts(): readonly SignatureCount[]
  /** Writes the exact numbers: after this, a start has nothing in doubt. */
  close(): void
}

/** One fsync for this many signatures; also the most that one crash can put in doubt per key and purpose. */
export const counterBlock = 1000

const isStored = (value: unknown): value is Stored => {
  const { total, reserved, uncertain } = (value ?? {}) as Record<string, unknown>
  return [total, reserved, uncertain].every(n => Number.isSafeInteger(n) && (n as number) >= 0)
}

const load = (path: string): Map<string, Counter> => {
  const text = readIfPresent(path)
  const counters = new Map<string, Counter>()
  if (text === null) return counters
  let stored: unknown
  try {
    stored = JSON.parse(text)
  } catch {
    stored = null
  }
  const damaged = (): never => {
    // Starting from zero would hide rogue signatures: an operator decides.
    throw new TokenError('signer_config_invalid', `the signature counters in ${path} are damaged`, {
      hint: 'restore the file from a backup',
    })
  }
  if (typeof stored !== 'object' || stored === null) damaged()
  for (const [name, value] of Object.entries(stored as object)) {
    if (!isStored(value)) return damaged()
    const { total, reserved, uncertain } = value
    counters.set(name, { total: reserved, reserved, uncertain: uncertain + (reserved - total), sinceStart: 0 })
  }
  return counters
}

export const createCounters = (directory: string): SignatureCounters => {
  const path = join(directory, 'signature-counts.json')
  const counters = load(path)
  /** Memory follows the disk: what could not be written was not reserved, and the next signature tries again. */
  const reserve = (reservations: ReadonlyMap<Counter, number>): void => {
    const stored: Record<string, Stored> = {}
    for (const [name, counter] of counters) {
      const { total, uncertain } = counter
      stored[name] = { total, reserved: reservations.get(counter) ?? counter.reserved, uncertain }
    }
    writeDurably(path, `${JSON.stringify(stored, null, 1)}\n`)
    for (const [counter, reserved] of reservations) counter.reserved = reserved
  }
  return {
    increment(key, purpose) {
      const name = `${key}/${purpose}`
      let counter = counters.get(name)
      if (!counter) {
        counter = { total: 0, reserved: 0, uncertain: 0, sinceStart: 0 }
        counters.set(name, counter)
      }
      if (counter.total >= counter.reserved) reserve(new Map([[counter, counter.total + counterBlock]]))
      counter.total++
      counter.sinceStart++
    },
    counts: () =>
      [...counters].map(([name, counter]) => {
        const slash = name.lastIndexOf('/')
        return { key: name.slice(0, slash), purpose: name.slice(slash + 1) as SignPurpose, ...counter }
      }),
    close() {
      reserve(new Map([...counters.values()].map(counter => [counter, counter.total])))
    },
  }
}
