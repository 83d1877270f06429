// The time by which certificates are judged. A clock that is stepped must neither refuse honest callers nor let expired ones in, so three
// are asked: the machine's, the machine's as it was before any step, and the CA's as last heard; the one in the middle is believed.

export interface VotedClock {
  /** The CA's time `at`, said at `said` on the monotonic clock. */
  heard(at: number, said: number): void
  /** Milliseconds since the epoch; the machine's own until the CA was heard. */
  now(): number
}

/** Clocks that are kept right differ by less, and a correction of so much is no step. */
const toleranceMs = 2000

export const createVotedClock = (clock: { now(): number; monotonic(): number }): VotedClock => {
  // Owned by this closure: wall-clock time less monotonic time of the CA, and of this machine before any step.
  let ca: number | null = null
  let steady = 0
  return {
    heard: (at, said) => {
      if (ca === null) steady = clock.now() - clock.monotonic()
      ca = at - said
    },
    now: () => {
      const wall = clock.now()
      if (ca === null) return wall
      const monotonic = clock.monotonic()
      const offset = wall - monotonic
      const voted = Math.max(Math.min(offset, steady), Math.min(Math.max(offset, steady), ca))
      if (Math.abs(voted - steady) > toleranceMs || voted === offset) steady = voted
      return voted + monotonic
    },
  }
}
