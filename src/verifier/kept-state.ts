// The last good state on disk, for a start without the CA. The state itself is written when it changes; when it was last confirmed lies in
// a small file beside it, because that changes every few seconds and a long list should not be written for it.
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { encodeFeedData, encodePosition, type FeedEvent, readFeedEvent } from '../verify/feed-event.ts'
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
}

const stateFile = 'revocation-state.jsonl'
const confirmedFile = 'confirmed.json'
const version = 1

const replaceFile = (directory: string, name: string, lines: Iterable<string>): void => {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const path = join(directory, name)
  const file = openSync(`${path}.new`, 'w', 0o600)
  try {
    for (const line of lines) writeSync(file, `${line}\n`)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
  renameSync(`${path}.new`, path)
  const parent = openSync(directory, 'r')
  try {
    fsyncSync(parent)
  } finally {
    closeSync(parent)
  }
}

const encodeConfirmed = (state: RevocationState, confirmed: Confirmed): string => {
  const position = state.position()
  return JSON.stringify({ version, position: position === null ? null : encodePosition(position), ...confirmed })
}

/** Nothing before the first snapshot. @throws the error of the file system: what was there is then still whole */
export const writeState = (directory: string, state: RevocationState, confirmed: Confirmed): void => {
  const parts = state.snapshot(confirmed.caTime) ?? []
  const lines = function* (): Generator<string> {
    yield encodeConfirmed(state, confirmed)
    for (const part of parts) yield `{"id":"${encodePosition(part.position)}","data":${encodeFeedData(part)}}`
  }
  replaceFile(directory, stateFile, lines())
}

/** @throws as writeState */
export const writeConfirmed = (directory: string, state: RevocationState, confirmed: Confirmed): void =>
  replaceFile(directory, confirmedFile, [encodeConfirmed(state, confirmed)])

const isTime = (value: unknown): boolean => Number.isSafeInteger(value)
const isTimeOrNull = (value: unknown): boolean => value === null || isTime(value)

const parseConfirmed = (line: string): Confirmed & { readonly position: string } => {
  const head = JSON.parse(line) as Confirmed & { readonly position: string; readonly version: number }
  if (head.version !== version) throw new Error(`of version ${head.version}`)
  const { at, publishedUntil, headAt, caTime, position } = head
  if (![at, caTime].every(isTime) || ![publishedUntil, headAt].every(isTimeOrNull) || typeof position !== 'string')
    throw new Error('without its times')
  return { at, publishedUntil, headAt, caTime, position }
}

const eventOfLine = (line: string): FeedEvent => {
  const { id, data } = JSON.parse(line) as { readonly id: string; readonly data: unknown }
  return readFeedEvent('snapshot', id, data)
}

const readConfirmed = (directory: string): ReturnType<typeof parseConfirmed> | null => {
  const path = join(directory, confirmedFile)
  return existsSync(path) ? parseConfirmed(readFileSync(path, 'utf8').trimEnd()) : null
}

const newest = (a: number | null, b: number | null): number | null =>
  a === null || b === null ? (a ?? b) : Math.max(a, b)

/** @returns null when there is none. @throws Error for a file that is damaged, incomplete or of another version */
export const readKept = (directory: string): Kept | null => {
  const path = join(directory, stateFile)
  if (!existsSync(path)) return null
  const [first = '', ...lines] = readFileSync(path, 'utf8').trimEnd().split('\n')
  const { position, ...own } = parseConfirmed(first)
  const state = createRevocationState()
  for (const line of lines) state.apply(eventOfLine(line))
  const here = state.position()
  if (here === null || encodePosition(here) !== position) throw new Error('not whole')
  const beside = readConfirmed(directory)
  if (beside === null) return { state, confirmed: own }
  // A confirmation of another state, left by a crash between the two files, says nothing about this one but how far time had come.
  const confirmed = beside.position === position ? beside : own
  const { at, publishedUntil } = confirmed
  const headAt = newest(beside.headAt, own.headAt)
  return { state, confirmed: { at, publishedUntil, headAt, caTime: Math.max(beside.caTime, own.caTime) } }
}
