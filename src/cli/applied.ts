// Where a revocation is applied: what the services that follow the feed have said, and until when those who have not may still admit
// somebody.
import { performance } from 'node:perf_hooks'
import type { FeedAppliedAnswer } from '../schema/admin-answers.ts'
import type { AdminClient } from './admin-client.ts'

/** Shorter than the silence after which a connection is given up. */
const maxWaitMs = 20_000
/** Named on the terminal; `agentca feed status` has them all. */
const maxNamed = 10

/** Waits until nobody is missing, `waitSeconds` at most. @returns null when no service follows the feed */
export const awaitApplied = async (
  client: AdminClient,
  n: number,
  waitSeconds: number,
): Promise<FeedAppliedAnswer | null> => {
  const end = performance.now() + waitSeconds * 1000
  for (;;) {
    const waitMs = Math.round(Math.min(maxWaitMs, Math.max(0, end - performance.now())))
    const applied = await client.call('feedApplied', { query: { n, waitMs } })
    if (applied.of === 0) return null
    if (applied.missing.length === 0 || performance.now() >= end) return applied
  }
}

/** `12:01:07Z` */
const clockText = (time: string): string => `${new Date(time).toISOString().slice(11, 19)}Z`

/** `applied at 40 of 41 after 38 ms; billing/2 stale since 12:01:07Z, covered until 12:06:22Z` */
export const appliedText = ({ of, applied, afterMs, missing }: FeedAppliedAnswer): string => {
  const after = afterMs === null ? '' : ` after ${afterMs} ms`
  const named = missing
    .slice(0, maxNamed)
    .map(
      ({ subscriber, staleSince, coveredUntil }) =>
        `${subscriber} stale since ${clockText(staleSince)}, covered until ${clockText(coveredUntil)}`,
    )
  const more = missing.length > maxNamed ? [`${missing.length - maxNamed} more`] : []
  return [`applied at ${applied} of ${of}${after}`, ...named, ...more].join('; ')
}
