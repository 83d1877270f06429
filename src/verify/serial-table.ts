// Status by serial for a million certificates in tens of megabytes: open addressing over typed arrays, because a Map of texts takes
// three times as much. Serials of 16 octets, which is what this CA makes, lie in the table; other lengths lie beside it in a Map.

export type ListedStatus = 'revoked' | 'held'

/** A serial made ready for look-ups, once a connection. */
export type SerialKey = Uint32Array | string

const words = 4
const octets = words * 4

/** -1 for what is no digit. */
const digitOf = (code: number): number =>
  code >= 0x30 && code <= 0x39 ? code - 0x30 : code >= 0x61 && code <= 0x66 ? code - 0x57 : -1

/** Without a Buffer on the way: a list of a million is read at a start. @param serial lower-case hex */
export const serialKeyOf = (serial: string): SerialKey => {
  if (serial.length !== octets * 2) return serial
  const key = new Uint32Array(words)
  for (let i = 0; i < octets * 2; i++) {
    const digit = digitOf(serial.charCodeAt(i))
    if (digit < 0) return serial
    key[i >> 3] = ((key[i >> 3] as number) << 4) | digit
  }
  return key
}

const free = 0
const revoked = 1
const held = 2
/** Was held: the slot stays in its chain until the table is made anew. */
const released = 3
type Mark = typeof free | typeof revoked | typeof held | typeof released

const statusOf: Readonly<Record<number, ListedStatus | null>> = {
  [free]: null,
  [revoked]: 'revoked',
  [held]: 'held',
  [released]: null,
}

export interface SerialTable {
  /** Milliseconds since the epoch; an entry is kept until it has passed. */
  set(key: SerialKey, status: ListedStatus, notAfter: number): void
  /** So many more will be set: room is made for them at once, since a table that grows while it is full stands still for long. */
  reserve(count: number): void
  /** Only what is held; revoked is for ever. */
  release(key: SerialKey): void
  get(key: SerialKey): ListedStatus | null
  /** Entries with a status. */
  readonly size: number
  /** Forgets what has ended at `now`, and gives memory back. */
  expire(now: number): void
  /** May be read while the table changes: what is set or released meanwhile is in it or not. */
  entries(): Iterable<{ readonly serial: string; readonly status: ListedStatus; readonly notAfter: number }>
}

const hexOf = (keys: Uint32Array, slot: number): string => {
  let text = ''
  for (let i = 0; i < words; i++) text += (keys[slot * words + i] as number).toString(16).padStart(8, '0')
  return text
}

const minCapacity = 1024
/** 44 MB: whoever says that more will come has to send them first. */
const maxReserved = 2 ** 21
/** More than two thirds full, and chains grow long. */
const isCrowded = (used: number, capacity: number): boolean => used * 3 > capacity * 2

export const createSerialTable = (): SerialTable => {
  // Owned by this closure. `used` counts slots that are not free, `size` those that have a status.
  let capacity = minCapacity
  let keys = new Uint32Array(capacity * words)
  let ends = new Uint32Array(capacity)
  let marks = new Uint8Array(capacity)
  let used = 0
  let size = 0
  const odd = new Map<string, { status: ListedStatus; notAfter: number }>()

  /** The slot of the key at `from`, or the free one where it would be. The last octets of a serial are random: they are hash enough. */
  const find = (key: Uint32Array, from = 0): number => {
    const mask = capacity - 1
    let slot = (key[from + 3] as number) & mask
    for (;;) {
      if (marks[slot] === free) return slot
      const at = slot * words
      if (
        keys[at + 3] === key[from + 3] &&
        keys[at + 2] === key[from + 2] &&
        keys[at + 1] === key[from + 1] &&
        keys[at] === key[from]
      )
        return slot
      slot = (slot + 1) & mask
    }
  }

  const put = (key: Uint32Array, from: number, mark: Mark, end: number): void => {
    const slot = find(key, from)
    const before = marks[slot] as Mark
    if (before === free) {
      for (let i = 0; i < words; i++) keys[slot * words + i] = key[from + i] as number
      used++
    }
    if (statusOf[before] === null) size++
    // What was revoked is not held afterwards, in whatever order the news comes.
    marks[slot] = before === revoked ? revoked : mark
    ends[slot] = Math.max(ends[slot] as number, end)
  }

  /** Into a table that fits what is left after `keep`, and has at least so many slots. */
  const rebuild = (keep: (end: number) => boolean, least = minCapacity): void => {
    const [oldKeys, oldEnds, oldMarks] = [keys, ends, marks]
    let left = 0
    for (let slot = 0; slot < oldMarks.length; slot++)
      if (statusOf[oldMarks[slot] as number] !== null && keep(oldEnds[slot] as number)) left++
    capacity = least
    while (isCrowded(left * 1.5, capacity)) capacity *= 2
    keys = new Uint32Array(capacity * words)
    ends = new Uint32Array(capacity)
    marks = new Uint8Array(capacity)
    used = 0
    size = 0
    for (let slot = 0; slot < oldMarks.length; slot++) {
      const mark = oldMarks[slot] as Mark
      if (statusOf[mark] !== null && keep(oldEnds[slot] as number))
        put(oldKeys, slot * words, mark, oldEnds[slot] as number)
    }
  }

  return {
    set: (key, status, notAfter) => {
      if (typeof key === 'string') {
        const known = odd.get(key)
        odd.set(key, {
          status: known?.status === 'revoked' ? 'revoked' : status,
          notAfter: Math.max(notAfter, known?.notAfter ?? 0),
        })
        return
      }
      if (isCrowded(used + 1, capacity)) rebuild(() => true)
      put(key, 0, status === 'revoked' ? revoked : held, Math.ceil(notAfter / 1000))
    },
    reserve: count => {
      let needed = capacity
      while (isCrowded(used + count, needed) && needed < maxReserved) needed *= 2
      if (needed > capacity) rebuild(() => true, needed)
    },
    release: key => {
      if (typeof key === 'string') {
        if (odd.get(key)?.status === 'held') odd.delete(key)
        return
      }
      const slot = find(key)
      if (marks[slot] !== held) return
      marks[slot] = released
      size--
    },
    get: key =>
      typeof key === 'string' ? (odd.get(key)?.status ?? null) : (statusOf[marks[find(key)] as number] ?? null),
    get size() {
      return size + odd.size
    },
    expire: now => {
      for (const [serial, { notAfter }] of odd) if (notAfter < now) odd.delete(serial)
      rebuild(end => end * 1000 >= now)
    },
    *entries() {
      // A table that is made anew leaves the old one as it was.
      const [theseKeys, theseEnds, theseMarks] = [keys, ends, marks]
      for (let slot = 0; slot < theseMarks.length; slot++) {
        const status = statusOf[theseMarks[slot] as number]
        if (status != null)
          yield { serial: hexOf(theseKeys, slot), status, notAfter: (theseEnds[slot] as number) * 1000 }
      }
      for (const [serial, entry] of [...odd]) yield { serial, ...entry }
    },
  }
}
