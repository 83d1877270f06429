// What a head names: one snapshot, and the changes of late as files of their own. Whoever polls fetches the last change only; whoever
// comes anew the snapshot and the changes since. A new snapshot is made when the changes since weigh as much as the one there is.
import { createHash } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import { concatBytes, toHex, utf8 } from '../base/bytes.ts'
import type { FeedPort } from '../store/ports.ts'
import type { FeedPosition } from '../verify/feed-event.ts'
import {
  type DeltaFile,
  deltaFileName,
  encodeStateLine,
  type SnapshotFile,
  snapshotFileName,
} from '../verify/signed-state.ts'
import { eventOf } from './entry.ts'
import type { Snapshots } from './snapshot.ts'
import type { PublishedState } from './state-directory.ts'

export interface StateWindow {
  readonly position: FeedPosition
  readonly snapshot: SnapshotFile
  readonly deltas: readonly DeltaFile[]
  readonly files: ReadonlyMap<string, Uint8Array>
}

export interface WindowDeps {
  readonly feed: Pick<FeedPort, 'head' | 'read'>
  readonly snapshots: Snapshots
}

/** Two a second at most: who polls twice a minute finds all it needs among them. */
const maxDeltas = 64
/** Below it a new snapshot saves nobody anything. */
const minSnapshotBytes = 262_144
/** Further behind, a snapshot is what everybody has to fetch anyway. */
const maxEntries = 2000
const pageSize = 32

/** A snapshot of a million entries has 50 MB: in slices, so that nobody waits for it. */
const hashSlice = 1_048_576

const hashOf = async (bytes: Uint8Array): Promise<string> => {
  const hash = createHash('sha256')
  for (let at = 0; at < bytes.length; at += hashSlice) {
    if (at > 0) await turn()
    hash.update(bytes.subarray(at, at + hashSlice))
  }
  return toHex(hash.digest())
}

export const windowOf = ({ head, files }: PublishedState): StateWindow => ({
  position: { epoch: head.epoch, n: head.n },
  snapshot: head.snapshot,
  deltas: head.deltas,
  files,
})

const fresh = async ({ snapshots }: WindowDeps, maxBehind: number): Promise<StateWindow> => {
  const { position, file } = await snapshots.recent(maxBehind)
  const sha256 = await hashOf(file)
  const snapshot = { name: snapshotFileName(position, sha256), n: position.n, sha256, bytes: file.length }
  return { position, snapshot, deltas: [], files: new Map([[snapshot.name, file]]) }
}

/** Lines of the entries after `from` up to `to`; null when the ledger does not have them all any more. */
const readLines = async (feed: WindowDeps['feed'], epoch: string, from: number, to: number) => {
  const lines: Uint8Array[] = []
  for (let n = from; n < to; ) {
    const entries = feed.read(n, Math.min(pageSize, to - n))
    if (entries[0]?.n !== n + 1) return null
    for (const entry of entries) lines.push(utf8(encodeStateLine(eventOf(entry, epoch))))
    n = entries.at(-1)!.n
    await turn()
  }
  return concatBytes(lines)
}

/** @returns null when it has to begin anew */
const extended = async (window: StateWindow, { feed }: WindowDeps): Promise<StateWindow | null> => {
  const { epoch, n: from } = window.position
  const { epoch: now, n: to } = feed.head()
  if (now !== epoch || to < from || to - from > maxEntries) return null
  if (to === from) return window
  const bytes = await readLines(feed, epoch, from, to)
  if (bytes === null) return null
  const sha256 = await hashOf(bytes)
  const delta = { name: deltaFileName(epoch, from, to, sha256), from, to, sha256, bytes: bytes.length }
  return trimmed({
    ...window,
    position: { epoch, n: to },
    deltas: [...window.deltas, delta],
    files: new Map([...window.files, [delta.name, bytes]]),
  })
}

/** Without the oldest changes beyond the bound, as far as the snapshot can do without them. */
const trimmed = (window: StateWindow): StateWindow => {
  let deltas = window.deltas
  while (deltas.length > maxDeltas && (deltas[1]?.from ?? Number.POSITIVE_INFINITY) <= window.snapshot.n)
    deltas = deltas.slice(1)
  const names = new Set([window.snapshot.name, ...deltas.map(({ name }) => name)])
  return { ...window, deltas, files: new Map([...window.files].filter(([name]) => names.has(name))) }
}

const isHeavy = ({ snapshot, deltas }: StateWindow): boolean => {
  const since = deltas.filter(({ to }) => to > snapshot.n)
  const bytes = since.reduce((sum, delta) => sum + delta.bytes, 0)
  return since.length >= maxDeltas || bytes > Math.max(minSnapshotBytes, snapshot.bytes)
}

/** The changes stay: whoever has followed them goes on without the new snapshot. */
const withSnapshot = (window: StateWindow, { snapshot, files }: StateWindow): StateWindow =>
  trimmed({ ...window, snapshot, files: new Map([...window.files, ...files]) })

/** The window at the head of the feed, from the one before it. */
export const advanceWindow = async (before: StateWindow | null, deps: WindowDeps): Promise<StateWindow> => {
  for (let window = before; ; ) {
    const next = window === null ? null : await extended(window, deps)
    if (next === null) window = await fresh(deps, 0)
    else if (!isHeavy(next)) return next
    else {
      const renewed = await fresh(deps, 0)
      const reached = renewed.position.epoch === next.position.epoch ? await extended(next, deps) : null
      if (reached !== null && renewed.position.n <= reached.position.n) return withSnapshot(reached, renewed)
      window = renewed
    }
  }
}
