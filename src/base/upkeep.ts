// Something that is kept up to date: by itself when it is due, soon after somebody says that it may have changed, again after a
// failure, and at once on demand. One run at a time.
import type { Clock } from './clock.ts'
import { coalesced } from './coalesced.ts'
import { AgentCaError } from './errors.ts'

/** After failures in a row, from the beginning of the last run. */
const retryMs = [500, 1000, 2000, 5000]
/** It runs at least this often, due or not: after a suspend or a step of the clock nothing said before holds. */
const maxSleepMs = 30_000

export interface UpkeepDeps {
  readonly clock: Clock
  /** Looks itself what there is to do: often nothing. */
  readonly work: () => Promise<void>
  /** How long the work can wait; asked after each run and at each `wake`. When it throws, the work runs and meets the reason. */
  readonly dueInMs: () => number
  /** Between the beginnings of two runs that nobody demanded. */
  readonly minIntervalMs: number
  readonly failed: (error: unknown, failuresInARow: number) => void
}

export interface Upkeep {
  /** It may be due now. The first one begins the upkeep. Never throws. */
  wake(): void
  /** A run that begins after the call, shared with whoever asks meanwhile. @throws what `work` throws; `shutting_down` */
  run(): Promise<void>
  /** No run begins any more; waits for the one that goes on. */
  close(): Promise<void>
}

export const createUpkeep = (deps: UpkeepDeps): Upkeep => {
  const { clock } = deps
  let running = false
  let failures = 0
  let startedAt = Number.NEGATIVE_INFINITY
  let timer: NodeJS.Timeout | undefined
  let closed = false

  const run = coalesced(async (): Promise<void> => {
    if (closed) throw new AgentCaError('shutting_down', 'this is no longer kept up to date: the server is stopping')
    running = true
    startedAt = clock.monotonic()
    try {
      await deps.work()
      failures = 0
    } catch (error) {
      deps.failed(error, ++failures)
      throw error
    } finally {
      running = false
      arm()
    }
  })
  const delayMs = (): number => {
    const since = clock.monotonic() - startedAt
    if (failures > 0) return retryMs[Math.min(failures, retryMs.length) - 1]! - since
    return Math.min(maxSleepMs, Math.max(deps.dueInMs(), deps.minIntervalMs - since))
  }
  /** One timer for the next run, whatever it is for. */
  const arm = (): void => {
    clearTimeout(timer)
    if (closed) return
    let delay = deps.minIntervalMs
    try {
      delay = delayMs()
    } catch {
      // Not known: the run finds out, and its failure is reported.
    }
    timer = setTimeout(
      () => {
        if (!running) run().catch(() => {})
      },
      Math.max(0, delay),
    ).unref()
  }
  return {
    // While a run goes on it is not disturbed: at its end it looks itself.
    wake: () => {
      if (!running) arm()
    },
    run,
    close: async () => {
      closed = true
      clearTimeout(timer)
      if (running) await run().catch(() => {})
    },
  }
}
