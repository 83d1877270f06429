// How long pruning keeps issuance waiting: the ledger itself, without a server, while certificates are recorded one after the other and what
// expired long ago goes beside them; held against the same without pruning.
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { createExpiredPruner } from '../../src/ca/prune-expired.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import { createIssuer } from './fill.ts'
import type { CaHome } from './world.ts'

export interface PruneStall {
  /** The longest time that nothing else ran, and the longest time that a certificate took; milliseconds. */
  readonly blockedMs: number
  readonly longestMs: number
  readonly certificates: number
  readonly pruned: number
  readonly seconds: number
}

export interface PruneLoad {
  /** Both are measured for so long at most; pruning ends earlier where nothing is left. */
  readonly seconds: number
  /** What expired before is pruned; milliseconds since the epoch. */
  readonly before: number
}

export const measurePruneStall = async (
  { paths }: CaHome,
  { seconds, before }: PruneLoad,
): Promise<{ readonly alone: PruneStall; readonly pruning: PruneStall }> => {
  await using ledger = openSqliteLedger(paths.database, { clock: systemClock, log: silentLog })
  const issue = await createIssuer(ledger)
  const measure = async (turn: (() => Promise<number>) | null): Promise<PruneStall> => {
    const delay = monitorEventLoopDelay({ resolution: 1 })
    const begun = performance.now()
    let going = true
    let [longestMs, certificates, pruned] = [0, 0, 0]
    const prune = async (): Promise<void> => {
      for (let idle = 0; turn !== null && going && idle < 100; ) {
        const gone = await turn()
        pruned += gone
        idle = gone === 0 ? idle + 1 : 0
      }
      if (turn !== null) going = false
    }
    delay.enable()
    const pruning = prune()
    while (going && performance.now() - begun < seconds * 1000) {
      const asked = performance.now()
      await issue()
      certificates++
      longestMs = Math.max(longestMs, performance.now() - asked)
    }
    going = false
    delay.disable()
    const took = (performance.now() - begun) / 1000
    await pruning
    return { blockedMs: delay.max / 1e6, longestMs, certificates, pruned, seconds: took }
  }
  await measure(null)
  const alone = await measure(null)
  const clock = { now: () => before, monotonic: () => performance.now() }
  const { turn } = createExpiredPruner({ clock, pruning: ledger.pruning, keepMs: 0 })
  return { alone, pruning: await measure(turn) }
}
