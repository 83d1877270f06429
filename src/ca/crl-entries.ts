// What is revoked, on its way from the ledger to the press: read once from the beginning, then by revisions, so that a list of a million
// entries costs its next version no more than what has changed. The event loop is free between pages.
import { type Clock, systemClock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { OctetRange } from '../pki/crl-shards.ts'
import type { RevocationsPort } from '../store/ports.ts'
import type { RevocationRow } from '../store/records.ts'
import { type CrlPress, createInlinePress, type SignedList, type SignedOrder } from './crl-press.ts'
import { pressFile, startPress } from './crl-press-client.ts'
import { type EntryPage, type ListOrder, notListed, reasonCode, serialOctets, type UnsignedList } from './crl-table.ts'
import { CaError } from './errors.ts'

export interface CrlEntriesDeps {
  readonly log: Log
  readonly revocations: Pick<RevocationsPort, 'readRows' | 'rowsSince' | 'revision'>
  /** More rows than that are not kept, and lists of them not written, in the event loop. */
  readonly inlineRows?: number
  /** What the thread runs; a test gives another one. null: there is no thread. */
  readonly thread?: URL | null
  readonly clock?: Pick<Clock, 'monotonic'>
}

/** How far a press follows the ledger. */
export interface Followed {
  readonly issuerId: number
  /** What was changed up to here is on every list that is written from now on. */
  readonly revision: number
  readonly press: CrlPress
}

export interface CrlEntries {
  /** @throws StoreError; CaError `internal` when the press is lost meanwhile: to be tried again, after a while */
  follow(issuerId: number): Promise<Followed>
  /** Revision of the last change to these serials, as far as it was followed; 0: none. */
  changedAt(issuerId: number, octets: OctetRange): number
  /** @throws CaError `internal` when what was followed is lost meanwhile: to be tried again */
  write(followed: Followed, order: ListOrder): Promise<UnsignedList>
  /** With the press that wrote it. @throws as CrlPress.finish */
  finish(followed: Followed, order: SignedOrder): Promise<SignedList>
  close(): Promise<void>
}

/** Some 2 ms of the event loop. */
const pageRows = 1000
/** A list of so many takes the event loop some 2 ms, and a thread costs some 30 ms to start and 15 MB. */
const defaultInlineRows = 5000
/** In a row, without a list in between: then it is not the list that kills it, and a list that holds up the event loop is better than none. */
const maxThreadDeaths = 3
const withoutThreadMs = 5 * 60_000

const packed = (rows: readonly RevocationRow[]): EntryPage => {
  const page = {
    rows: rows.length,
    serials: new Uint8Array(rows.length * serialOctets),
    revokedAt: new Float64Array(rows.length),
    notAfter: new Float64Array(rows.length),
    reasons: new Uint8Array(rows.length),
  }
  for (const [i, row] of rows.entries()) {
    if (row.serial.length > serialOctets) throw new CaError('internal', 'a serial in the ledger has too many octets')
    page.serials.set(row.serial, (i + 1) * serialOctets - row.serial.length)
    page.revokedAt[i] = row.revokedAt
    page.notAfter[i] = row.notAfter
    page.reasons[i] = row.listed ? reasonCode(row.reason) : notListed
  }
  return page
}

/** What ended goes from a table so often; and not in the first hour, when lists that are late may need it still. */
const dropEveryMs = 3_600_000
/** Beyond the list that needs an entry: as much as the ledger keeps it. */
const dropMarginMs = 86_400_000

/** Of one issuer, as far as the press has it. */
interface Position {
  /** null: not read from the beginning yet. */
  revision: number | null
  /** What ended before that may be gone from the press. */
  keptFrom: number
  /** On the monotonic clock. */
  nextDrop: number
  /** Of the last change, by the last octet of its serial. */
  readonly changed: Float64Array
}

const pause = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

export const createCrlEntries = (deps: CrlEntriesDeps): CrlEntries => {
  const { log, revocations, inlineRows = defaultInlineRows, thread = pressFile(), clock = systemClock } = deps
  // Owned by this closure, and changed by one follower at a time; all at once when the press is another one.
  let press: CrlPress = createInlinePress()
  let inThread = false
  let rows = 0
  let threadDeaths = 0
  let noThreadBefore = Number.NEGATIVE_INFINITY
  let closed = false
  const positions = new Map<number, Position>()
  let following: Promise<unknown> = Promise.resolve()

  const positionOf = (issuerId: number): Position => {
    const position = positions.get(issuerId) ?? {
      ...{ revision: null, keptFrom: Number.NEGATIVE_INFINITY, nextDrop: 0 },
      changed: new Float64Array(256),
    }
    positions.set(issuerId, position)
    return position
  }
  const begin = (next: CrlPress, isThread: boolean): void => {
    press = next
    inThread = isThread
    rows = 0
    for (const position of positions.values()) position.revision = null
  }
  const threadDied = (reason: string): void => {
    threadDeaths++
    const again = threadDeaths < maxThreadDeaths
    if (!again) noThreadBefore = clock.monotonic() + withoutThreadMs
    const next = again ? 'another one begins' : 'lists are written in the event loop for some minutes'
    log.error({ reason, threadDeaths }, `the thread that writes revocation lists ended; ${next}, from the ledger`)
    begin(createInlinePress(), false)
  }
  /** @throws the error of a thread that cannot be started */
  const toThread = async (file: URL): Promise<void> => {
    const before = press
    try {
      begin(startPress(file, threadDied), true)
    } catch (error) {
      threadDied(messageOf(error))
      throw error
    }
    await before.close()
  }
  const send = (issuerId: number, { changed }: Position, page: readonly RevocationRow[]): void => {
    for (const { serial, revision } of page) {
      const octet = serial[serial.length - 1]!
      changed[octet] = Math.max(changed[octet]!, revision)
    }
    rows += page.length
    if (page.length > 0) press.apply(issuerId, packed(page))
  }
  /** By serials, in the order that costs a table least, and past the ledger's page cache. What changes meanwhile comes after it. */
  const readAll = async (issuerId: number, position: Position): Promise<void> => {
    const begunWith = press
    position.keptFrom = Number.NEGATIVE_INFINITY
    position.nextDrop = clock.monotonic() + dropEveryMs
    using rows = revocations.readRows(issuerId)
    for (;;) {
      const page = rows.next(pageRows)
      send(issuerId, position, page)
      if (page.length < pageRows || press !== begunWith || outgrown()) break
      await pause()
    }
    if (press === begunWith && !outgrown()) position.revision = rows.revision
  }
  const outgrown = (): boolean =>
    !inThread && thread !== null && rows > inlineRows && clock.monotonic() >= noThreadBefore

  const followNow = async (issuerId: number): Promise<Followed> => {
    const position = positionOf(issuerId)
    let filled = press
    for (;;) {
      if (closed) throw new CaError('internal', 'revocations are no longer followed: the server is stopping')
      // Who asks knows when to try again: a thread that dies each time would keep this loop, and all that wait for it, for ever.
      if (press !== filled) throw new CaError('internal', 'the thread that writes lists ended while it was filled')
      if (outgrown()) {
        await toThread(thread!)
        filled = press
      }
      if (position.revision === null) {
        await readAll(issuerId, position)
        continue
      }
      const reached = revocations.revision(issuerId)
      if (reached === position.revision) return { issuerId, revision: reached, press }
      const page = revocations.rowsSince(issuerId, position.revision, pageRows)
      send(issuerId, position, page)
      // Rows of changes may have been pruned: the last page is the end, whatever revision it has.
      position.revision = page.length < pageRows ? reached : page.at(-1)!.revision
      if (page.length === pageRows) await pause()
    }
  }
  const lost = (followed: Followed): boolean =>
    followed.press !== press || positionOf(followed.issuerId).revision === null

  return {
    follow: issuerId => {
      const next = following.then(() => followNow(issuerId))
      following = next.catch(error => log.debug({ reason: messageOf(error) }, 'revocations are not followed'))
      return next
    },
    changedAt: (issuerId, { from, to }) => {
      const { changed } = positionOf(issuerId)
      let last = 0
      for (let octet = from; octet <= to; octet++) last = Math.max(last, changed[octet]!)
      return last
    },
    write: async (followed, order) => {
      // An empty table would make an empty list.
      if (lost(followed)) throw new CaError('internal', 'what was read for this list is lost, and is read again')
      const position = positionOf(followed.issuerId)
      // Of a list that is very late, or of a clock that was ahead: the ledger has them still.
      if (order.since < position.keptFrom) {
        position.revision = null
        throw new CaError('internal', 'rows that this list needs were dropped, and are read again')
      }
      if (clock.monotonic() < position.nextDrop) return followed.press.write(followed.issuerId, order)
      const endedBefore = order.since - dropMarginMs
      position.nextDrop = clock.monotonic() + dropEveryMs
      position.keptFrom = Math.max(position.keptFrom, endedBefore)
      return followed.press.write(followed.issuerId, { ...order, endedBefore })
    },
    finish: async (followed, order) => {
      const list = await followed.press.finish(order)
      if (inThread && followed.press === press) threadDeaths = 0
      return list
    },
    close: async () => {
      closed = true
      await press.close()
    },
  }
}
