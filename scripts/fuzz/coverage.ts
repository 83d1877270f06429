// What one input reached: whether some part of src ran that never ran before, or ran much more often, and how much ran at all, which stands for
// work and does not depend on the machine.
import type { Instruments } from './instrument.ts'

export interface Coverage {
  begin(): void
  /** Of everything since `begin`. */
  end(): { readonly isNew: boolean; readonly work: number }
  /** Parts that ran since `begin`, by number. */
  reached(): readonly number[]
  /** How many parts ran so far. */
  parts(): number
  /** Forgets what was reached: another target. */
  forget(): void
}

/** One bit for about how often: 1, 2, 3, 4, 8, 16, 32, 128 times and more. */
const bitOf = (count: number): number =>
  count < 4 ? 1 << (count - 1) : count < 8 ? 8 : count < 16 ? 16 : count < 32 ? 32 : count < 128 ? 64 : 128

export const createCoverage = ({ counters, used }: Instruments): Coverage => {
  const seen = new Uint8Array(counters.length)
  return {
    begin: () => counters.fill(0, 0, used()),
    end: () => {
      let isNew = false
      let work = 0
      for (let i = 0, end = used(); i < end; i++) {
        const count = counters[i] as number
        if (count === 0) continue
        work += count
        const before = seen[i] as number
        const now = before | bitOf(count)
        if (now === before) continue
        seen[i] = now
        isNew = true
      }
      return { isNew, work }
    },
    reached: () => {
      const parts: number[] = []
      for (let i = 0, end = used(); i < end; i++) if ((counters[i] as number) > 0) parts.push(i)
      return parts
    },
    parts: () => seen.reduce((sum, bits) => sum + (bits === 0 ? 0 : 1), 0),
    forget: () => seen.fill(0),
  }
}
