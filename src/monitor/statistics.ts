// What is usual, by statistics that a few wild values cannot move: the median and the median absolute deviation of past peaks, each hour
// of the week for itself. Pure; all times are UTC.

const hourMs = 3_600_000
export const hoursOfWeek = 168

/** 0 is Monday 00:00 UTC. The epoch was a Thursday. */
export const hourOfWeek = (at: number): number => (Math.floor(at / hourMs) + 72) % hoursOfWeek

/** @param values not empty */
export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] as number
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2
}

/** @param values not empty */
export const medianAbsoluteDeviation = (values: readonly number[], centre: number): number =>
  median(values.map(value => Math.abs(value - centre)))

/** For values that are normally distributed the deviation times this estimates their standard deviation. */
const normalConsistency = 1.4826

export interface UsualRate {
  /** Past hours that it is learned from. */
  readonly samples: number
  readonly median: number
  readonly deviation: number
}

/** @returns null while there are fewer than `minimum` samples */
export const usualRate = (samples: readonly number[], minimum: number): UsualRate | null => {
  if (samples.length === 0 || samples.length < minimum) return null
  const centre = median(samples)
  return { samples: samples.length, median: centre, deviation: medianAbsoluteDeviation(samples, centre) }
}

/**
 * The most that is still usual.
 * @param deviations how many robust standard deviations above the median @param floor never less: a steady agent deviates by nothing
 */
export const upperLimit = (usual: UsualRate, deviations: number, floor: number): number =>
  Math.max(floor, Math.ceil(usual.median + deviations * normalConsistency * usual.deviation))

/** One season: so many weeks are remembered of each hour of the week. */
export const keptWeeks = 8

export interface Peaks {
  /** @returns peaks of past hours like the one of `at`, oldest first */
  like(at: number): readonly number[]
  /** What is learned from counts for no more than three times what was usual: nobody teaches a burst in one hour. */
  learn(at: number, peak: number): void
  stored(): readonly (readonly [number, readonly number[]])[]
  /** Hours of the week that something was learned of. */
  readonly size: number
}

const tamed = (known: readonly number[], peak: number): number => {
  const usual = usualRate(known, 1)
  return usual === null ? peak : Math.min(peak, Math.max(10, Math.ceil(usual.median * 3)))
}

export const createPeaks = (stored: readonly (readonly [number, readonly number[]])[] = []): Peaks => {
  const peaks = new Map<number, readonly number[]>()
  for (const [hour, values] of stored)
    if (hour >= 0 && hour < hoursOfWeek && values.length > 0) peaks.set(hour, values.slice(-keptWeeks))
  return {
    like: at => peaks.get(hourOfWeek(at)) ?? [],
    learn: (at, peak) => {
      const hour = hourOfWeek(at)
      const known = peaks.get(hour) ?? []
      peaks.set(hour, [...known, tamed(known, peak)].slice(-keptWeeks))
    },
    stored: () => [...peaks],
    get size() {
      return peaks.size
    },
  }
}
