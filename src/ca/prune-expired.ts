// What ended longer ago than it is to be kept goes from the ledger, a little at a time: certificates, their lineages, then the tokens that
// led to them. What must be known for ever (whose a key is, what the audit log says) stays, and nothing that has not ended is touched.
import type { Clock } from '../base/clock.ts'
import type { ExpiredPlace, PruningPort } from '../store/pruning-port.ts'

export interface ExpiredPrunerDeps {
  /** `now` as far as it can be trusted: what is pruned under a clock that is ahead is gone. */
  readonly clock: Pick<Clock, 'now' | 'monotonic'>
  readonly pruning: PruningPort
  readonly keepMs: number
}

export interface ExpiredPruner {
  /** Works for a short while, and the next time from there. A walk that has come to its end begins anew after an hour. @returns how many went */
  turn(): Promise<number>
}

/** Rows that one transaction looks at: some 2 ms with millions of certificates. */
const certificatesAtOnce = 24
const tokensAtOnce = 24
/** Of one turn: others have the ledger in between, and closing waits no longer. */
const turnMs = 300
const restMs = 3_600_000

type Walk =
  | { readonly at: 'certificates'; readonly before: number; readonly after: ExpiredPlace | null }
  | { readonly at: 'tokens'; readonly before: number; readonly after: number }
  | { readonly at: 'rest'; readonly until: number }

export const createExpiredPruner = ({ clock, pruning, keepMs }: ExpiredPrunerDeps): ExpiredPruner => {
  // Owned by this closure: one turn at a time.
  let walk: Walk = { at: 'rest', until: Number.NEGATIVE_INFINITY }
  const step = async (): Promise<number> => {
    if (walk.at === 'certificates') {
      const { before, after } = walk
      const { removed, next } = await pruning.certificates({ before, after, limit: certificatesAtOnce })
      walk = next === null ? { at: 'tokens', before, after: 0 } : { ...walk, after: next }
      return removed
    }
    if (walk.at === 'rest') return 0
    const { before, after } = walk
    const { removed, next } = await pruning.tokens({ before, after, limit: tokensAtOnce })
    walk = next === null ? { at: 'rest', until: clock.monotonic() + restMs } : { ...walk, after: next }
    return removed
  }
  return {
    turn: async () => {
      const end = clock.monotonic() + turnMs
      if (walk.at === 'rest' && clock.monotonic() >= walk.until)
        walk = { at: 'certificates', before: clock.now() - keepMs, after: null }
      let removed = 0
      while (walk.at !== 'rest' && clock.monotonic() < end) removed += await step()
      return removed
    },
  }
}
