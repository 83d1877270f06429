// The port of the places up to which the audit log was told to others: kept in the ledger, so that a restart tells nothing twice that
// was told for certain, and leaves nothing out.

/** One sink's cursor is written by one process, never backwards but by `set`; losing the last write only repeats what came after it. */
export interface EventCursorsPort {
  /** Index of the first leaf that this sink has not been given for certain; null for a sink that was never here. */
  get(sink: string): number | null
  set(sink: string, next: number, dead: number): Promise<void>
  /** Leaves that a sink refused for good, since it was first here. */
  dead(sink: string): number
}
