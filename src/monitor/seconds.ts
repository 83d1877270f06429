// Counts of the last minutes, a slot a second in a ring of fixed size: what "in the last minute" means to the rules.

/** The longest window that a rule can have over them. */
export const spanSeconds = 300

/** A service that says absurd numbers must not make them small again. */
const maxCount = 0xffff_ffff

export interface Tally {
  readonly allowed: number
  readonly denied: number
}

export interface Seconds {
  /** What is older than the span is not counted. */
  add(at: number, allowed: number, denied: number): void
  /** Of the `windowSeconds` that end with the second of `now`. */
  sum(now: number, windowSeconds: number): Tally
}

export const createSeconds = (): Seconds => {
  // Owned by this closure: allowed and denied of each second, and the newest second that has a slot.
  const slots = new Uint32Array(2 * spanSeconds)
  let newest = Number.NEGATIVE_INFINITY

  const clearUpTo = (second: number): void => {
    if (second - newest >= spanSeconds) slots.fill(0)
    else
      for (let each = newest + 1; each <= second; each++) {
        const slot = 2 * (each % spanSeconds)
        slots[slot] = 0
        slots[slot + 1] = 0
      }
    newest = second
  }

  return {
    add: (at, allowed, denied) => {
      const second = Math.floor(at / 1000)
      if (second > newest) clearUpTo(second)
      if (newest - second >= spanSeconds) return
      const slot = 2 * (second % spanSeconds)
      slots[slot] = Math.min(maxCount, (slots[slot] as number) + allowed)
      slots[slot + 1] = Math.min(maxCount, (slots[slot + 1] as number) + denied)
    },
    sum: (now, windowSeconds) => {
      const end = Math.floor(now / 1000)
      const sum = { allowed: 0, denied: 0 }
      const first = Math.max(0, end - Math.min(windowSeconds, spanSeconds) + 1, newest - spanSeconds + 1)
      for (let second = first; second <= Math.min(end, newest); second++) {
        const slot = 2 * (second % spanSeconds)
        sum.allowed += slots[slot] as number
        sum.denied += slots[slot + 1] as number
      }
      return sum
    },
  }
}
