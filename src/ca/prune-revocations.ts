// What was revoked and has ended goes from the table that lists are made of, in small steps: without it every list reads, and every copy
// carries, everything that was ever revoked. The certificate's own row stays, and with it what OCSP says and the record proves.
import type { Clock } from '../base/clock.ts'
import type { RevocationsPort, StatusPort } from '../store/ports.ts'
import { entriesSince } from './crl.ts'

export interface PruneRevocationsDeps {
  /** As far as it can be trusted: what is pruned under a clock that is ahead is gone. */
  readonly clock: Pick<Clock, 'now'>
  readonly revocations: Pick<RevocationsPort, 'prune'>
  readonly status: Pick<StatusPort, 'latestCrl'>
  readonly issuers: () => readonly { readonly id: number }[]
  /** Between two lists when nothing is revoked. */
  readonly regularIntervalSeconds: number
}

/** Beyond the last list that needs an entry: for caches that lag, and relying parties whose clocks do. */
const marginMs = 86_400_000
/** Rows that one transaction looks at: some 2 ms, 10 where the disk is slow. */
const stepSize = 250

/** @returns how many went */
export const pruneRevocations = async (deps: PruneRevocationsDeps): Promise<number> => {
  let pruned = 0
  for (const { id: issuerId } of deps.issuers()) {
    const last = deps.status.latestCrl(issuerId)
    // Nothing has been on a list yet.
    if (last === null) continue
    const before = entriesSince(last, deps.clock.now(), deps.regularIntervalSeconds) - marginMs
    let after: string | null = null
    do {
      const step: { readonly removed: number; readonly next: string | null } = await deps.revocations.prune({
        ...{ issuerId, before, after, limit: stepSize },
      })
      pruned += step.removed
      after = step.next
    } while (after !== null)
  }
  return pruned
}
