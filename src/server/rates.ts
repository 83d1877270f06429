// How much happens a minute, for `agentca status`: counts by what the metrics port is told, over the last full minute.
import type { Clock } from '../base/clock.ts'
import type { CounterName, Metrics } from '../base/metrics.ts'

export interface Rates {
  readonly issuedPerMinute: number
  readonly refusedPerMinute: number
  readonly revokedPerMinute: number
}

const counted: Readonly<Partial<Record<CounterName, keyof Rates>>> = {
  agentca_certificates_issued_total: 'issuedPerMinute',
  agentca_requests_refused_total: 'refusedPerMinute',
  agentca_revocations_total: 'revokedPerMinute',
}

const none: Rates = { issuedPerMinute: 0, refusedPerMinute: 0, revokedPerMinute: 0 }
const minuteMs = 60_000

/** The same metrics, listened to. */
export const withRates = <M extends Metrics>(metrics: M, clock: Clock): M & { readonly rates: () => Rates } => {
  // Owned by this closure: the minute that runs, and the last one that ended.
  let minute = Math.floor(clock.monotonic() / minuteMs)
  let current: Record<keyof Rates, number> = { ...none }
  let last: Rates = none

  const turn = (): void => {
    const now = Math.floor(clock.monotonic() / minuteMs)
    if (now === minute) return
    last = now === minute + 1 ? current : none
    current = { ...none }
    minute = now
  }
  return {
    ...metrics,
    count: (name, labels, by = 1) => {
      metrics.count(name, labels, by)
      const rate = counted[name]
      if (rate === undefined) return
      turn()
      current[rate] += by
    },
    rates: () => {
      turn()
      return last
    },
  }
}
