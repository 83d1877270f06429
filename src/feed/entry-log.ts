// The ledger's feed as frames: read once after each commit, encoded once, the latest kept in memory for all who listen. What is older is
// read from the ledger again, a page at a time, and shared by those who catch up together.
import type { FeedPort } from '../store/ports.ts'
import type { FeedEntry } from '../store/records.ts'
import type { FeedPosition, KnownFeedEvent } from '../verify/feed-event.ts'
import { encodeFrame, eventOf } from './entry.ts'

export interface EntryLog {
  /** The last entry that was taken from the ledger. */
  head(): FeedPosition
  /** Takes what was committed since; another epoch begins with nothing taken. */
  advance(): readonly KnownFeedEvent[]
  /** The frame of entry `n + 1`; null when `n` is the head, or when the ledger does not have it any more. */
  next(n: number): Uint8Array | null
  /** Whether everything after `n` can be read. */
  reaches(position: FeedPosition): boolean
}

/** Together: what a fleet misses while it reconnects. */
const maxTailBytes = 8_388_608
const maxTailEntries = 10_000
/** An entry has up to 50 KB: a page must not hold up the event loop. */
const pageSize = 32
const maxPages = 16

interface Page {
  /** Number of the first entry. */
  readonly first: number
  readonly frames: readonly Uint8Array[]
}

export const createEntryLog = (feed: Pick<FeedPort, 'head' | 'oldest' | 'read'>): EntryLog => {
  // Owned by this closure, changed only synchronously. `tail` ends with the head; `tailBytes` is the sum of its lengths.
  let head: FeedPosition = feed.head()
  let tail: Uint8Array[] = []
  let tailBytes = 0
  let pages: Page[] = []

  const encoded = (entry: FeedEntry): Uint8Array => encodeFrame(eventOf(entry, head.epoch))
  const keep = (frame: Uint8Array): void => {
    tail.push(frame)
    tailBytes += frame.length
  }
  const trim = (): void => {
    let drop = 0
    while (tail.length - drop > maxTailEntries || (tailBytes > maxTailBytes && drop < tail.length))
      tailBytes -= tail[drop++]!.length
    if (drop > 0) tail = tail.slice(drop)
  }
  const begin = (): void => {
    tail = []
    tailBytes = 0
    pages = []
    // A fleet that reconnects after a restart asks for the latest.
    for (const entry of feed.read(Math.max(0, head.n - pageSize), pageSize)) keep(encoded(entry))
  }
  begin()

  const pageWith = (n: number): Page | null => {
    const known = pages.find(({ first, frames }) => n >= first && n < first + frames.length)
    if (known !== undefined) return known
    const entries = feed.read(n - 1, pageSize).filter(entry => entry.n <= head.n)
    if (entries[0]?.n !== n) return null
    const page = { first: n, frames: entries.map(encoded) }
    pages = [page, ...pages.slice(0, maxPages - 1)]
    return page
  }

  return {
    head: () => head,
    advance: () => {
      const now = feed.head()
      if (now.epoch !== head.epoch) {
        head = now
        begin()
        return []
      }
      const events: KnownFeedEvent[] = []
      while (head.n < now.n) {
        const entries = feed.read(head.n, pageSize)
        if (entries.length === 0) break
        const page = entries.map(entry => eventOf(entry, head.epoch))
        for (const event of page) keep(encodeFrame(event))
        events.push(...page)
        head = { epoch: head.epoch, n: entries.at(-1)!.n }
      }
      trim()
      return events
    },
    next: n => {
      if (n >= head.n) return null
      const inTail = tail[n - (head.n - tail.length)]
      if (inTail !== undefined) return inTail
      const page = pageWith(n + 1)
      return page === null ? null : page.frames[n + 1 - page.first]!
    },
    reaches: ({ epoch, n }) => epoch === head.epoch && n <= head.n && (n === head.n || n + 1 >= feed.oldest()),
  }
}
