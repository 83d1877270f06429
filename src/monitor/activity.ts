// What an agent really did, for whoever shows it or proposes a policy from it.

export interface Use {
  readonly service: string
  readonly action: string
  readonly resourceClass: string
  readonly allowed: number
  readonly denied: number
  /** Milliseconds since the epoch. */
  readonly first: number
  readonly last: number
}

export interface Activity {
  /**
   * @param since milliseconds since the epoch; counts are of whole hours for the last two days and of whole days before, so that they
   *   begin at most one hour, or one day, earlier
   * @returns newest first; empty for an agent that was never seen
   */
  activityOf(agent: string, since: number): readonly Use[]
}
