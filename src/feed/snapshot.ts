// The whole state at one position, encoded once: the file of the published state, whose parts are also what streams send. Reading and
// encoding a million entries takes seconds, so it goes in steps between which everything else goes on.
import { setImmediate as turn } from 'node:timers/promises'
import type { Clock } from '../base/clock.ts'
import type { FeedPort, FeedSnapshot } from '../store/ports.ts'
import { encodeFeedData, type FeedPosition, type KnownFeedEvent, type StatusChange } from '../verify/feed-event.ts'
import { stateLineEnd, stateLineStart } from '../verify/signed-state.ts'
import { bundleOf, principalOf } from './entry.ts'

export interface Snapshot {
  readonly position: FeedPosition
  /** JSON lines, as signed-state.ts reads them. */
  readonly file: Uint8Array
  /** The data of each part, as streams send it: pieces of the file. */
  readonly parts: readonly Uint8Array[]
}

export interface Snapshots {
  /** One that is at most so many entries behind: the one there is, or a new one that everybody shares who asks meanwhile. */
  recent(maxBehind: number): Promise<Snapshot>
}

/** Changes in a part: some 50 KB of JSON, and a few milliseconds. */
const changesPerPart = 1000
/** One may have as much as a request's body, 64 KB. */
const registrationsPerPart = 32

type SnapshotEvent = Extract<KnownFeedEvent, { readonly type: 'snapshot' }>

/** How many parts there are is known only at the end: what stands before it in the JSON of each part is written then. */
const head = (at: number, part: number, parts: number): string => `{"at":${at},"part":${part},"parts":${parts}`

const encodeRest = (event: SnapshotEvent): Uint8Array => {
  const text = encodeFeedData(event)
  const before = head(event.at, event.part, event.parts)
  if (!text.startsWith(before)) throw new Error(`expected a part that begins with ${before}`)
  return Buffer.from(text.slice(before.length))
}

type Content = Pick<SnapshotEvent, 'revoked' | 'held' | 'principals'>

const pick = (statuses: ReturnType<FeedSnapshot['statuses']>, held: boolean): readonly StatusChange[] =>
  statuses.filter(each => each.held === held).map(({ serial, notAfter }) => ({ serial, notAfter }))

async function* contents(source: FeedSnapshot): AsyncGenerator<Content> {
  for (;;) {
    const registrations = source.registrations(registrationsPerPart)
    if (registrations.length > 0) yield { revoked: [], held: [], principals: registrations.map(principalOf) }
    if (registrations.length < registrationsPerPart) break
    await turn()
  }
  for (;;) {
    await turn()
    const statuses = source.statuses(changesPerPart)
    if (statuses.length > 0) yield { revoked: pick(statuses, false), held: pick(statuses, true), principals: [] }
    if (statuses.length < changesPerPart) return
  }
}

const assemble = (position: FeedPosition, at: number, rests: readonly Uint8Array[]): Snapshot => {
  const start = stateLineStart('snapshot', position)
  const heads = rests.map((_, i) => Buffer.from(start + head(at, i + 1, rests.length)))
  const end = Buffer.from(stateLineEnd)
  const size = rests.reduce((sum, rest, i) => sum + heads[i]!.length + rest.length + end.length, 0)
  const file = Buffer.allocUnsafeSlow(size)
  const parts: Uint8Array[] = []
  let to = 0
  for (const [i, rest] of rests.entries()) {
    const from = to + start.length
    for (const piece of [heads[i]!, rest, end]) {
      file.set(piece, to)
      to += piece.length
    }
    parts.push(file.subarray(from, to - end.length))
  }
  return { position, file, parts }
}

/** @param at milliseconds since the epoch: what has expired by then is left out */
export const takeSnapshot = async (feed: Pick<FeedPort, 'snapshot'>, at: number): Promise<Snapshot> => {
  using source = feed.snapshot(at)
  const position = { epoch: source.epoch, n: source.n }
  const rests: Uint8Array[] = []
  const once = { bundlePem: bundleOf(source.roots), policies: source.policies }
  const add = (content: Content): void => {
    const also = rests.length === 0 ? once : {}
    rests.push(encodeRest({ type: 'snapshot', position, at, part: rests.length + 1, parts: 0, ...content, ...also }))
  }
  for await (const content of contents(source)) add(content)
  if (rests.length === 0) add({ revoked: [], held: [], principals: [] })
  return assemble(position, at, rests)
}

export const createSnapshots = (deps: {
  readonly clock: Clock
  readonly feed: Pick<FeedPort, 'head' | 'snapshot'>
}): Snapshots => {
  const { clock, feed } = deps
  // Owned by this closure. One is taken at a time; who finds it recent enough shares it, who does not waits for the next.
  let latest: Snapshot | null = null
  let taking: Promise<void> | null = null
  const take = async (): Promise<void> => {
    try {
      latest = await takeSnapshot(feed, clock.now())
    } finally {
      taking = null
    }
  }
  return {
    recent: async maxBehind => {
      let wanted = feed.head()
      for (;;) {
        if (latest?.position.epoch === wanted.epoch && wanted.n - latest.position.n <= maxBehind) return latest
        taking ??= take()
        await taking
        if (feed.head().epoch !== wanted.epoch) wanted = feed.head()
      }
    },
  }
}
