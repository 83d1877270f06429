// What is revoked of one issuing CA, in the order of its serials, compact enough for millions: 29 octets an entry. Rows come in pages as
// the ledger has them; lists are written from here in one pass. No I/O: it works the same in the event loop and in a thread of its own.
import {
  type CrlFields,
  encodeCrlFrame,
  encodeReason,
  isRevocationReason,
  type RevocationReason,
  revocationReasons,
} from '../pki/crl.ts'
import type { OctetRange } from '../pki/crl-shards.ts'
import { derHeader, Tag, time } from '../pki/der.ts'
import { CaError } from './errors.ts'

/** Rows on their way, in one message for many. */
export interface EntryPage {
  readonly rows: number
  /** Right-aligned in 20 octets each, zeros before: 20 octets compare as the numbers do. */
  readonly serials: Uint8Array
  /** Milliseconds since the epoch. */
  readonly revokedAt: Float64Array
  readonly notAfter: Float64Array
  /** CRLReason (RFC 5280 §5.3.1), or `notListed`. */
  readonly reasons: Uint8Array
}

/** Released from a hold: the row goes. */
export const notListed = 255

/** RFC 5280 §4.1.2.2: a serial has at most 20 octets. */
export const serialOctets = 20

export interface ListOrder {
  readonly fields: CrlFields
  /** Entries whose certificates ended after that. */
  readonly since: number
  /** By the last octets of their serials. */
  readonly octets: OctetRange
  /** Rows whose certificates ended before that are on no list any more, and may go. Not later than `since`. */
  readonly endedBefore?: number
}

/** A list without its signature, in a buffer with room for that. */
export interface UnsignedList {
  readonly buffer: Uint8Array<ArrayBuffer>
  /** Where the to-be-signed bytes lie. */
  readonly from: number
  readonly to: number
  readonly entries: number
}

/** Before the to-be-signed bytes: the outer header. After: algorithm and signature of any key that is used for lists. */
export const roomBefore = 8
export const roomAfter = 256

export interface CrlTable {
  /** Rows in any order: the last row of a serial counts. Without effect on lists that are written already. */
  apply(page: EntryPage): void
  /** @throws PkiError not_encodable */
  write(order: ListOrder): UnsignedList
  /** Rows, also those that have ended and are not gone yet. */
  readonly size: number
}

/** Times as DER, a day at a time: revocations cluster. */
const createTimes = () => {
  let day = Number.NaN
  let midnight = new Uint8Array(0)
  const daySeconds = 86_400
  const digits = (out: Uint8Array, at: number, value: number): void => {
    out[at] = 48 + Math.floor(value / 10)
    out[at + 1] = 48 + (value % 10)
  }
  const of = (seconds: number): Uint8Array => {
    const wanted = Math.floor(seconds / daySeconds)
    if (wanted !== day) {
      day = wanted
      midnight = new Uint8Array(time(wanted * daySeconds * 1000))
    }
    return midnight
  }
  return {
    sizeOf: (seconds: number): number => of(seconds).length,
    write: (out: Uint8Array, at: number, seconds: number): number => {
      const bytes = of(seconds)
      out.set(bytes, at)
      const rest = seconds - day * daySeconds
      // YYMMDDhhmmssZ: the six digits before the Z.
      const clock = at + bytes.length - 7
      digits(out, clock, Math.floor(rest / 3600))
      digits(out, clock + 2, Math.floor(rest / 60) % 60)
      digits(out, clock + 4, rest % 60)
      return at + bytes.length
    },
  }
}

const reasonBytes: readonly (Uint8Array | undefined)[] = Object.entries(revocationReasons).reduce<Uint8Array[]>(
  (bytes, [name, code]) => {
    bytes[code] = encodeReason(name as RevocationReason)
    return bytes
  },
  [],
)

/** @throws CaError `internal` for what RFC 5280 §5.3.1 does not define */
export const reasonCode = (reason: string): number => {
  if (!isRevocationReason(reason)) throw new CaError('internal', `no CRLReason: ${reason}`)
  return revocationReasons[reason]
}

const extensionOf = (code: number): Uint8Array => {
  const bytes = reasonBytes[code]
  if (bytes === undefined) throw new CaError('internal', `no CRLReason has the code ${code}`)
  return bytes
}

const noSeconds = 0
const maxSeconds = 0xffff_ffff
const secondsOf = (ms: number): number => Math.min(maxSeconds, Math.max(1, Math.floor(ms / 1000)))
/** A fraction of a second more on the list is no harm. */
const endSecondOf = (ms: number): number => secondsOf(ms + 999)

/** Columns of one length; grown together. */
interface Columns {
  readonly serials: Uint8Array<ArrayBuffer>
  readonly revokedAt: Uint32Array<ArrayBuffer>
  /** Second of the end; 0: the row is gone. */
  readonly notAfter: Uint32Array<ArrayBuffer>
  readonly reasons: Uint8Array<ArrayBuffer>
}

const columnsOf = (capacity: number): Columns => ({
  serials: new Uint8Array(capacity * serialOctets),
  revokedAt: new Uint32Array(capacity),
  notAfter: new Uint32Array(capacity),
  reasons: new Uint8Array(capacity),
})

/** The old ones are gone at once, not when somebody collects them. */
const widened = (columns: Columns, capacity: number): Columns => ({
  serials: new Uint8Array(columns.serials.buffer.transfer(capacity * serialOctets)),
  revokedAt: new Uint32Array(columns.revokedAt.buffer.transfer(capacity * 4)),
  notAfter: new Uint32Array(columns.notAfter.buffer.transfer(capacity * 4)),
  reasons: new Uint8Array(columns.reasons.buffer.transfer(capacity)),
})

/** @returns below 0, 0, above 0 */
const compareAt = (a: Uint8Array, i: number, b: Uint8Array, j: number): number => {
  const left = i * serialOctets
  const right = j * serialOctets
  for (let octet = 0; octet < serialOctets; octet++) {
    const difference = a[left + octet]! - b[right + octet]!
    if (difference !== 0) return difference
  }
  return 0
}

/** One row of a page, where it lies. */
interface Arrival {
  readonly page: EntryPage
  readonly row: number
}

const compareArrivals = (a: Arrival, b: Arrival): number => compareAt(a.page.serials, a.row, b.page.serials, b.row)

export const createCrlTable = (): CrlTable => {
  // Owned by this closure: rows [0, size) in ascending order, and what came since the last merge, in the order of its coming.
  let columns = columnsOf(64)
  let size = 0
  let arrived: Arrival[] = []
  const times = createTimes()

  const grow = (needed: number): void => {
    const capacity = columns.revokedAt.length
    if (needed <= capacity) return
    // What is not written yet costs address space alone.
    columns = widened(columns, Math.max(needed, capacity * 2))
  }
  const put = (at: number, { page, row }: Arrival): void => {
    columns.serials.set(page.serials.subarray(row * serialOctets, (row + 1) * serialOctets), at * serialOctets)
    columns.revokedAt[at] = secondsOf(page.revokedAt[row]!)
    const listed = page.reasons[row] !== notListed
    columns.notAfter[at] = listed ? endSecondOf(page.notAfter[row]!) : noSeconds
    columns.reasons[at] = listed ? page.reasons[row]! : 0
  }
  /** Where the serial is, or -1 - where it belongs. */
  const find = ({ page, row }: Arrival): number => {
    let [low, high] = [0, size]
    while (low < high) {
      const middle = (low + high) >>> 1
      const order = compareAt(columns.serials, middle, page.serials, row)
      if (order === 0) return middle
      if (order < 0) low = middle + 1
      else high = middle
    }
    return -1 - low
  }
  const shift = (from: number, to: number, by: number): void => {
    if (from === to || by === 0) return
    const { serials, revokedAt, notAfter, reasons } = columns
    serials.copyWithin((from + by) * serialOctets, from * serialOctets, to * serialOctets)
    revokedAt.copyWithin(from + by, from, to)
    notAfter.copyWithin(from + by, from, to)
    reasons.copyWithin(from + by, from, to)
  }
  const merge = (): void => {
    if (arrived.length === 0) return
    // Sorting is stable: of several rows of one serial the last one counts.
    const sorted = arrived.sort(compareArrivals)
    arrived = []
    const last = sorted.filter((each, i) => i + 1 === sorted.length || compareArrivals(each, sorted[i + 1]!) !== 0)
    const fresh: { readonly arrival: Arrival; readonly at: number }[] = []
    for (const arrival of last) {
      const found = find(arrival)
      if (found >= 0) put(found, arrival)
      else fresh.push({ arrival, at: -1 - found })
    }
    grow(size + fresh.length)
    let end = size
    for (let i = fresh.length - 1; i >= 0; i--) {
      const { arrival, at } = fresh[i]!
      shift(at, end, i + 1)
      put(at + i, arrival)
      end = at
    }
    size += fresh.length
  }
  /** In one pass, once a quarter of the rows is of no use: released, or ended before that. */
  const compact = (endedBefore: number): void => {
    const { serials, revokedAt, notAfter, reasons } = columns
    const from = Math.max(0, Math.floor(endedBefore / 1000))
    let dead = 0
    for (let at = 0; at < size; at++) if (notAfter[at]! <= from) dead++
    if (dead === 0 || dead * 4 < size) return
    let kept = 0
    for (let at = 0; at < size; at++) {
      if (notAfter[at]! <= from) continue
      if (kept !== at) {
        serials.copyWithin(kept * serialOctets, at * serialOctets, (at + 1) * serialOctets)
        revokedAt[kept] = revokedAt[at]!
        notAfter[kept] = notAfter[at]!
        reasons[kept] = reasons[at]!
      }
      kept++
    }
    size = kept
  }
  /** Octets of the content of the INTEGER. */
  const serialLength = (at: number): number => {
    const { serials } = columns
    let first = at * serialOctets
    const end = first + serialOctets - 1
    while (first < end && serials[first] === 0) first++
    return end - first + 1 + (serials[first]! >> 7)
  }
  const entryContent = (at: number): number =>
    2 + serialLength(at) + times.sizeOf(columns.revokedAt[at]!) + extensionOf(columns.reasons[at]!).length
  const writeEntry = (out: Uint8Array, start: number, at: number): number => {
    const length = serialLength(at)
    const reason = extensionOf(columns.reasons[at]!)
    let to = start
    out[to++] = Tag.sequence
    out[to++] = 2 + length + times.sizeOf(columns.revokedAt[at]!) + reason.length
    out[to++] = Tag.integer
    out[to++] = length
    const octets = Math.min(length, serialOctets)
    const end = (at + 1) * serialOctets
    to += length - octets
    for (let i = end - octets; i < end; i++) out[to++] = columns.serials[i]!
    to = times.write(out, to, columns.revokedAt[at]!)
    out.set(reason, to)
    return to + reason.length
  }
  /** Calls `visit` with each row of the list. */
  const select = ({ since, octets }: ListOrder, visit: (at: number) => void): void => {
    const { serials, notAfter } = columns
    // Both are whole seconds: a certificate that ended within the second of `since` may go.
    const from = Math.max(0, Math.floor(since / 1000))
    for (let at = 0; at < size; at++) {
      if (notAfter[at]! <= from) continue
      const octet = serials[(at + 1) * serialOctets - 1]!
      if (octet >= octets.from && octet <= octets.to) visit(at)
    }
  }
  return {
    apply: page => {
      for (let row = 0; row < page.rows; row++) {
        const arrival = { page, row }
        const appends =
          arrived.length === 0 && (size === 0 || compareAt(columns.serials, size - 1, page.serials, row) < 0)
        if (appends) {
          grow(size + 1)
          put(size++, arrival)
        } else arrived.push(arrival)
      }
    },
    write: order => {
      merge()
      compact(order.endedBefore ?? 0)
      let [entries, octets] = [0, 0]
      select(order, at => {
        entries++
        octets += 2 + entryContent(at)
      })
      const { before, after } = encodeCrlFrame(order.fields, octets)
      const from = roomBefore
      const to = from + before.length + octets + after.length
      const buffer = new Uint8Array(to + roomAfter)
      buffer.set(before, from)
      let end = from + before.length
      select(order, at => {
        end = writeEntry(buffer, end, at)
      })
      buffer.set(after, end)
      return { buffer, from, to, entries }
    },
    get size() {
      return size + arrived.length
    },
  }
}

/**
 * The whole list around its to-be-signed bytes, in the same buffer.
 * @param tail what follows them: algorithm and signature, encoded
 */
export const closeList = ({ buffer, from, to }: UnsignedList, tail: Uint8Array): Uint8Array<ArrayBuffer> => {
  const header = derHeader(Tag.sequence, to - from + tail.length)
  if (header.length > from || to + tail.length > buffer.length) throw new CaError('internal', 'no room for a signature')
  buffer.set(header, from - header.length)
  buffer.set(tail, to)
  return buffer.subarray(from - header.length, to + tail.length)
}
