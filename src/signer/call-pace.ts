// Whether C_Sign runs on the event loop or on the thread pool. A hop to the pool costs 120 µs of CPU, twice what SoftHSM2 needs for a
// P-256 signature (SignInit and Sign: 70 µs, measured); a network HSM needs milliseconds and several calls at once.

export interface CallPace {
  /** True while the module answers so fast that waiting for it costs less than the hop. */
  isInline(): boolean
  /** How long a call took on the event loop. */
  observe(milliseconds: number): void
}

/** A preempted process sees a slow call now and then; a slow module makes one after the other. */
const slowMs = 5
const slowCalls = 5
/** Nobody's preemption: from here on the module may block the loop no more. */
const hangMs = 100

/** Starts inline: the test signatures at start-up are the first measurement. Never goes back from the pool. */
export const createCallPace = (): CallPace => {
  let inline = true
  let score = 0
  return {
    isInline: () => inline,
    observe(milliseconds) {
      score = milliseconds > slowMs ? score + 1 : Math.max(0, score - 0.02)
      if (milliseconds > hangMs || score >= slowCalls) inline = false
    },
  }
}

/** Always the pool: for processes that must stay responsive whatever the module does. */
export const pooledPace: CallPace = { isInline: () => false, observe: () => {} }
