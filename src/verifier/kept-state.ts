// The last good state on disk, for a start without the CA: a base, a journal of what followed it, and when all of it was last confirmed.
// Read here; written by state-journal.ts, which says in which order.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { encodePosition, type FeedEvent, parsePosition, readFeedEvent } from '../verify/feed-event.ts'
import { createRevocationState, type RevocationState } from '../verify/revocation-state.ts'

/** Wall-clock times, because the monotonic clock ends with its process; milliseconds since the epoch. */
export interface Confirmed {
  /** When any source last confirmed the state. */
  readonly at: number
  /** `nextUpdate` of the published state that is applied. */
  readonly publishedUntil: number | null
  /** `at` of the newest head of a published state that was ever accepted. */
  readonly headAt: number | null
  /** The CA's own time, as last heard from the feed or a head. */
  readonly caTime: number
}

export interface Kept {
  readonly state: RevocationState
  readonly confirmed: Confirmed
  /** The trust bundle as the feed said it; null where it never did. */
  readonly bundlePem: string | null
}

export const baseFile = 'revocation-state.jsonl'
export const confirmedFile = 'confirmed.json'
export const journalName = /^journal-[0-9a-f]{16}\.jsonl$/
export const version = 2

/** First line of a base. */
export interface BaseHead extends Confirmed {
  readonly version: number
  readonly position: string
  /** What follows it is in this file. */
  readonly journal: string
  readonly bundlePem: string | null
}

const isTime = (value: unknown): boolean => Number.isSafeInteger(value)
const isTimeOrNull = (value: unknown): boolean => value === null || isTime(value)

const confirmedOf = (value: unknown): Confirmed => {
  const { at, publishedUntil, headAt, caTime } = value as Confirmed
  if (![at, caTime].every(isTime) || ![publishedUntil, headAt].every(isTimeOrNull)) throw new Error('without its times')
  return { at, publishedUntil, headAt, caTime }
}

const parseHead = (line: string): BaseHead => {
  const head = JSON.parse(line) as BaseHead
  if (head.version !== version) throw new Error(`of version ${head.version}`)
  const { position, journal, bundlePem = null } = head
  if (typeof position !== 'string' || parsePosition(position) === null) throw new Error('without its position')
  if (typeof journal !== 'string' || !journalName.test(journal)) throw new Error('without its journal')
  if (bundlePem !== null && typeof bundlePem !== 'string') throw new Error('with a bundle that is none')
  return { version, position, journal, bundlePem, ...confirmedOf(head) }
}

/** Each line is a part; the last one says how many there are. */
const readBase = (text: string): { readonly head: BaseHead; readonly state: RevocationState } => {
  const [first = '', ...lines] = text.trimEnd().split('\n')
  const head = parseHead(first)
  const parts = lines.length - 1
  if (parts < 1 || (JSON.parse(lines.pop() as string) as { end?: number }).end !== parts) throw new Error('not whole')
  const state = createRevocationState()
  for (const [i, line] of lines.entries()) {
    const part = { ...(JSON.parse(line) as object), at: head.caTime, part: i + 1, parts }
    state.apply(readFeedEvent('snapshot', head.position, part))
  }
  return { head, state }
}

type JournalLine = { readonly confirmed: unknown } | { readonly event: string; readonly id: string; data: unknown }

const parseJournalLine = (line: string): FeedEvent | Confirmed | null => {
  try {
    const parsed = JSON.parse(line) as JournalLine
    return 'confirmed' in parsed ? confirmedOf(parsed.confirmed) : readFeedEvent(parsed.event, parsed.id, parsed.data)
  } catch {
    return null
  }
}

type Followed = Pick<Kept, 'confirmed' | 'bundlePem'>

/** As far as it follows. What a crash tore off at the end is as if it had not been heard. */
const followJournal = (text: string, state: RevocationState, before: BaseHead): Followed => {
  let confirmed: Confirmed = before
  let { bundlePem } = before
  const lines = text.split('\n')
  // Without its line feed a line is not whole, whatever it looks like.
  lines.pop()
  for (const line of lines) {
    const read = parseJournalLine(line)
    if (read === null) break
    if (!('type' in read)) confirmed = read
    else if (state.apply(read) === 'resync') break
    else if (read.type === 'bundle') bundlePem = read.bundlePem
  }
  return { confirmed, bundlePem }
}

const newest = (a: number | null, b: number | null): number | null =>
  a === null || b === null ? (a ?? b) : Math.max(a, b)

/** A confirmation of another state, left by a crash between the files, says nothing about this one but how far time had come. */
const withConfirmation = (directory: string, state: RevocationState, own: Confirmed): Confirmed => {
  const path = join(directory, confirmedFile)
  if (!existsSync(path)) return confirmedOf(own)
  const parsed = JSON.parse(readFileSync(path, 'utf8')) as { readonly version: number; readonly position: string }
  if (parsed.version !== version) throw new Error(`of version ${parsed.version}`)
  const beside = confirmedOf(parsed)
  const here = state.position()
  const { at, publishedUntil } = here !== null && encodePosition(here) === parsed.position ? beside : own
  const headAt = newest(beside.headAt, own.headAt)
  return { at, publishedUntil, headAt, caTime: Math.max(beside.caTime, own.caTime) }
}

/** @returns null when there is none. @throws Error for a base that is damaged, incomplete or of another version */
export const readKept = (directory: string): Kept | null => {
  const path = join(directory, baseFile)
  if (!existsSync(path)) return null
  const { head, state } = readBase(readFileSync(path, 'utf8'))
  const journal = join(directory, head.journal)
  const { confirmed, bundlePem } = followJournal(existsSync(journal) ? readFileSync(journal, 'utf8') : '', state, head)
  return { state, bundlePem, confirmed: withConfirmation(directory, state, confirmed) }
}
