// How often each caller called within the last minute, near enough: the present minute whole, the one before by what of it is still within
// sixty seconds. Bounded: who has not called for longest is forgotten first, and then begins at nothing.

export interface CallRates {
  /** Counts one call. @returns calls within the last minute, this one included */
  count(caller: string): number
}

const minuteMs = 60_000
const maxCallers = 100_000

/** @param monotonic milliseconds */
export const createCallRates = (monotonic: () => number): CallRates => {
  // Owned by this closure; in the order of the last minute in which each caller was seen.
  const callers = new Map<string, { readonly minute: number; now: number; readonly before: number }>()
  return {
    count: caller => {
      const at = monotonic()
      const minute = Math.floor(at / minuteMs)
      let known = callers.get(caller)
      if (known?.minute !== minute) {
        const before = known?.minute === minute - 1 ? known.now : 0
        known = { minute, now: 0, before }
        callers.delete(caller)
        callers.set(caller, known)
        for (const oldest of callers.keys()) {
          if (callers.size <= maxCallers) break
          callers.delete(oldest)
        }
      }
      known.now++
      return known.now + Math.floor(known.before * (1 - (at % minuteMs) / minuteMs))
    },
  }
}
