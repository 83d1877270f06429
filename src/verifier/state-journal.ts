// Keeps the state on disk while it changes: what is applied is appended to a journal, and now and then a new base takes the place of the
// old one and its journal. A million entries are written in pieces between which calls are judged, and while entries go on to come.
//
// A crash leaves: while appending, a torn last line, which is ignored; while a new base is written, the old base with its journal, and
// files that the next start removes. The new journal begins before the new base and is durable before that is in place: what the
// base shows of entries after its position is in the journal too, so that reading both leads to what was known.
import { randomBytes } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { encodeFeedData, encodePosition, type FeedEvent } from '../verify/feed-event.ts'
import type { RevocationState } from '../verify/revocation-state.ts'
import { baseFile, type Confirmed, confirmedFile, journalName, version } from './kept-state.ts'

export interface StateJournal {
  /** It was applied, and follows what was. */
  add(event: FeedEvent): void
  /** Another state took the place of what was known: the next write makes a new base. */
  restart(): void
  /** Makes what was added durable, and the confirmation. One at a time; never rejects, a fault is in the log. */
  write(confirmed: Confirmed): Promise<void>
}

/** Below it a new base saves nobody anything. */
const minJournalBytes = 1_048_576
/** 1,000 changes have some 50 KB and take a millisecond. */
const changesPerLine = 1000

const lineOf = (event: FeedEvent): string => {
  const data = event.type === 'unknown' ? JSON.stringify({ at: event.at }) : encodeFeedData(event)
  const name = event.type === 'unknown' ? event.name : event.type
  return `{"event":${JSON.stringify(name)},"id":"${encodePosition(event.position)}","data":${data}}\n`
}

const syncDirectory = async (directory: string): Promise<void> => {
  const handle = await open(directory, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** As one: a reader finds the old file or the new one. @param fill false: the old one stays */
const replaceFile = async (
  directory: string,
  name: string,
  fill: (file: FileHandle) => Promise<boolean>,
): Promise<boolean> => {
  const path = join(directory, name)
  const file = await open(`${path}.new`, 'w', 0o600)
  let isWanted = false
  try {
    isWanted = await fill(file)
    await file.sync()
  } finally {
    await file.close()
  }
  if (!isWanted) return false
  await rename(`${path}.new`, path)
  await syncDirectory(directory)
  return true
}

/** @returns bytes */
const writeBase = async (file: FileHandle, head: object, state: RevocationState): Promise<number> => {
  let [lines, bytes] = [0, 0]
  const write = async (line: string): Promise<void> => {
    bytes += (await file.write(`${line}\n`)).bytesWritten
  }
  await write(JSON.stringify(head))
  for (const part of state.contents(changesPerLine)) {
    await write(encodeFeedData({ type: 'snapshot', position: { epoch: '', n: 0 }, at: 0, part: 1, parts: 1, ...part }))
    lines++
    await turn()
  }
  await write(JSON.stringify({ end: lines }))
  return bytes
}

export const createStateJournal = (deps: {
  readonly directory: string
  readonly log: Log
  readonly state: () => RevocationState
  /** As the feed said it up to the state's position. */
  readonly bundlePem: () => string | null
}): StateJournal => {
  const { directory, log } = deps
  // Owned by this closure. `pending` follows the last line of the journal; writes are one behind the other.
  let pending: string[] = []
  let name: string | null = null
  let generation = 0
  let [journalBytes, baseBytes] = [0, 0]
  let written = ''
  let writing: Promise<void> = Promise.resolve()

  const append = async (lines: readonly string[]): Promise<void> => {
    const file = await open(join(directory, name as string), 'a', 0o600)
    try {
      const text = lines.join('')
      await file.appendFile(text)
      await file.datasync()
      journalBytes += Buffer.byteLength(text)
    } finally {
      await file.close()
    }
  }
  const compact = async (confirmed: Confirmed): Promise<void> => {
    const state = deps.state()
    const [position, begun] = [encodePosition(state.position()!), generation]
    const next = `journal-${randomBytes(8).toString('hex')}.jsonl`
    pending = []
    const bundlePem = deps.bundlePem()
    let bytes = 0
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const isInPlace = await replaceFile(directory, baseFile, async file => {
      bytes = await writeBase(file, { version, position, journal: next, bundlePem, ...confirmed }, state)
      if (generation !== begun) return false
      name = next
      journalBytes = 0
      await append(takePending())
      await syncDirectory(directory)
      return true
    })
    if (!isInPlace) return
    baseBytes = bytes
    await removeOthers(next)
  }
  const takePending = (): readonly string[] => {
    const lines = pending
    pending = []
    return lines
  }
  const removeOthers = async (kept: string): Promise<void> => {
    for (const each of await readdir(directory))
      if (journalName.test(each) && each !== kept) await rm(join(directory, each), { force: true })
  }
  const confirm = async (confirmed: Confirmed): Promise<void> => {
    const position = encodePosition(deps.state().position()!)
    const text = JSON.stringify({ version, position, ...confirmed })
    await replaceFile(directory, confirmedFile, async file => (await file.write(`${text}\n`)).bytesWritten > 0)
  }
  const writeOnce = async (confirmed: Confirmed): Promise<void> => {
    if (deps.state().position() === null) return
    const isDue = name === null || journalBytes > Math.max(minJournalBytes, baseBytes)
    if (isDue) await compact(confirmed)
    else if (pending.length > 0) await append([...takePending(), `${JSON.stringify({ confirmed })}\n`])
    const position = encodePosition(deps.state().position()!)
    const now = `${position} ${JSON.stringify(confirmed)}`
    if (pending.length === 0 && now !== written) {
      await confirm(confirmed)
      written = now
    }
  }

  return {
    add: event => {
      // Before there is a journal everything will be in the base.
      pending.push(lineOf(event))
    },
    restart: () => {
      generation++
      name = null
      pending = []
    },
    write: confirmed => {
      writing = writing
        .then(() => writeOnce(confirmed))
        .catch(error => {
          // Whether a part of it was written is not known: a new base does not depend on it.
          name = null
          log.error({ directory, reason: messageOf(error) }, 'the revocation state could not be written')
        })
      return writing
    },
  }
}
