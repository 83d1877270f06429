// Keeps a wrong PIN from locking the token: a PIN that failed is never sent again, not even by a new process, until it changes or
// an operator unlocks. The file keeps a salted hash of the failing PIN, never the PIN.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { join } from 'node:path'
import { modifiedAt, readIfPresent, removeDurably, writeDurably } from './durable-file.ts'

interface LatchRecord {
  readonly saltHex: string
  readonly pinSha256Hex: string
  /** `pending`: a login was begun and its end never recorded, for example because the process was killed inside C_Login. */
  readonly state: 'pending' | 'latched'
  readonly unfinished: number
  readonly reason: string
}

export interface PinLatch {
  /** @returns why this PIN must not be tried, or null when it may */
  blocks(pin: string): string | null
  /** Durable before C_Login: a process that dies inside leaves a trace, and two such traces latch. */
  begin(pin: string): void
  succeeded(): void
  /** The token refused this PIN. */
  failed(pin: string, reason: string): void
  /** An operator's word: forget. */
  clear(): void
  /** Whether some PIN is latched, whichever is in the file now. */
  isLatched(): boolean
  /** When it last learned something, milliseconds since the epoch; null: it knows nothing. */
  changedAt(): number | null
}

const maxUnfinished = 2

const hashOf = (saltHex: string, pin: string): Buffer =>
  createHash('sha256').update(saltHex).update(pin, 'utf8').digest()

const parseRecord = (text: string): LatchRecord | null => {
  try {
    const value = JSON.parse(text) as LatchRecord
    return typeof value.saltHex === 'string' && typeof value.pinSha256Hex === 'string' ? value : null
  } catch {
    return null
  }
}

export const createPinLatch = (directory: string): PinLatch => {
  const path = join(directory, 'pin-latch.json')
  // An unreadable record blocks every PIN: it is the safe reading of a damaged latch.
  const read = (): LatchRecord | 'damaged' | null => {
    const text = readIfPresent(path)
    return text === null ? null : (parseRecord(text) ?? 'damaged')
  }
  const matches = (record: LatchRecord, pin: string): boolean => {
    const expected = Buffer.from(record.pinSha256Hex, 'hex')
    const actual = hashOf(record.saltHex, pin)
    return expected.length === actual.length && timingSafeEqual(expected, actual)
  }
  const write = (pin: string, rest: Pick<LatchRecord, 'state' | 'unfinished' | 'reason'>): void => {
    const saltHex = randomBytes(16).toString('hex')
    writeDurably(path, `${JSON.stringify({ saltHex, pinSha256Hex: hashOf(saltHex, pin).toString('hex'), ...rest })}\n`)
  }
  return {
    blocks(pin) {
      const record = read()
      if (record === null) return null
      if (record === 'damaged') return `the latch file ${path} is damaged`
      if (!matches(record, pin)) return null
      if (record.state === 'latched') return record.reason
      return record.unfinished >= maxUnfinished ? `${record.unfinished} logins with this PIN never ended` : null
    },
    begin(pin) {
      const record = read()
      const earlier = record !== null && record !== 'damaged' && matches(record, pin) ? record.unfinished : 0
      write(pin, { state: 'pending', unfinished: earlier + 1, reason: '' })
    },
    succeeded: () => removeDurably(path),
    failed: (pin, reason) => write(pin, { state: 'latched', unfinished: 0, reason }),
    clear: () => removeDurably(path),
    changedAt: () => modifiedAt(path),
    isLatched() {
      const record = read()
      return (
        record === 'damaged' || (record !== null && (record.state === 'latched' || record.unfinished >= maxUnfinished))
      )
    },
  }
}
