// The port for the audit log: leaves in their order, the head of their chain, checkpoints. The demands of ports.ts hold here too.
import type { CheckpointRecord, Leaf, LeafDraft } from './records.ts'

export interface AuditPort {
  append(leaves: readonly LeafDraft[]): Promise<{ readonly size: number; readonly head: Uint8Array }>
  head(): { readonly size: number; readonly head: Uint8Array }
  read(from: number, limit: number): readonly Leaf[]
  /** Newest first, for `audit tail`. */
  tail(filter: { readonly subject?: string; readonly event?: string; readonly limit: number }): readonly Leaf[]
  /** Of the leaves in [from, to) those of these events, without their hashes: for whoever follows a log that is mostly of others. */
  ofEvents(from: number, to: number, events: readonly string[]): readonly LeafDraft[]
  /** As RevocationsPort.onChange, after a commit that appended leaves. */
  onAppend(listener: () => void): () => void
  recordCheckpoint(checkpoint: CheckpointRecord): Promise<void>
  checkpoints(filter: { readonly upToSize?: number; readonly limit: number }): readonly CheckpointRecord[]
}
