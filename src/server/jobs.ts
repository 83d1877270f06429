// Work that recurs: never twice at once, a failure is logged and the next turn comes all the same, and closing waits for what runs.
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'

export interface Jobs {
  /** Runs `work` every `everyMs` after its last end, the first time after `everyMs`. */
  every(name: string, everyMs: number, work: () => Promise<unknown> | unknown): void
  close(): Promise<void>
}

export const createJobs = (log: Log): Jobs => {
  // Owned by this closure: timers that wait, and turns that run.
  const timers = new Map<string, NodeJS.Timeout>()
  const running = new Set<Promise<void>>()
  let closed = false

  const every: Jobs['every'] = (name, everyMs, work) => {
    const turn = async (): Promise<void> => {
      try {
        await work()
      } catch (error) {
        log.error({ job: name, reason: messageOf(error) }, 'a job failed; it will run again')
      }
    }
    const schedule = (): void => {
      if (closed) return
      timers.set(
        name,
        setTimeout(() => {
          const current = turn().finally(() => {
            running.delete(current)
            schedule()
          })
          running.add(current)
        }, everyMs).unref(),
      )
    }
    schedule()
  }
  return {
    every,
    close: async () => {
      closed = true
      for (const timer of timers.values()) clearTimeout(timer)
      await Promise.all(running)
    },
  }
}
