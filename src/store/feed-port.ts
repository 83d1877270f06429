// The port of the feed: what the ledger keeps of revocations and states for verifiers, in the order of its commits. The demands of
// ports.ts hold here too.
import type { FeedEntry, LeafDraft, Registration } from './records.ts'

export interface FeedHead {
  readonly epoch: string
  readonly n: number
}

/** The state that the feed leads to at one position: what was committed later is not in it, however long it is read. */
export interface FeedSnapshot extends FeedHead, Disposable {
  /** The trust bundle: DER of the roots that are not retired. */
  readonly roots: readonly Uint8Array[]
  /** In force; version 0 and no hash: none. */
  readonly policies: { readonly version: number; readonly hash: string }
  /** The next of those that are listed and unexpired, in no order; fewer than `limit`: the end. */
  statuses(limit: number): readonly { readonly serial: string; readonly notAfter: number; readonly held: boolean }[]
  /** The next of the registrations; of those that are retired only while their latest certificate is unexpired. */
  registrations(limit: number): readonly Registration[]
}

export interface FeedPort {
  head(): FeedHead
  /** Number of the oldest entry that is kept; one above the head when none is. */
  oldest(): number
  read(afterN: number, limit: number): readonly FeedEntry[]
  /** As RevocationsPort.onChange, after a commit that wrote entries or began an epoch. */
  onAppend(listener: () => void): () => void
  /** @param at what has expired by then is left out. Writing goes on meanwhile; to be disposed soon. */
  snapshot(at: number): FeedSnapshot
  /** Removes at most `limit` of the oldest entries, those that are neither among the last `keep` nor since `before`. @returns how many */
  prune(step: { readonly keep: number; readonly before: number; readonly limit: number }): Promise<number>
  /** This ledger is another one than subscribers know, a restored one: positions of before lead nowhere any more. */
  newEpoch(leaf: (from: FeedHead, to: FeedHead) => LeafDraft): Promise<FeedHead>
}
