// Retention of the feed: old entries go in small steps, so that no transaction waits for a large one.
import type { Clock } from '../base/clock.ts'
import type { FeedPort } from '../store/ports.ts'

/** Kept in any case, however old: what a verifier that was away for long catches up with. */
const keptEntries = 100_000
/** Kept in any case, however many. */
const keptMs = 86_400_000
const stepSize = 1000

/** @returns how many went */
export const pruneFeed = async (feed: Pick<FeedPort, 'prune'>, clock: Pick<Clock, 'now'>): Promise<number> => {
  const step = { keep: keptEntries, before: clock.now() - keptMs, limit: stepSize }
  let pruned = 0
  for (;;) {
    const gone = await feed.prune(step)
    pruned += gone
    if (gone < stepSize) return pruned
  }
}
