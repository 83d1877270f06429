// How many signatures a second are spent on answers that strangers can ask for without end. A bucket as large as one second's
// allowance, on the monotonic clock.
import type { Clock } from '../base/clock.ts'

export interface Budget {
  /** False: spent. */
  take(): boolean
}

export const createBudget = (clock: Pick<Clock, 'monotonic'>, perSecond: number): Budget => {
  let left = perSecond
  let at = clock.monotonic()
  return {
    take: () => {
      const now = clock.monotonic()
      left = Math.min(perSecond, left + ((now - at) * perSecond) / 1000)
      at = now
      if (left < 1) return false
      left -= 1
      return true
    },
  }
}
